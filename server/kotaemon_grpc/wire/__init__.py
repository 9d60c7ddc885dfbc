"""What both ends must spell the same."""
