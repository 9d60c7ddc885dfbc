"""Text analysis and ranking, shared by every store, so that all rank alike."""
