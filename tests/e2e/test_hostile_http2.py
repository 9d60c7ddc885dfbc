"""Frames that no gRPC client sends."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, section 3.4
DATA, HEADERS, SETTINGS = 0, 1, 4  # RFC 9113, section 6
END_OF_STREAM, END_OF_HEADERS, END_OF_BOTH = 0x1, 0x4, 0x5  # flags
INITIAL_WINDOW_SIZE = 0x4  # RFC 9113, section 6.5.2


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def field(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request_to(path: bytes) -> bytes:
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    return b"".join(field(name, value) for name, value in fields.items())


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    raw = socket.create_connection((host, int(port)))
    raw.settimeout(30)
    return raw


def wait_for(raw: socket.socket, sign: bytes) -> None:
    received = b""
    while sign not in received:
        more = raw.recv(4096)
        assert more, received
        received += more


async def health_of(address: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)).status


async def test_a_path_that_is_not_utf_8_does_not_end_the_health_port(server: Any) -> None:
    block = request_to(b"/a/\xff")
    with connect(server.health_address) as raw:
        raw.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_OF_BOTH, 1, block))
        wait_for(raw, b"grpc-status")
    assert await health_of(server.health_address) == health_pb2.HealthCheckResponse.SERVING


async def test_a_watch_that_takes_nothing_holds_up_no_check_and_no_stop(
    start: Callable[..., Any],
) -> None:
    server = start()
    no_window = frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + bytes(4))
    block = request_to(b"/grpc.health.v1.Health/Watch")
    message = frame(DATA, END_OF_STREAM, 1, bytes(5))  # one empty message
    with connect(server.health_address) as raw:
        raw.sendall(PREFACE + no_window + frame(HEADERS, END_OF_HEADERS, 1, block) + message)
        wait_for(raw, b"application/grpc")  # the head of the answer, which is all that it takes
        for _ in range(10):
            status = await health_of(server.health_address)
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert server.stop() == 0


async def test_a_path_that_is_not_utf_8_is_refused_and_the_calls_of_others_go_on(
    start: Callable[..., Any],
) -> None:
    server = start("--insecure")
    async with grpc.aio.insecure_channel(server.address) as channel:
        chat = stubs.AgentServiceStub(channel).ChatStream()
        await turn_of(chat)
        with connect(server.address) as raw:
            block = request_to(b"/a/\xff")
            raw.sendall(
                PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_OF_BOTH, 1, block)
            )
            wait_for(raw, b"Method not found!")
        await turn_of(chat)
        await chat.done_writing()
        assert (await chat.read()).WhichOneof("event") == "completed"
        assert await chat.code() is grpc.StatusCode.OK
    assert server.stop() == 0


async def turn_of(chat: Any) -> None:
    await chat.write(pb.ChatStreamRequest(message=pb.ChatMessage(question="anything?")))
    while (await chat.read()).WhichOneof("event") != "turn_completed":
        pass
