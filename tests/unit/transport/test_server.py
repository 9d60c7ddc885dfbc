"""What is relied on of grpcio, whose private side `Server` stands on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.transport.server import CALLS_AHEAD, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PATH, OTHER_PATH = "/a.Service/Ask", "/a.Service/Follow"
PATIENCE_S = 20  # only what fails takes as long
# RFC 9113, sections 3.4 and 6.5: the preface, and settings that change nothing.
RST_STREAM = 3  # section 6.4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class Asked:
    """Handlers that wait until they are let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.running = 0
        self.began = asyncio.Condition()

    async def answer(self, request: bytes, _context: Any) -> bytes:
        async with self.began:
            self.running += 1
            self.began.notify_all()
        try:
            await self.let_go.wait()
        finally:
            async with self.began:
                self.running -= 1
                self.began.notify_all()
        return request

    async def until_running(self, count: int) -> None:
        async with self.began:
            await self.began.wait_for(lambda: self.running == count)


async def echo(requests: Any, context: Any) -> None:
    async for request in requests:
        await context.write(request)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def handlers(asked: Asked) -> Mapping[str, grpc.RpcMethodHandler]:
    return {
        PATH: grpc.unary_unary_rpc_method_handler(asked.answer),
        OTHER_PATH: grpc.stream_stream_rpc_method_handler(echo),
    }


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[tuple[int, grpc.aio.Channel]]:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield port, channel
    await server.stop(None)


def field(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def status_of(port: int, path: bytes) -> bytes:
    """Call a path that no client would, and return all that comes until there is a status."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"localhost"}
    fields |= {b"te": b"trailers", b"content-type": b"application/grpc"}
    block = b"".join(field(name, value) for name, value in fields.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + len(block).to_bytes(3, "big") + bytes([1, 5, 0, 0, 0, 1]) + block)
    try:
        return await reader.readuntil(b"grpc-message") + await reader.read(64)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "path", [b"/a/\xff", b"\xff\xfe", b"/a.Service/Ask\xff", b"/a.Service/ask", b"/", b"a"]
)
async def test_a_path_that_is_no_method_is_refused_and_the_server_goes_on(
    handlers: Mapping[str, grpc.RpcMethodHandler], path: bytes
) -> None:
    async with serving(Server(handlers)) as (port, channel):
        before = channel.stream_stream(OTHER_PATH)()
        await before.write(b"first")
        assert await before.read() == b"first"
        for _ in range(CALLS_AHEAD + 1):
            assert b"Method not found!" in await status_of(port, path)
        await before.write(b"second")
        assert await before.read() == b"second"
        after = channel.stream_stream(OTHER_PATH)()
        await after.write(b"third")
        assert await after.read() == b"third"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


@asynccontextmanager
async def asking_without_a_window(port: int, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """Call a method as a client does that lets nothing be sent to it (RFC 9113, section 6.9.2)."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path.encode()}
    fields |= {b":authority": b"localhost", b"te": b"trailers"}
    fields |= {b"content-type": b"application/grpc"}
    block = b"".join(field(name, value) for name, value in fields.items())
    no_window = bytes([0, 4, 0, 0, 0, 0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, no_window)
    writer.write(head + frame(1, 4, 1, block) + frame(0, 1, 1, b"\0\0\0\0\2so"))
    yield reader
    writer.close()
    await writer.wait_closed()


async def until_reset(reader: asyncio.StreamReader) -> None:
    while True:
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == RST_STREAM:
            return


async def test_an_answer_that_nobody_takes_is_given_up(
    asked: Asked, handlers: Mapping[str, grpc.RpcMethodHandler]
) -> None:
    server = Server(handlers, lasting={OTHER_PATH})
    async with serving(server) as (port, channel):
        lasting = channel.stream_stream(OTHER_PATH)()
        await lasting.write(b"first")
        assert await lasting.read() == b"first"
        async with asking_without_a_window(port, PATH) as reader:
            await asked.until_running(1)
            (task,) = (
                each
                for each in asyncio.all_tasks()
                if each.get_name() == f"HandleExceptions[{PATH}]"
            )
            for _ in range(3):
                server.end_untaken({task})  # its handler still runs
            asked.let_go.set()
            await asked.until_running(0)
            server.end_untaken(())
            assert not task.cancelling()
            server.end_untaken(())
            await until_reset(reader)
        await lasting.write(b"second")
        assert await lasting.read() == b"second"


async def test_more_calls_than_are_asked_for_ahead_run_at_once(
    asked: Asked, handlers: Mapping[str, grpc.RpcMethodHandler]
) -> None:
    async with serving(Server(handlers)) as (_, channel):
        count = 4 * CALLS_AHEAD
        calls = [channel.unary_unary(PATH)(b"%d" % i) for i in range(count)]
        await asked.until_running(count)
        asked.let_go.set()
        assert await asyncio.gather(*calls) == [b"%d" % i for i in range(count)]


async def test_a_call_that_its_client_gives_up_is_stopped(
    asked: Asked, handlers: Mapping[str, grpc.RpcMethodHandler]
) -> None:
    async with serving(Server(handlers)) as (_, channel):
        calls = [channel.unary_unary(PATH)(b"so") for _ in range(CALLS_AHEAD + 1)]
        await asked.until_running(len(calls))
        for call in calls:
            call.cancel()
        await asked.until_running(0)


async def test_metadata_is_told_in_the_task_of_the_handler() -> None:
    told: ContextVar[Any] = ContextVar("told")

    async def tell(_request: bytes, _context: Any) -> bytes:
        return dict(told.get())["who"].encode()

    server = Server({PATH: grpc.unary_unary_rpc_method_handler(tell)}, on_call=told.set)
    async with serving(server) as (_, channel):
        ask = channel.unary_unary(PATH)
        names = [f"caller {i}" for i in range(2 * CALLS_AHEAD)]
        calls = [ask(b"", metadata=(("who", name),)) for name in names]
        assert await asyncio.gather(*calls) == [name.encode() for name in names]


async def test_a_drain_lets_calls_finish_and_takes_no_new_one(
    asked: Asked, handlers: Mapping[str, grpc.RpcMethodHandler], caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(handlers)
    async with serving(server) as (port, channel):
        running = channel.unary_unary(PATH)(b"so")
        await asked.until_running(1)
        stopping = asyncio.ensure_future(server.stop(60))
        while await is_reached(port):
            pass
        asked.let_go.set()
        assert await running == b"so"
        await stopping
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(PATH)(b"late")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caplog.records == []


async def test_what_runs_still_when_the_grace_is_over_is_stopped(
    asked: Asked, handlers: Mapping[str, grpc.RpcMethodHandler]
) -> None:
    server = Server(handlers)
    async with serving(server) as (_, channel):
        calls = [channel.unary_unary(PATH)(b"so") for _ in range(CALLS_AHEAD + 1)]
        await asked.until_running(len(calls))
        await server.stop(0)
        await asked.until_running(0)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, grpc.aio.AioRpcError) for each in ended)


async def test_a_server_that_stopped_leaves_no_task(
    handlers: Mapping[str, grpc.RpcMethodHandler],
) -> None:
    before = asyncio.all_tasks()
    async with serving(Server(handlers)) as (_, channel):
        call = channel.stream_stream(OTHER_PATH)()
        await call.write(b"so")
        assert await call.read() == b"so"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=PATIENCE_S)
    assert asyncio.all_tasks() <= before


async def is_reached(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
