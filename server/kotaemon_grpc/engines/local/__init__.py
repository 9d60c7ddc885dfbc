"""The embedded engine: extractive answers, offline."""
