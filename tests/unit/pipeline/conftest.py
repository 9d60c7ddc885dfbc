"""A server with the seam around handlers of every shape, and all that was seen of its calls."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.api.v2 import agent, document
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pipeline.call import Call, Method
from kotaemon_grpc.pipeline.metadata import METADATA
from kotaemon_grpc.pipeline.native import native_handlers
from kotaemon_grpc.pipeline.registration import service_handlers
from kotaemon_grpc.pipeline.seam import Seam
from kotaemon_grpc.transport.server import Server

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

PLAIN = "plain.AgentService"  # the same service without terminal events
NATIVE = "native.Service"
PATIENCE_S = 60  # only what fails takes as long

_ASK = (pb.AskQuestionRequest(question="why?"), pb.AskQuestionResponse)
_STREAM = (pb.StreamAnswerRequest(question="why?"), pb.StreamAnswerResponse)
_CHAT = (
    pb.ChatStreamRequest(message=pb.ChatMessage(question="why?")),
    pb.ChatStreamResponse,
)
_IMPORT = (pb.ImportDocumentRequest(chunk=b"text"), pb.ImportDocumentResponse)
SHAPES: dict[str, tuple[str, str, tuple[Any, Any]]] = {
    "unary": ("unary_unary", f"{agent.SERVICE.full_name}/AskQuestion", _ASK),
    "client_stream": ("stream_unary", f"{document.SERVICE.full_name}/ImportDocument", _IMPORT),
    "server_stream": ("unary_stream", f"{agent.SERVICE.full_name}/StreamAnswer", _STREAM),
    "bidi_stream": ("stream_stream", f"{agent.SERVICE.full_name}/ChatStream", _CHAT),
    "plain_server_stream": ("unary_stream", f"{PLAIN}/StreamAnswer", _STREAM),
    "plain_bidi_stream": ("stream_stream", f"{PLAIN}/ChatStream", _CHAT),
    "native_unary": ("unary_unary", f"{NATIVE}/native_unary", _ASK),
    "native_client_stream": ("stream_unary", f"{NATIVE}/native_client_stream", _IMPORT),
    "native_server_stream": ("unary_stream", f"{NATIVE}/native_server_stream", _STREAM),
    "native_bidi_stream": ("stream_stream", f"{NATIVE}/native_bidi_stream", _CHAT),
    "written_server_stream": ("unary_stream", f"{NATIVE}/written_server_stream", _STREAM),
    "written_bidi_stream": ("stream_stream", f"{NATIVE}/written_bidi_stream", _CHAT),
}
"""By name: the kind, the method, a request and the type of the response."""


class Recorder:
    """A stage that keeps what it is told."""

    def __init__(self, told: list[str] | None = None, name: str = "") -> None:
        self.told = [] if told is None else told
        self.calls: list[Call] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.errors: list[BaseException | None] = []
        self.codes: list[str] = []
        self._name = name
        self._ended = asyncio.Queue[str]()

    def observer(self, _method: Method) -> Recorder:
        return self

    def on_start(self, call: Call) -> None:
        self.calls.append(call)
        self.tasks.append(asyncio.current_task())
        self._take("start")

    def on_received(self, _call: Call) -> None:
        self._take("received")

    def on_request(self, _call: Call, request: Any) -> None:
        self._take(f"request {type(request).__name__}")

    def on_sent(self, _call: Call) -> None:
        self._take("sent")

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        self._take(f"end {code.name}")
        self.errors.append(call.error)
        self.codes.append(code.name)
        self._ended.put_nowait(code.name)

    def _take(self, event: str) -> None:
        self.told.append(f"{self._name} {event}".strip())

    async def end(self) -> tuple[Call, str]:
        """Wait for the end of a call; return the call that began last, and the code."""
        code = await self._ended.get()
        return self.calls[-1], code


class Handlers:
    """In every shape of handler: for each request sends messages, then does the deed."""

    def __init__(self, deed: Callable[[Any], Awaitable[None]], messages: int, text: str) -> None:
        self.contexts: list[Any] = []
        self.begun = asyncio.Event()
        self.running = 0
        self._deed = deed
        self._messages = messages
        self._text = text

    async def _responses(self, requests: Any, context: Any, kind: Any) -> AsyncIterator[Any]:
        self.contexts.append(context)
        self.running += 1
        try:
            async for _ in requests:
                for number in range(self._messages):
                    yield kind(sequence_number=number + 1, text_delta=pb.TextDelta(text=self._text))
                self.begun.set()
                await self._deed(context)
        finally:
            self.running -= 1

    async def _write(self, requests: Any, context: Any, kind: Any) -> None:
        async with aclosing(self._responses(requests, context, kind)) as responses:
            async for response in responses:
                await context.write(response)

    async def _drop(self, requests: Any, context: Any) -> None:
        async with aclosing(self._responses(requests, context, pb.StreamAnswerResponse)) as dropped:
            async for _ in dropped:
                pass

    async def ask_question(self, request: Any, context: Any) -> Any:
        await self._drop(_one(request), context)
        return pb.AskQuestionResponse(conversation="conversations/x")

    async def import_document(self, requests: Any, context: Any) -> Any:
        await self._drop(requests, context)
        return pb.ImportDocumentResponse()

    def stream_answer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        return self._responses(_one(request), context, pb.StreamAnswerResponse)

    def chat_stream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        return self._responses(requests, context, pb.ChatStreamResponse)

    async def write_answer(self, request: Any, context: Any) -> None:
        await self._write(_one(request), context, pb.StreamAnswerResponse)

    async def write_chat(self, _requests: Any, context: Any) -> None:
        await self._write(_read(context), context, pb.ChatStreamResponse)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.ask_question  # the services' other methods are never called

    def native(self) -> dict[str, grpc.RpcMethodHandler]:
        behaviors = {
            "native_unary": self.ask_question,
            "native_client_stream": self.import_document,
            "native_server_stream": self.stream_answer,
            "native_bidi_stream": self.chat_stream,
            "written_server_stream": self.write_answer,
            "written_bidi_stream": self.write_chat,
        }
        handlers = {}
        for shape, behavior in behaviors.items():
            kind, _, (request, response) = SHAPES[shape]
            handlers[shape] = getattr(grpc, f"{kind}_rpc_method_handler")(
                behavior,
                request_deserializer=type(request).FromString,
                response_serializer=response.SerializeToString,
            )
        return handlers


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request


async def _read(context: Any) -> AsyncIterator[Any]:
    while (request := await context.read()) is not grpc.aio.EOF:
        yield request


@dataclass(frozen=True)
class Outcome:
    """All that a client is told."""

    messages: list[Any]
    failure: Any
    everything: str

    @property
    def code(self) -> str:
        return self.failure.code if self.failure else "OK"

    @property
    def reason(self) -> str:
        return self.failure.reason if self.failure and self.failure.status.details else ""

    @property
    def request_id(self) -> str:
        return self.failure.detail("RequestInfo").request_id


class LetIn:
    """A guard that lets everybody in, for as long as they like."""

    def admission(self, _method: Method) -> Callable[[Call], None]:
        def admit(call: Call) -> None:
            call.caller = Caller("anyone")

        return admit


@dataclass(frozen=True)
class Served:
    """A server, a client of it, and what was seen."""

    channel: grpc.aio.Channel
    recorder: Recorder
    handlers: Handlers
    failure_of: Callable[[Any], Awaitable[Any]]

    def call(
        self, shape: str, request: bytes | None = None, *, silent: bool = False, **options: Any
    ) -> Any:
        """Begin a call; of a client that streams, with one message and no more.

        Or with none if it is `silent`: core's client reports a message that cannot be sent
        any more, as the call was refused, in place of the refusal.
        """
        kind, path, (message, response) = SHAPES[shape]
        content = message.SerializeToString() if request is None else request
        begin = getattr(self.channel, kind)(f"/{path}", None, response.FromString)
        if silent and kind.startswith("stream_"):
            return begin(**options)
        return begin(iter([content]) if kind.startswith("stream_") else content, **options)

    async def open(self, shape: str, **options: Any) -> Any:
        """Begin a call of a client that streams, with a message and perhaps more later."""
        kind, path, (message, response) = SHAPES[shape]
        call = getattr(self.channel, kind)(f"/{path}", None, response.FromString)(**options)
        await call.write(message.SerializeToString())
        return call

    async def outcome(self, call: Any) -> Outcome:
        """Take all that a call brings."""
        messages: list[Any] = []
        failure = None
        try:
            if hasattr(call, "read"):
                while (message := await call.read()) is not grpc.aio.EOF:
                    messages.append(message)
            else:
                messages.append(await call)
        except grpc.aio.AioRpcError:
            failure = await self.failure_of(call)
        told = (messages, failure, await call.initial_metadata(), await call.trailing_metadata())
        return Outcome(messages, failure, repr(told))

    async def run(self, shape: str, request: bytes | None = None, **options: Any) -> Outcome:
        return await self.outcome(self.call(shape, request, **options))


async def _nothing(_context: Any) -> None:
    pass


@pytest.fixture
def serving(failure_of: Any, caplog: pytest.LogCaptureFixture) -> Callable[..., Any]:
    """Serve: `async with serving(deed, messages=2, guards=[…]) as served`.

    At the end nothing may be left of any call, nor may core have complained, and the
    observers must have been told of one end for each beginning.
    """

    @asynccontextmanager
    async def start(
        deed: Callable[[Any], Awaitable[None]] = _nothing,
        *,
        messages: int = 0,
        text: str = "so",
        stages: Sequence[Any] = (),
        guards: Sequence[Any] = (),
        failure_messages: Mapping[str, Any] = agent.FAILURE_MESSAGES,
    ) -> AsyncIterator[Served]:
        handlers = Handlers(deed, messages, text)
        recorder = Recorder()
        seam = Seam([recorder, *stages], [LetIn(), *guards])
        services = [
            service_handlers(seam, agent.SERVICE, handlers, failure_messages=failure_messages),
            service_handlers(seam, document.SERVICE, handlers, failure_messages={}),
            service_handlers(seam, agent.SERVICE, handlers, failure_messages={}, name=PLAIN),
            native_handlers(seam, NATIVE, handlers.native()),
        ]
        by_path = {f"/{method.path}": each for method, each in ChainMap(*services).items()}
        server = Server(by_path, on_call=METADATA.set)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await channel.channel_ready()
                yield Served(channel, recorder, handlers, failure_of)
                if recorder.tasks:
                    _, left = await asyncio.wait(recorder.tasks, timeout=PATIENCE_S)
                    assert not left
        finally:
            await server.stop(None)
        assert handlers.running == 0
        assert len(recorder.codes) == len(recorder.calls)
        assert [line for line in caplog.records if _is_fault(line)] == []

    return start


def _is_fault(line: logging.LogRecord) -> bool:
    """Whether a line tells of something wrong: not the last words of an earlier test's loop.

    grpc.aio has one poller for all loops of a process, which may find one of them closed.
    """
    is_late = line.exc_info and str(line.exc_info[1]) == "Event loop is closed"
    return line.name.startswith(("grpc", "asyncio")) and not is_late


class Offline:
    """As much of core's context as guards ask for, and its end."""

    def __init__(self, remaining_s: float | None, tls: Mapping[str, Sequence[bytes]]) -> None:
        self._remaining_s = remaining_s
        self._tls = tls

    def time_remaining(self) -> float | None:
        return self._remaining_s

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return self._tls

    async def read(self) -> bytes:
        return b""

    def peer(self) -> str:
        return "ipv4:192.0.2.1:4242"

    def peer_identities(self) -> Sequence[bytes]:
        return self._tls.get("x509_subject_alternative_name", ())

    async def abort(self, code: grpc.StatusCode, *_: Any) -> None:
        raise ConnectionAbortedError(code.name)


@pytest.fixture
def offline() -> Callable[..., Offline]:
    """Make core's context of a call that came from nowhere."""

    def make(remaining_s: float | None = None, **tls: Sequence[bytes]) -> Offline:
        return Offline(remaining_s, tls)

    return make


@pytest.fixture
def beginning(offline: Callable[..., Offline]) -> Callable[..., Call]:
    """Begin a call that came from nowhere: `beginning("kotaemon.v2.AgentService/AskQuestion")`."""

    def begin(
        path: str = f"{agent.SERVICE.full_name}/AskQuestion",
        metadata: Sequence[tuple[str, Any]] = (),
    ) -> Call:
        service, _, name = path.partition("/")
        method = Method(
            service,
            name,
            client_streaming=False,
            server_streaming=False,
            request="x",
            read=bytes,
            write=bytes,
        )
        token = METADATA.set(metadata)
        try:
            return Call(method, offline())
        finally:
            METADATA.reset(token)

    return begin


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    """A stage that keeps what it is told: `recorder(told, name)`."""
    return Recorder
