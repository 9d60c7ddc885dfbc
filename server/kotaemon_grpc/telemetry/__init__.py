"""Metrics and logs; `names.py` holds every name."""
