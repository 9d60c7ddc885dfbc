"""The current contract: messages to domain values and back."""
