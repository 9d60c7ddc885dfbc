"""The names that spans and their attributes have.

They are those of OpenTelemetry's semantic conventions: for gRPC, errors and
exceptions version 1.44.0; for generative AI 1.41.1, the last one before these
moved to a repository of their own, which has not named a version yet. What the
conventions have no name for begins with `kotaemon.`.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS_CODE: Final = "rpc.response.status_code"
RPC_GRPC: Final = "grpc"

RPC_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""The codes that are errors of a server; the others are the caller's affair ("gRPC", "Server")."""

ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
INVOKE_AGENT: Final = "invoke_agent"
RETRIEVAL: Final = "retrieval"

REASON: Final = "kotaemon.reason"
CANCELLED: Final = "kotaemon.cancelled"
HITS: Final = "kotaemon.retrieval.hits"
PASSAGES: Final = "kotaemon.usage.passages"
