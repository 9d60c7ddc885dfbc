"""The names of metadata, in lower case as HTTP/2 wants them."""

STATUS_DETAILS = "grpc-status-details-bin"
"""Carries a serialised `google.rpc.Status` in the trailers."""

REQUEST_ID = "x-request-id"
"""The caller's name for a call; the server makes one if there is none."""
