"""The names of metadata, in lower case as HTTP/2 wants them."""

STATUS_DETAILS = "grpc-status-details-bin"
"""Carries a serialised `google.rpc.Status` in the trailers."""

REQUEST_ID = "x-request-id"
"""The caller's name for a call; the server makes one if there is none."""

AUTHORIZATION = "authorization"
"""Carries a bearer token (RFC 6750, section 2.1)."""

API_KEY = "x-api-key"
"""Carries an API key, as `id.secret`."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
"""Carry the trace that a call belongs to (W3C Trace Context, sections 3.2 and 3.3)."""

ACCEPT_LANGUAGE = "accept-language"
"""The languages that the caller reads (RFC 9110, section 12.5.4)."""

RETRY_PUSHBACK_MS = "grpc-retry-pushback-ms"
"""When a client may try again, in milliseconds (gRFC A6)."""
