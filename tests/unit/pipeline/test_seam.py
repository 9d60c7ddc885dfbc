"""The seam around handlers of all four kinds, on a real server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from kotaemon_grpc.api.v2 import agent, document
from kotaemon_grpc.core.errors import NotFound, ResourceType
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs
from kotaemon_grpc.pipeline.call_metrics import CallMetrics
from kotaemon_grpc.pipeline.registration import service_handler
from kotaemon_grpc.pipeline.seam import Call, Method, Seam
from kotaemon_grpc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.core.model import Caller

SECRET = "secret-123"  # noqa: S105 - the word that must not leak
ASK = pb.AskQuestionRequest(question="why?")
STREAM = pb.StreamAnswerRequest(question="why?")
SAID = pb.ChatStreamRequest(message=pb.ChatMessage(question="why?"))
CHUNK = pb.ImportDocumentRequest(chunk=b"text")


class Recorder:
    """A stage that keeps what it is told."""

    def __init__(self, told: list[str], name: str) -> None:
        self.told = told
        self.name = name
        self.calls: list[Call] = []
        self.errors: list[BaseException | None] = []
        self.ended = asyncio.Queue[tuple[Call, grpc.StatusCode]]()

    def observer(self, method: Method) -> Recorder:
        self.told.append(f"{self.name} observes {method.name}")
        return self

    def on_start(self, call: Call) -> None:
        self.calls.append(call)
        self.told.append(f"{self.name} start")

    def on_received(self, _call: Call) -> None:
        self.told.append(f"{self.name} received")

    def on_sent(self, _call: Call) -> None:
        self.told.append(f"{self.name} sent")

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        self.told.append(f"{self.name} end {code.name}")
        self.errors.append(call.error)
        self.ended.put_nowait((call, code))


class Servicer:
    """Does in each kind of method what the test says, before or after a first message."""

    def __init__(self, error: Exception | None, *, after: int = 0) -> None:
        self.error = error
        self.after = after
        self.interrupted = asyncio.Event()
        self.started = asyncio.Event()

    async def ask_question(self, _request: Any, _caller: Caller) -> pb.AskQuestionResponse:
        await self._act()
        return pb.AskQuestionResponse(conversation="conversations/x")

    async def import_document(
        self, requests: AsyncIterator[Any], _caller: Caller
    ) -> pb.ImportDocumentResponse:
        async for _ in requests:
            pass
        await self._act()
        return pb.ImportDocumentResponse()

    async def stream_answer(self, _request: Any, _caller: Caller) -> AsyncIterator[Any]:
        for number in range(self.after):
            yield pb.StreamAnswerResponse(sequence_number=number + 1)
        await self._act()

    async def chat_stream(
        self, requests: AsyncIterator[Any], _caller: Caller
    ) -> AsyncIterator[Any]:
        async for _ in requests:
            for number in range(self.after):
                yield pb.ChatStreamResponse(sequence_number=number + 1)
            await self._act()

    async def _act(self) -> None:
        if self.error is not None:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return self.ask_question


class Waiting(Servicer):
    """Never comes to an end of its own."""

    async def _act(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.interrupted.set()
            raise


@asynccontextmanager
async def serving(servicer: Servicer, *stages: Any) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    seam = Seam(stages)
    server.add_generic_rpc_handlers(
        (
            service_handler(seam, agent.SERVICE, servicer, failure_messages=agent.FAILURE_MESSAGES),
            service_handler(seam, document.SERVICE, servicer, failure_messages={}),
            service_handler(
                seam, agent.SERVICE, servicer, failure_messages={}, name="plain.AgentService"
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def call_of(kind: str, channel: grpc.aio.Channel, **options: Any) -> Any:
    service = stubs.AgentServiceStub(channel)
    match kind:
        case "unary":
            return service.AskQuestion(ASK, **options)
        case "client_stream":
            return stubs.DocumentServiceStub(channel).ImportDocument(iter([CHUNK]), **options)
        case "server_stream":
            return service.StreamAnswer(STREAM, **options)
        case _:
            return service.ChatStream(iter([SAID]), **options)


KINDS = ["unary", "client_stream", "server_stream", "bidi_stream"]
STREAMS = ["server_stream", "bidi_stream"]


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_of_a_fault_reaches_the_caller(kind: str, failure_of: Any) -> None:
    recorder = Recorder([], "a")
    async with serving(Servicer(ValueError(SECRET)), recorder) as channel:
        failure = await failure_of(call_of(kind, channel, metadata=(("x-request-id", "r-1"),)))
    assert (failure.code, failure.error.details()) == ("INTERNAL", "internal error")
    assert failure.kinds == ["ErrorInfo", "RequestInfo"]
    assert failure.reason == "INTERNAL"
    assert failure.detail("ErrorInfo").domain == "kotaemon-grpc"
    assert failure.detail("RequestInfo").request_id == "r-1"
    assert dict(failure.error.trailing_metadata())["x-request-id"] == "r-1"
    told = f"{failure.error!r} {failure.status} {failure.error.trailing_metadata()}"
    assert SECRET not in told
    assert "ValueError" not in told
    call, _ = await recorder.ended.get()
    assert ([repr(error) for error in recorder.errors], call.reason) == (
        [repr(ValueError(SECRET))],
        "INTERNAL",
    )
    assert call.error is None  # its traceback would keep the call, and the call its request


@pytest.mark.parametrize("sent", ["a b", "   "])
async def test_a_request_id_that_is_no_token_is_not_taken(sent: str, failure_of: Any) -> None:
    async with serving(Servicer(ValueError())) as channel:
        failure = await failure_of(call_of("unary", channel, metadata=(("x-request-id", sent),)))
    assert failure.detail("RequestInfo").request_id not in {"", sent, sent.strip()}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("after", [0, 2])
async def test_a_stream_that_fails_ends_in_its_terminal_event(
    kind: str, after: int, failure_of: Any
) -> None:
    recorder = Recorder([], "a")
    async with serving(Servicer(ValueError(SECRET), after=after), recorder) as channel:
        call = call_of(kind, channel)
        events = [await call.read() for _ in range(after + 1)]
        failure = await failure_of(call)
    assert [event.sequence_number for event in events] == list(range(1, after + 2))
    assert [event.WhichOneof("event") for event in events] == [None] * after + ["failed"]
    assert events[-1].failed == failure.status
    assert SECRET not in str(events[-1])
    observed, code = await recorder.ended.get()
    assert (observed.sent, code) == (after + 1, grpc.StatusCode.INTERNAL)
    assert recorder.ended.empty()


@pytest.mark.parametrize("after", [0, 1])
async def test_a_contract_without_a_terminal_event_has_the_status_alone(
    after: int, failure_of: Any
) -> None:
    async with serving(Servicer(ValueError(SECRET), after=after)) as channel:
        stream = channel.unary_stream(
            "/plain.AgentService/StreamAnswer",
            pb.StreamAnswerRequest.SerializeToString,
            pb.StreamAnswerResponse.FromString,
        )
        call = stream(STREAM)
        for _ in range(after):
            assert (await call.read()).WhichOneof("event") is None
        assert (await failure_of(call)).code == "INTERNAL"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_of_the_domain_is_told(kind: str, failure_of: Any) -> None:
    recorder = Recorder([], "a")
    error = NotFound(ResourceType.COLLECTION, "attic")
    async with serving(Servicer(error), recorder) as channel:
        failure = await failure_of(call_of(kind, channel))
    assert (failure.code, failure.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    assert failure.status.message == failure.error.details() == str(error)
    call, code = await recorder.ended.get()
    assert (call.reason, code) == ("COLLECTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    assert failure.detail("RequestInfo").request_id == call.request_id != ""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_id_is_cut_to_what_a_log_can_take(kind: str, failure_of: Any) -> None:
    async with serving(Servicer(ValueError())) as channel:
        failure = await failure_of(call_of(kind, channel, metadata=(("x-request-id", "i" * 999),)))
    assert failure.detail("RequestInfo").request_id == "i" * 128


@pytest.mark.parametrize("kind", KINDS)
async def test_stages_see_a_call_in_their_order_and_its_end_in_reverse(kind: str) -> None:
    told: list[str] = []
    first, second = Recorder(told, "a"), Recorder(told, "b")
    async with serving(Servicer(None, after=1), first, second) as channel:
        told.clear()
        call = call_of(kind, channel)
        if kind in STREAMS:
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
        await second.ended.get()
        await first.ended.get()
    assert told == [
        "a start",
        "b start",
        "a received",
        "b received",
        "a sent",
        "b sent",
        "b end OK",
        "a end OK",
    ]
    (call,) = first.calls
    assert (call.received, call.sent, call.caller.principal) == (1, 1, "anonymous")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_the_client_cancels_stops_the_handler(kind: str) -> None:
    recorder, servicer = Recorder([], "a"), Waiting(None)
    async with serving(servicer, recorder) as channel:
        call = call_of(kind, channel)
        await servicer.started.wait()
        call.cancel()
        await servicer.interrupted.wait()
        _, code = await recorder.ended.get()
    assert code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_stops_the_handler(kind: str, failure_of: Any) -> None:
    recorder, servicer = Recorder([], "a"), Waiting(None)
    async with serving(servicer, recorder) as channel:
        failure = await failure_of(call_of(kind, channel, timeout=0.2))
        assert failure.code == "DEADLINE_EXCEEDED"
        await servicer.interrupted.wait()
        _, code = await recorder.ended.get()
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_client_that_leaves_before_the_terminal_event_ends_the_call() -> None:
    recorder, servicer = Recorder([], "a"), Waiting(None, after=1)
    async with serving(servicer, recorder) as channel:
        call = call_of("bidi_stream", channel)
        await call.read()
        await servicer.started.wait()
        call.cancel()
        observed, code = await recorder.ended.get()
    assert (observed.sent, code) == (1, grpc.StatusCode.CANCELLED)


async def test_a_stream_that_is_cut_at_its_terminal_event_has_an_end_too() -> None:
    recorder = Recorder([], "a")
    method = Method(
        "s.S",
        "M",
        client_streaming=False,
        server_streaming=True,
        request=pb.StreamAnswerRequest,
        failure_message=failed,
    )
    wrapped = Seam([recorder]).wrap(method, Servicer(ValueError(SECRET)).stream_answer)
    responses = wrapped(STREAM.SerializeToString(), Context())
    assert (await anext(responses)).failed.code == grpc.StatusCode.INTERNAL.value[0]
    await responses.aclose()
    assert (await recorder.ended.get())[1] is grpc.StatusCode.INTERNAL
    assert recorder.ended.empty()


def failed(status: status_pb2.Status, sequence_number: int) -> pb.StreamAnswerResponse:
    return pb.StreamAnswerResponse(sequence_number=sequence_number, failed=status)


class Context:
    """As much of a call's context as is asked before it ends."""

    def invocation_metadata(self) -> None:
        return None

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def time_remaining(self) -> None:
        return None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_cannot_be_read_is_told_as_all_else_is(
    kind: str, failure_of: Any
) -> None:
    recorder = Recorder([], "a")
    async with serving(Servicer(None), recorder) as channel:
        call = {
            "unary": lambda: channel.unary_unary("/kotaemon.v2.AgentService/AskQuestion")(b"\xff"),
            "client_stream": lambda: channel.stream_unary(
                "/kotaemon.v2.DocumentService/ImportDocument"
            )(iter([b"\xff"])),
            "server_stream": lambda: channel.unary_stream("/plain.AgentService/StreamAnswer")(
                b"\xff"
            ),
            "bidi_stream": lambda: channel.stream_stream("/plain.AgentService/ChatStream")(
                iter([b"\xff"])
            ),
        }[kind]()
        failure = await failure_of(call)
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert "kotaemon.v2." in failure.error.details()
    assert (await recorder.ended.get())[1] is grpc.StatusCode.INVALID_ARGUMENT


async def test_metrics_count_each_code(failure_of: Any) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    servicer = Servicer(None)
    recorder = Recorder([], "a")
    async with serving(servicer, recorder, CallMetrics(metrics)) as channel:
        await call_of("unary", channel)
        for error in (ValueError(SECRET), NotFound(ResourceType.DOCUMENT, "x")):
            servicer.error = error
            await failure_of(call_of("unary", channel))
        for _ in range(3):
            await recorder.ended.get()
    labels = {
        "grpc_type": "unary",
        "grpc_service": "kotaemon.v2.AgentService",
        "grpc_method": "AskQuestion",
    }

    def count(name: str, **more: str) -> float | None:
        return registry.get_sample_value(name, {**labels, **more})

    for code in ("OK", "INTERNAL", "NOT_FOUND"):
        assert count("grpc_server_handled_total", grpc_code=code) == 1
    assert count("grpc_server_started_total") == 3
    assert count("grpc_server_msg_received_total") == 3
    assert count("grpc_server_msg_sent_total") == 1
    assert count("grpc_server_handling_seconds_count") == 3


async def test_a_servicer_that_lacks_a_method_is_not_registered() -> None:
    with pytest.raises(AttributeError, match="ask_question"):
        service_handler(Seam([]), agent.SERVICE, object(), failure_messages={})


async def test_the_details_of_a_status_can_be_read_back(failure_of: Any) -> None:
    async with serving(Servicer(NotFound(ResourceType.DOCUMENT, "x"))) as channel:
        failure = await failure_of(call_of("unary", channel))
    assert isinstance(failure.detail("ResourceInfo"), error_details_pb2.ResourceInfo)
