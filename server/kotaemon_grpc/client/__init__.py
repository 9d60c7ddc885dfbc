"""The client library. It imports the wire and nothing of the server."""
