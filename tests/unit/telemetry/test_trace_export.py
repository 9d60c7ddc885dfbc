from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.telemetry.otlp import Receiver, open_exporter
from kotaemon_grpc.telemetry.otlp_exporter import OtlpExporter
from kotaemon_grpc.telemetry.spans import Kind, Span
from kotaemon_grpc.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = "00f067aa0ba902b7"
A_BATCH = 512
LOST = "spans cannot be exported"


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Source:
    """Makes spans that are as good as ended."""

    exporter: OtlpExporter

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            Span("name", TraceContext(TRACE, SPAN, sampled=True), self.exporter).end()


def exporter_for(address: str, **arguments: Any) -> OtlpExporter:
    """Make an exporter in plain text, with a clock of the test's own if it has one."""
    settings: dict[str, Any] = {"credentials": None, "headers": (), "resource": {}, "timeout_s": 60}
    return OtlpExporter(address, **(settings | arguments))


async def test_a_span_arrives_as_it_was(traces: Any) -> None:
    span = Span(
        "kotaemon.v2.AgentService/AskQuestion",
        TraceContext(TRACE, SPAN, sampled=True, state="vendor=opaque"),
        traces.exporter,
        parent_id=PARENT,
        kind=Kind.SERVER,
        attributes={"text": "x", "whole": 3, "part": 0.5, "yes": True, "list": ("a", "b")},
        clock=iter([1_000, 2_000, 3_000]).__next__,
    )
    span.end_with(ValueError("what nobody may read"))

    [received] = await traces.spans()

    assert received.trace_id == TRACE
    assert received.span_id == SPAN
    assert received.parent_id == PARENT
    assert received.name == "kotaemon.v2.AgentService/AskQuestion"
    assert received.message.trace_state == "vendor=opaque"
    assert received.message.kind == 2
    assert received.message.flags == 0x301  # sampled, and the parent is known to be remote
    assert received.message.start_time_unix_nano == 1_000
    assert received.message.end_time_unix_nano == 3_000
    assert received.attributes == {
        "text": "x",
        "whole": 3,
        "part": 0.5,
        "yes": True,
        "list": ["a", "b"],
        "error.type": "builtins.ValueError",
    }
    assert received.events == [("exception", {"exception.type": "builtins.ValueError"})]
    assert received.message.events[0].time_unix_nano == 2_000
    assert received.is_error
    assert received.message.status.message == ""
    assert received.resource == {
        "service.name": "kotaemon-grpc",
        "service.version": "1.2.3",
        "service.instance.id": "here",
    }
    assert (traces.exporter.exported, traces.exporter.failed, traces.exporter.dropped) == (1, 0, 0)


async def test_spans_do_not_wait_for_the_end_of_the_server(
    otlp_receiver: Callable[..., Any],
) -> None:
    receiver = otlp_receiver()
    arrived = threading.Event()
    receiver.on_export = arrived.set
    exporter = exporter_for(receiver.address)

    Source(exporter).end()

    assert arrived.wait(60)
    await exporter.shutdown(timeout_s=60)


async def test_tls_and_metadata_are_those_of_the_settings(
    otlp_receiver: Callable[..., Any],
    certs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "from-the-environment=x")
    receiver = otlp_receiver(server_credentials(certs))
    headers = tmp_path / "headers"
    headers.write_text("authorization: Bearer key: 1\n\nx-scope:tenant \n")
    exporter = open_exporter(
        Receiver(receiver.address, ca=certs / "ca.pem", headers_file=headers),
        version="1",
        instance="here",
    )

    Source(exporter).end()
    await exporter.shutdown(timeout_s=60)

    assert exporter.exported == len(receiver.spans) == 1
    assert receiver.metadata[0]["authorization"] == "Bearer key: 1"
    assert receiver.metadata[0]["x-scope"] == "tenant"
    assert "from-the-environment" not in receiver.metadata[0]


async def test_a_receiver_that_is_not_trusted_gets_nothing(
    otlp_receiver: Callable[..., Any], certs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = otlp_receiver(server_credentials(certs))
    exporter = open_exporter(
        Receiver(receiver.address, timeout_s=0.5), version="1", instance="here"
    )

    Source(exporter).end()
    await exporter.shutdown(timeout_s=60)

    assert receiver.requests == []
    assert (exporter.exported, exporter.failed) == (0, 1)
    assert [record.getMessage() for record in caplog.records if LOST in record.getMessage()]


async def test_a_receiver_that_is_slow_costs_spans_and_they_are_counted(
    otlp_receiver: Callable[..., Any],
) -> None:
    receiver = otlp_receiver()
    arrived, go_on = threading.Event(), threading.Event()
    receiver.on_export = lambda: (arrived.set(), go_on.wait(60))
    exporter = exporter_for(receiver.address, max_waiting=3)
    source = Source(exporter)
    source.end()
    assert arrived.wait(60)

    source.end(5)

    assert exporter.dropped == 2
    go_on.set()
    await exporter.shutdown(timeout_s=60)
    assert (exporter.exported, exporter.dropped, exporter.failed) == (4, 2, 0)
    assert len(receiver.spans) == 4


async def test_a_receiver_that_never_answers_does_not_hold_up_the_end(
    otlp_receiver: Callable[..., Any],
) -> None:
    receiver = otlp_receiver()
    arrived, go_on = threading.Event(), threading.Event()
    receiver.on_export = lambda: (arrived.set(), go_on.wait(60))
    exporter = exporter_for(receiver.address)
    source = Source(exporter)
    source.end()
    assert arrived.wait(60)
    source.end(2)

    await exporter.shutdown(timeout_s=0.1)
    source.end()

    assert (exporter.exported, exporter.failed + exporter.dropped) == (0, 4)
    go_on.set()


async def test_a_span_that_was_dropped_at_the_end_is_not_sent_too(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def clock() -> float:
        """Hold the thread up where it has seen that something waits."""
        if threading.current_thread().name == "otlp":
            reached.set()
            go_on.wait(60)
        return 0.0

    others = set(threading.enumerate())
    exporter = exporter_for(f"localhost:{unused_tcp_port}", clock=clock)
    (thread,) = {each for each in threading.enumerate() if each.name == "otlp"} - others
    Source(exporter).end(3)
    assert reached.wait(60)

    await exporter.shutdown(timeout_s=0)
    go_on.set()
    await asyncio.to_thread(thread.join, 60)

    assert not thread.is_alive()
    assert (exporter.exported, exporter.dropped, exporter.failed) == (0, 3, 0)
    assert caplog.messages == []


async def test_a_receiver_that_is_not_there_costs_spans_and_they_are_counted(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = exporter_for(f"localhost:{unused_tcp_port}", timeout_s=0.5)

    Source(exporter).end(2)
    await exporter.shutdown(timeout_s=60)

    assert (exporter.exported, exporter.failed, exporter.dropped) == (0, 2, 0)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{LOST} to localhost:{unused_tcp_port}: ")
    assert line.endswith("; 2 lost so far, and 0 dropped")


async def test_an_outage_is_ridden_out(otlp_receiver: Callable[..., Any]) -> None:
    receiver = otlp_receiver()
    refusals = iter([grpc.StatusCode.UNAVAILABLE])

    def refuse_once() -> None:
        receiver.refuses_with = next(refusals, None)

    receiver.on_export = refuse_once
    exporter = exporter_for(receiver.address)

    Source(exporter).end()
    await exporter.shutdown(timeout_s=60)

    assert (exporter.exported, exporter.failed, len(receiver.spans)) == (1, 0, 1)


async def test_spans_that_the_receiver_rejects_are_counted(
    otlp_receiver: Callable[..., Any],
) -> None:
    receiver = otlp_receiver()
    receiver.rejects = 2
    exporter = exporter_for(receiver.address)

    Source(exporter).end(5)
    await exporter.shutdown(timeout_s=60)

    assert (exporter.exported, exporter.failed) == (3, 2)


@pytest.mark.parametrize(("seconds_an_export", "lines"), [(0, 1), (30, 2), (60, 3)])
async def test_failures_are_told_once_a_minute_and_without_the_receivers_words(
    otlp_receiver: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    seconds_an_export: float,
    lines: int,
) -> None:
    receiver = otlp_receiver()
    receiver.refuses_with = grpc.StatusCode.UNAUTHENTICATED
    clock = Clock()
    three, exports = threading.Event(), []

    def pass_time() -> None:
        clock.now_s += seconds_an_export
        exports.append(clock.now_s)
        if len(exports) == 3:
            three.set()

    receiver.on_export = pass_time
    exporter = exporter_for(receiver.address, clock=clock)

    Source(exporter).end(3 * A_BATCH)

    assert three.wait(60)
    await exporter.shutdown(timeout_s=60)
    assert exporter.failed == 3 * A_BATCH
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == lines
    assert all("UNAUTHENTICATED" in line for line in told)
    assert "key-of-the-receiver" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ca": "missing"}, "traces.ca: .*missing cannot be read: No such file"),
        ({"ca": "headers"}, "traces.ca: .*headers has no certificate"),
        ({"headers_file": "missing"}, "traces.headers_file: .*missing cannot be read"),
        ({"headers_file": "headers"}, "line 2 of .*headers is not"),
    ],
)
def test_what_is_no_good_is_told_at_the_start_and_holds_no_secret(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    (tmp_path / "headers").write_text("x-good: yes\nAuthorization: hunter2\n")
    files = {
        key: tmp_path / value if key in ("ca", "headers_file") else value
        for key, value in settings.items()
    }

    with pytest.raises(OperatorError, match=problem) as raised:
        open_exporter(
            Receiver(**({"endpoint": "localhost:4317"} | files)), version="1", instance="here"
        )

    assert "hunter2" not in str(raised.value)


def test_a_missing_package_is_named_with_the_way_to_get_it() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from kotaemon_grpc.core.errors import OperatorError\n"
        "from kotaemon_grpc.telemetry.otlp import Receiver, open_exporter\n"
        "try:\n"
        "    open_exporter(Receiver('localhost:4317'), version='1', instance='here')\n"
        "except OperatorError as error:\n"
        "    print(error)\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert 'pip install "kotaemon-grpc[server,otlp]"' in ran.stdout


def server_credentials(certs: Path) -> grpc.ServerCredentials:
    """Show the development server's certificate."""
    pair = ((certs / "server-key.pem").read_bytes(), (certs / "server.pem").read_bytes())
    return grpc.ssl_server_credentials([pair])
