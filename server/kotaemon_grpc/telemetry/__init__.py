"""Metrics, logs and traces.

`names.py` holds the names of metrics, labels and log keys, `attributes.py` those of
spans' attributes.
"""
