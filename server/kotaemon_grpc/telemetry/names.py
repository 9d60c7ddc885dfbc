"""Every metric, label and log key."""

from __future__ import annotations

from typing import Final

# The metrics of gRPC servers have the names of go-grpc-middleware's Prometheus
# provider, so that dashboards and rules made for it work. The client library adds
# the suffix `_total` to the name of a counter.
SERVER_STARTED: Final = "grpc_server_started"
SERVER_HANDLED: Final = "grpc_server_handled"
SERVER_MSG_RECEIVED: Final = "grpc_server_msg_received"
SERVER_MSG_SENT: Final = "grpc_server_msg_sent"
SERVER_HANDLING_SECONDS: Final = "grpc_server_handling_seconds"

BUILD_INFO: Final = "kotaemon_grpc_build_info"
CERTIFICATE_EXPIRY: Final = "kotaemon_grpc_certificate_expiry_timestamp_seconds"
DOCUMENTS: Final = "kotaemon_grpc_documents"
PASSAGES: Final = "kotaemon_grpc_passages"
INDEX_LAG: Final = "kotaemon_grpc_index_lag"
ANSWERS: Final = "kotaemon_grpc_answers"
LOG_LINES_DROPPED: Final = "kotaemon_grpc_log_lines_dropped"

LABEL_TYPE: Final = "grpc_type"
LABEL_SERVICE: Final = "grpc_service"
LABEL_METHOD: Final = "grpc_method"
LABEL_CODE: Final = "grpc_code"
LABEL_VERSION: Final = "version"
LABEL_FILE: Final = "file"
LABEL_FINISH_REASON: Final = "finish_reason"

TYPE_UNARY: Final = "unary"
TYPE_CLIENT_STREAM: Final = "client_stream"
TYPE_SERVER_STREAM: Final = "server_stream"
TYPE_BIDI_STREAM: Final = "bidi_stream"

KEY_TIMESTAMP: Final = "timestamp"
KEY_LOGGER: Final = "logger"
KEY_EVENT: Final = "event"
KEY_EXCEPTION: Final = "exception"
KEY_ADDRESS: Final = "address"
KEY_HEALTH_ADDRESS: Final = "health_address"
KEY_OPERATIONS_ADDRESS: Final = "operations_address"
KEY_VERSION: Final = "version"
KEY_COUNT: Final = "count"
KEY_FAILED: Final = "failed"
KEY_PRINCIPAL: Final = "principal"
KEY_TENANT: Final = "tenant"
KEY_SERVICE: Final = "grpc_service"
KEY_METHOD: Final = "grpc_method"
KEY_CODE: Final = "grpc_code"
KEY_REASON: Final = "reason"
KEY_DURATION_MS: Final = "duration_ms"
KEY_RECEIVED: Final = "messages_received"
KEY_SENT: Final = "messages_sent"
KEY_REQUEST_ID: Final = "request_id"
KEY_SIGNAL: Final = "signal"
KEY_PATH: Final = "path"

EVENT_SERVING: Final = "server.serving"
EVENT_DRAINING: Final = "server.draining"
EVENT_STOPPED: Final = "server.stopped"
EVENT_CALL: Final = "call"
EVENT_CERTIFICATE_ISSUED: Final = "certificate.issued"
EVENT_INDEX_REBUILT: Final = "index.rebuilt"
EVENT_IMPORTED: Final = "import.finished"
EVENT_IMPORT_FAILED: Final = "import.failed"
EVENT_PURGED: Final = "conversations.purged"
EVENT_PURGE_FAILED: Final = "conversations.purge_failed"
