"""Listeners, TLS, certificates, operations HTTP and the way down."""
