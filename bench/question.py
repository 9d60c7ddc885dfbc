"""The call that is measured: one question, its constant answer, encoded for each peer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h2
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SERVICE = "kotaemon.v2.AgentService"
METHOD = "AskQuestion"
REST_PATH = "/v2/questions:ask"
FIELDS: Mapping[str, object] = {
    "question": "Who may call the server, and how does it find out who calls?",
    "collection": "collections/handbook",
    "language_code": "en",
    "context": {"channel": "web"},
}
ANSWER = (
    "Every caller shows a client certificate and a token; both are checked before the call begins."
)
TIMEOUT = ("grpc-timeout", "20S")


def metadata(token: str) -> list[tuple[str, str]]:
    """Make the headers that every call of every peer has; no authorization for an empty token."""
    return [TIMEOUT, *([("authorization", f"Bearer {token}")] if token else [])]


def grpc_request(token: str, **changes: object) -> h2.Request:
    """Encode the call for gRPC, with some of its fields changed."""
    message = pb.AskQuestionRequest(**{**FIELDS, **changes}).SerializeToString()
    return h2.Request(f"/{SERVICE}/{METHOD}", metadata(token), message)


def rest_request(token: str, **changes: object) -> bytes:
    """Encode the call for REST, with some of its fields changed."""
    body = json.dumps({**FIELDS, **changes}).encode()
    headers: Iterable[tuple[str, str]] = (
        ("host", h2.AUTHORITY),
        ("user-agent", "bench"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        *metadata(token),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"POST {REST_PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body
