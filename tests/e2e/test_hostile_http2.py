"""Frames that no gRPC client sends."""

from __future__ import annotations

import socket
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, section 3.4
SETTINGS, HEADERS = 4, 1  # RFC 9113, section 6
END_OF_BOTH = 0x5  # the flags END_STREAM and END_HEADERS


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def field(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def test_a_path_that_is_not_utf_8_does_not_end_the_health_port(server: Any) -> None:
    host, _, port = server.health_address.rpartition(":")
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/a/\xff",
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    block = b"".join(field(name, value) for name, value in fields.items())
    with socket.create_connection((host, int(port))) as raw:
        raw.settimeout(30)
        raw.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_OF_BOTH, 1, block))
        answered = b""
        while b"grpc-status" not in answered:
            received = raw.recv(4096)
            assert received, answered
            answered += received
    async with grpc.aio.insecure_channel(server.health_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        response = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert response.status == health_pb2.HealthCheckResponse.SERVING
