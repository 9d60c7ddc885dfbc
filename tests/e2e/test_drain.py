"""What a server that is asked to stop does with its calls, seen by their clients."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.client import AgentClient, GoingAway, RetryPolicy, UnavailableError
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
KILLED_BY_SIGNAL = 128
CLIENTS = 16
ONCE = RetryPolicy(attempts=1)
WAITING = [sys.executable, str(Path(__file__).with_name("waiting_server.py"))]
LONG_DELAY = "--set=server.shutdown_delay_s=300"
LONG_GRACE = "--set=server.shutdown_grace_s=3600"
SHORT_GRACE = "--set=server.shutdown_grace_s=0.1"


class Desk:
    """Where the engine of a waiting server says that it has begun, and waits."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Desk]:
        async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            self._begun.put_nowait(writer)

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            for writer in self._writers:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def question(self, verb: str = "wait") -> str:
        return f"{verb} {self._port}"

    async def begun(self) -> asyncio.StreamWriter:
        """Wait until a call has begun; return what lets it go when a line is written to it."""
        return await self._begun.get()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with Desk().open() as desk:
        yield desk


@pytest.fixture
def start_waiting(serving_type: Any, tmp_path: Path, certs: Path) -> Iterator[Callable[..., Any]]:
    """Start a server whose engine waits at the desk."""
    started = []

    def start(*arguments: str) -> Any:
        data_dir = tmp_path / "data"
        started.append(serving_type(*arguments, data_dir=data_dir, certs=certs, command=WAITING))
        return started[-1]

    yield start
    for serving in started:
        if serving.process.poll() is None:
            serving.kill()


def client_of(serving: Any) -> AgentClient:
    """A client that hides nothing that happens."""
    return AgentClient(serving.address, tls=serving.tls, retry=ONCE, timeout_s=60)


def events(serving: Any) -> list[str]:
    return [line["event"] for line in serving.lines]


def calls(serving: Any) -> list[dict[str, Any]]:
    return [line for line in serving.lines if line["event"] == "call"]


def readiness(serving: Any) -> int:
    """The HTTP status that a probe of readiness gets."""
    host, port = serving.operations_address.split(":")
    with closing(http.client.HTTPConnection(host, int(port))) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


async def until_health_says_no(serving: Any) -> None:
    async with grpc.aio.insecure_channel(serving.health_address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        async for response in watch:
            if response.status == NOT_SERVING:
                return
        raise AssertionError("the watch ended before")


async def nobody_listens(serving: Any) -> None:
    """Wait until no connection is taken any more."""
    host, _, port = serving.address.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()
        except ConnectionRefusedError:
            return
        except OSError:  # it was taken, and dropped as the listener closed
            continue


async def ended(serving: Any) -> int:
    return await asyncio.to_thread(serving.wait)


def press_ctrl_c_until_it_ends(serving: Any) -> int:
    """Signals right after the first are taken for the same request: insist, as people do."""
    while serving.process.poll() is None:
        serving.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            serving.process.wait(0.1)
    return serving.wait()


async def test_first_it_says_that_it_stops_and_still_takes_calls(
    start: Callable[..., Any],
) -> None:
    serving = start(LONG_DELAY)
    question = pb.AskQuestionRequest(question="anything?")
    async with serving.channel() as channel:
        ask = stubs.AgentServiceStub(channel).AskQuestion
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status != NOT_SERVING
        serving.process.send_signal(signal.SIGTERM)
        await until_health_says_no(serving)
        assert (await watch.read()).status == NOT_SERVING
        assert await asyncio.to_thread(readiness, serving) == 503
        await ask(question)  # on a connection from before
        own = [("grpc.use_local_subchannel_pool", 1)]
        credentials = serving.tls.credentials()
        async with grpc.aio.secure_channel(serving.address, credentials, own) as late:
            await stubs.AgentServiceStub(late).AskQuestion(question)
    # A second signal is for those who do not want to wait.
    assert await asyncio.to_thread(press_ctrl_c_until_it_ends, serving) == 130
    assert events(serving)[-3:] == ["server.draining", "call", "call"]
    assert serving.errors == []


async def test_then_it_takes_no_calls_and_those_that_run_finish(
    start_waiting: Callable[..., Any], desk: Desk
) -> None:
    serving = start_waiting(LONG_GRACE)
    async with client_of(serving) as client:
        asking = asyncio.create_task(client.ask(desk.question()))
        writer = await desk.begun()
        serving.process.send_signal(signal.SIGTERM)
        await nobody_listens(serving)
        with pytest.raises(UnavailableError):
            async with client_of(serving) as late:
                await late.ask("anything?")
        assert await asyncio.to_thread(readiness, serving) == 503
        writer.write(b"\n")
        assert (await asking).text == "so it is"
        assert await ended(serving) == 0
    assert events(serving)[-3:] == ["server.draining", "call", "server.stopped"]
    assert serving.errors == []
    assert list((serving.data_dir / "tmp").iterdir()) == []
    start_waiting()  # nothing keeps the data directory


async def test_streams_are_told_and_end_well(start_waiting: Callable[..., Any], desk: Desk) -> None:
    serving = start_waiting(LONG_GRACE)
    async with serving.channel() as channel:
        agent = stubs.AgentServiceStub(channel)
        stream = agent.StreamAnswer(pb.StreamAnswerRequest(question=desk.question()))
        busy, idle = agent.ChatStream(), agent.ChatStream()
        for chat in (busy, idle):
            await chat.write(pb.ChatStreamRequest(start=pb.ChatStart()))
        question = pb.ChatStreamRequest(message=pb.ChatMessage(question=desk.question()))
        await busy.write(question)
        streaming, chatting = await desk.begun(), await desk.begun()
        serving.process.send_signal(signal.SIGTERM)

        assert await all_events(idle) == ["going_away", "completed"]
        await nobody_listens(serving)
        for writer in (streaming, chatting):
            writer.write(b"\n")
        told = await all_events(stream)
        assert told[-1] == "completed"
        assert told.count("going_away") == 1
        told = await all_events(busy)
        assert told[-1] == "completed"
        assert "turn_completed" in told
        assert told.count("going_away") == 1
        assert await ended(serving) == 0
    assert {line["grpc_code"] for line in calls(serving)} == {"OK"}
    assert serving.errors == []


async def all_events(call: Any) -> list[str]:
    """Take what a stream brings, which has to end with OK."""
    taken = [response.WhichOneof("event") async for response in call]
    assert await call.code() is grpc.StatusCode.OK
    return taken


async def test_the_client_library_hears_that_a_stream_goes_away(
    start_waiting: Callable[..., Any], desk: Desk
) -> None:
    serving = start_waiting("--set=server.shutdown_grace_s=60")
    async with client_of(serving) as client:
        stream = client.stream(desk.question())
        taking = asyncio.create_task(anext(stream))
        writer = await desk.begun()
        await taking
        serving.process.send_signal(signal.SIGTERM)
        await nobody_listens(serving)
        writer.write(b"\n")
        rest = [event async for event in stream]
        assert GoingAway(60.0) in rest
        assert await ended(serving) == 0


async def test_what_takes_longer_than_the_grace_is_told_why_it_ends(
    start_waiting: Callable[..., Any], desk: Desk, failure_of: Any
) -> None:
    serving = start_waiting(SHORT_GRACE)
    async with serving.channel() as channel:
        agent = stubs.AgentServiceStub(channel)
        asked = pb.AskQuestionRequest(question=desk.question())
        running = [agent.AskQuestion(asked), agent.AskQuestion(asked, timeout=60)]
        stream = agent.StreamAnswer(pb.StreamAnswerRequest(question=desk.question()))
        for _ in range(3):
            await desk.begun()
        serving.process.send_signal(signal.SIGTERM)
        last = [response async for response in taken_until_it_fails(stream)][-1]
        for call in (*running, stream):
            failure = await failure_of(call)
            assert (failure.code, failure.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
            assert failure.detail("RetryInfo").retry_delay.ToSeconds() == 1
        assert last.failed == failure.status
        assert await ended(serving) == 0
    assert [line["reason"] for line in calls(serving)] == ["SHUTTING_DOWN"] * 3
    assert events(serving)[-1] == "server.stopped"
    assert serving.errors == []


async def taken_until_it_fails(call: Any) -> AsyncIterator[Any]:
    with suppress(grpc.aio.AioRpcError):
        async for response in call:
            yield response


async def test_a_handler_that_does_not_stop_is_named_and_does_not_hold_up_the_end(
    start_waiting: Callable[..., Any], desk: Desk, failure_of: Any
) -> None:
    serving = start_waiting(SHORT_GRACE)
    async with serving.channel() as channel:
        agent = stubs.AgentServiceStub(channel)
        asked = pb.AskQuestionRequest(question=desk.question("stay"))
        call = agent.AskQuestion(asked, metadata=(("x-request-id", "r-1"),))
        await desk.begun()
        serving.process.send_signal(signal.SIGTERM)
        assert (await failure_of(call)).code in {"UNAVAILABLE", "CANCELLED"}
        assert await ended(serving) == 0
    (left,) = [line for line in serving.lines if line["event"] == "call.left_behind"]
    assert left["grpc_method"] == "AskQuestion"
    assert left["request_id"] == "r-1"
    assert "server.stopped" in events(serving)


async def test_a_second_signal_ends_the_grace_at_once(
    start_waiting: Callable[..., Any], desk: Desk
) -> None:
    serving = start_waiting(LONG_GRACE)
    async with client_of(serving) as client:
        asking = asyncio.create_task(client.ask(desk.question()))
        await desk.begun()
        serving.process.send_signal(signal.SIGTERM)
        await nobody_listens(serving)
        status = await asyncio.to_thread(press_ctrl_c_until_it_ends, serving)
        assert status == KILLED_BY_SIGNAL + signal.SIGINT
        with pytest.raises(UnavailableError):
            await asking
    assert serving.errors == []


class Busy:
    """Clients of several servers that ask one question after the other."""

    def __init__(self, *servers: Any) -> None:
        self._addresses = [server.address for server in servers]
        self._tls = servers[0].tls
        self._answers = asyncio.Condition()
        self.answered = 0

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask meanwhile; a call that fails fails the test."""
        async with AsyncExitStack() as opened:
            clients = [
                await opened.enter_async_context(AgentClient(self._addresses, tls=self._tls))
                for _ in range(CLIENTS)
            ]
            over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(self._ask(client, over))
                yield
                over.set()

    async def _ask(self, client: AgentClient, over: asyncio.Event) -> None:
        while not over.is_set():
            await client.ask("anything?")
            async with self._answers:
                self.answered += 1
                self._answers.notify_all()

    async def more(self, count: int) -> None:
        """Wait until so many more calls were answered."""
        wanted = self.answered + count
        async with self._answers:
            await self._answers.wait_for(lambda: self.answered >= wanted)


async def test_busy_clients_lose_nothing_when_another_server_is_there(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    settings = ("--set=server.shutdown_delay_s=1", "--set=limits.calls_per_second=0")
    first, second = (start(*settings, data_dir=tmp_path / name) for name in ("a", "b"))
    busy = Busy(first, second)
    async with busy.asking():
        await busy.more(10 * CLIENTS)
        first.process.send_signal(signal.SIGTERM)
        assert await ended(first) == 0
        await busy.more(10 * CLIENTS)
    assert await asyncio.to_thread(second.stop) == 0
    for serving in (first, second):
        assert {line["grpc_code"] for line in calls(serving)} == {"OK"}
    assert len(calls(first)) + len(calls(second)) == busy.answered


async def test_the_age_of_connections_moves_clients_without_a_failure(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    old = start("--set=server.max_connection_age_s=0.5", data_dir=tmp_path / "old")
    # A client that prefers the first of its servers, which is not there yet.
    target = f"ipv4:127.0.0.1:{port},{old.address}"
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.enable_retries", 0),
    ]
    async with grpc.aio.secure_channel(target, old.tls.credentials(), options) as channel:
        ask = stubs.AgentServiceStub(channel).AskQuestion
        question = pb.AskQuestionRequest(question="anything?")
        await ask(question, wait_for_ready=True)
        new = start(f"--listen=127.0.0.1:{port}", data_dir=tmp_path / "new")
        while not calls(new):
            await ask(question)
    assert calls(old)
    assert {line["grpc_code"] for line in (*calls(old), *calls(new))} == {"OK"}
