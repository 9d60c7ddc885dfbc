"""Translations between messages and the domain, one a version."""
