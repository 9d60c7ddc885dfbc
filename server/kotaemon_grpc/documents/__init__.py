"""File formats to text with locations."""
