"""What one caller can take of a server: no more than its limits, and it is told so."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from grpc_health.v1 import health_pb2

from kotaemon_grpc.pb.v2 import agent_pb2 as v2

from .http2 import ENHANCE_YOUR_CALM, PATIENCE_S, Http2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASK = "/kotaemon.v2.AgentService/AskQuestion"
STREAM = "/kotaemon.v2.AgentService/StreamAnswer"
CHAT = "/kotaemon.v2.AgentService/ChatStream"
HEALTH = "/grpc.health.v1.Health/Check"
MAX_STREAMS, MAX_CONNECTIONS, CALLS_PER_SECOND = 10, 6, 5
PATIENT = (b"grpc-timeout", b"60S")
SHED = 'kotaemon_grpc_calls_shed_total{reason="%s"}'
STARTED = (
    'grpc_server_started_total{grpc_method="ChatStream",'
    'grpc_service="kotaemon.v2.AgentService",grpc_type="bidi_stream"}'
)
IN_FLIGHT = 'kotaemon_grpc_engine_calls_in_flight{engine="local"}'


def asked(question: str) -> bytes:
    return v2.AskQuestionRequest(question=question).SerializeToString()


class Limited:
    """A server with small limits."""

    def __init__(self, told: Any, page: Any, written: Any) -> None:
        self.told = told
        self.page = page
        self._written = written

    def connect(self, **options: Any) -> Http2:
        return Http2(self.told.serving.address, self.told.tls, **options)

    def as_somebody(self, *fields: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """The fields of a principal that has not called before."""
        return [self.told.issued.bearer(uuid.uuid4().hex), *fields]

    def call(self, path: str, *messages: bytes) -> Any:
        return self.told.call(path, *messages, fields=self.as_somebody(PATIENT))

    def figure(self, sample: str) -> float:
        """Return a figure of the metrics."""
        found = re.search(f"^{re.escape(sample)} (.*)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def metrics(self) -> str:
        return self.page(self.told.serving, "/metrics")

    def lines(self) -> list[dict[str, Any]]:
        """Return all lines of the log so far."""
        return self._written(
            self.told.serving,
            lambda fields: self.told.call(
                ASK, asked("well?"), fields=self.as_somebody(PATIENT, *fields)
            ),
        )


def until(holds: Callable[[], bool]) -> None:
    """Ask until something holds; each time asks the server."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s


@pytest.fixture(scope="module")
def limited(tell: Any, page: Any, written: Any) -> Iterator[Limited]:
    told = tell(f"""
credentials = ["jwt"]
max_message_bytes = 16384
max_metadata_bytes = 4096
max_concurrent_streams = {MAX_STREAMS}
max_connections = {MAX_CONNECTIONS}
[limits]
default_deadline_s = 1.0
stream_idle_s = 0.5
slow_reader_s = 0.5
calls_per_second = {CALLS_PER_SECOND:.1f}
engine_places = 1
max_waiting = 0
""")
    yield Limited(told, page, written)
    told.close()
    assert told.serving.stop() == 0


def test_a_message_that_is_too_large_is_refused_before_it_is_read(limited: Limited) -> None:
    answer = limited.call(ASK, asked("x" * 16_384))
    assert (answer.code, answer.reason) == ("RESOURCE_EXHAUSTED", "")
    assert limited.call(ASK, asked("x" * 7_000)).code == "OK"


def test_metadata_that_is_too_large_is_refused_before_it_is_read(limited: Limited) -> None:
    fields = limited.as_somebody((b"x-large", b"x" * 4_096))
    answer = limited.told.call(ASK, asked("well?"), fields=fields)
    assert (answer.code, answer.reason) == ("RESOURCE_EXHAUSTED", "")
    fields = limited.as_somebody((b"x-large", b"x" * 2_048))
    assert limited.told.call(ASK, asked("well?"), fields=fields).code == "OK"


def test_a_connection_too_many_is_closed(limited: Limited) -> None:
    def is_served(connection: Http2) -> bool:
        fields = limited.as_somebody(PATIENT)
        return connection.call(ASK, asked("well?"), fields=fields).code == "OK"

    limited.told.close()
    opened: list[Http2] = []

    def one_more() -> bool:
        try:
            connection = limited.connect()
        except OSError:
            return False
        opened.append(connection)
        try:
            return is_served(connection)
        except OSError:
            opened.pop().close()
            return False

    for _ in range(MAX_CONNECTIONS):
        until(one_more)  # what was open before this test is closed sooner or later
    assert not one_more()
    assert all(map(is_served, opened))  # those that are open are not the ones to go
    opened.pop().close()
    until(one_more)
    while opened:
        opened.pop().close()
    until(one_more)
    opened.pop().close()


def test_more_streams_than_a_connection_may_have_are_refused(limited: Limited) -> None:
    with limited.connect() as connection:
        open_ = [
            connection.begin(CHAT, limited.as_somebody(PATIENT)) for _ in range(MAX_STREAMS + 5)
        ]
        answers = [connection.answer(stream) for stream in open_]
    assert [each.reason for each in answers if each.code] == ["STREAM_IDLE"] * MAX_STREAMS
    resets = [each.reset_with for each in answers if not each.code]
    assert resets == [ENHANCE_YOUR_CALM] * 5


def test_a_rapid_reset_reaches_few_handlers(limited: Limited) -> None:
    """CVE-2023-44487."""
    before = limited.figure(STARTED)
    with limited.connect() as connection:
        fields = limited.as_somebody(PATIENT)
        for _ in range(1_000):
            try:
                connection.reset(connection.begin(CHAT, fields))
            except OSError:  # the server has sent it away
                break
        until(lambda: limited.figure(IN_FLIGHT) == 0)
    assert limited.call(ASK, asked("well?")).code == "OK"
    assert limited.figure(STARTED) - before <= 2 * MAX_STREAMS


def test_a_principal_that_calls_too_often_is_told_when_to_come_back(limited: Limited) -> None:
    shed = SHED % "rate_limited"
    before = limited.figure(shed)
    fields = limited.as_somebody(PATIENT)
    with limited.connect() as connection:
        calls = [connection.begin(ASK, fields) for _ in range(MAX_STREAMS)]
        for call in calls:
            connection.send(call, asked(" "))
        answers = [connection.answer(call) for call in calls]
        refused = [each for each in answers if each.reason == "RATE_LIMITED"]
        passed = [each.code for each in answers if each not in refused]
        assert passed[:CALLS_PER_SECOND] == ["INVALID_ARGUMENT"] * CALLS_PER_SECOND
        assert refused
        for each in refused:
            assert each.code == "RESOURCE_EXHAUSTED"
            assert [v.subject for v in each.detail("QuotaFailure").violations] == ["caller"]
            check_pushback(each)
        others = connection.call(ASK, asked("well?"), fields=limited.as_somebody(PATIENT))
        assert others.code == "OK"
    assert limited.figure(shed) - before == len(refused)


def check_pushback(answer: Any) -> None:
    delay_ms = answer.detail("RetryInfo").retry_delay.ToMilliseconds()
    assert 1 <= delay_ms <= 3_600_000
    assert int(answer.fields["grpc-retry-pushback-ms"]) == delay_ms


def test_without_a_place_calls_are_refused_and_probes_are_not(limited: Limited) -> None:
    shed = SHED % "queue_full"
    before = limited.figure(shed)
    with limited.connect() as connection:
        held = connection.begin(ASK, limited.as_somebody(PATIENT))
        connection.send(held, asked("hold"))
        until(lambda: limited.figure(IN_FLIGHT) == 1)
        for path in (ASK, STREAM):
            answer = limited.call(path, asked("well?"))
            assert (answer.code, answer.reason) == ("UNAVAILABLE", "OVERLOADED")
            check_pushback(answer)
        healthy = limited.told.call(HEALTH, b"")
        assert health_pb2.HealthCheckResponse.FromString(*healthy.messages).status == 1
        assert json.loads(limited.page(limited.told.serving, "/readyz"))["ready"]
        assert limited.figure(shed) - before == 2
        connection.reset(held)
        until(lambda: limited.figure(IN_FLIGHT) == 0)
    assert limited.call(ASK, asked("well?")).code == "OK"


@pytest.mark.parametrize("path", [ASK, STREAM])
def test_a_call_without_a_deadline_gets_one(path: str, limited: Limited) -> None:
    answer = limited.told.call(path, asked("hold"), fields=limited.as_somebody())
    assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert limited.figure(IN_FLIGHT) == 0


def test_a_stream_in_which_nothing_comes_is_ended(limited: Limited) -> None:
    with limited.connect() as connection:
        answer = connection.answer(connection.begin(CHAT, limited.as_somebody(PATIENT)))
    assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "STREAM_IDLE")
    last = v2.ChatStreamResponse.FromString(answer.messages[-1])
    assert last.failed == answer.status


def test_a_client_that_takes_nothing_gives_its_place_back(limited: Limited) -> None:
    request_id = uuid.uuid4().hex
    fields = limited.as_somebody(PATIENT, (b"x-request-id", request_id.encode()))
    with limited.connect(window_bytes=0) as connection:
        connection.send(connection.begin(STREAM, fields), asked("flood"))
        until(lambda: limited.figure(IN_FLIGHT) == 1)
        until(lambda: limited.figure(IN_FLIGHT) == 0)
        assert limited.call(ASK, asked("well?")).code == "OK"
    [line] = [each for each in limited.lines() if each.get("request_id") == request_id]
    assert (line["grpc_code"], line["reason"]) == ("DEADLINE_EXCEEDED", "READER_TOO_SLOW")
