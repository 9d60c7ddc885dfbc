from __future__ import annotations

import datetime as dt
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from kotaemon_grpc.telemetry.otlp import Receiver, open_exporter
from kotaemon_grpc.telemetry.tracing import Tracing
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from kotaemon_grpc.telemetry.otlp_exporter import OtlpExporter


NOBODY = 65534


@pytest.fixture
def nobody() -> Callable[[], AbstractContextManager[None]]:
    """Have no privileges for a while: root may read everything."""

    @contextmanager
    def without_privileges() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(user)

    return without_privileges


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as a receiver reads it."""

    message: Any
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return self.message.name

    @property
    def trace_id(self) -> str:
        return self.message.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.message.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.message.parent_span_id.hex()

    @property
    def is_error(self) -> bool:
        return self.message.status.code == Status.STATUS_CODE_ERROR

    @property
    def has_status(self) -> bool:
        return self.message.status.code != Status.STATUS_CODE_UNSET

    @property
    def attributes(self) -> dict[str, Any]:
        return _values(self.message.attributes)

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, _values(event.attributes)) for event in self.message.events]


def _values(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: Any) -> Any:
    found = getattr(value, value.WhichOneof("value"))
    return [_value(each) for each in found.values] if hasattr(found, "values") else found


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """A receiver of traces on loopback, which can be told to misbehave."""

    def __init__(self, credentials: grpc.ServerCredentials | None) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.refuses_with: grpc.StatusCode | None = None
        self.rejects = 0
        self.on_export: Callable[[], Any] = lambda: None
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        port = (
            self._server.add_insecure_port("localhost:0")
            if credentials is None
            else self._server.add_secure_port("localhost:0", credentials)
        )
        self.address = f"localhost:{port}"
        self._server.start()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name for it
        self.on_export()
        if self.refuses_with is not None:
            context.abort(self.refuses_with, "key-of-the-receiver is not known here")
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        response = trace_service_pb2.ExportTraceServiceResponse()
        response.partial_success.rejected_spans = self.rejects
        return response

    @property
    def spans(self) -> list[ReceivedSpan]:
        return [
            ReceivedSpan(span, _values(of_resource.resource.attributes))
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def stop(self) -> None:
        self._server.stop(None).wait()


@dataclass
class Traces:
    """Tracing into a receiver; `await spans()` ends the export and returns all of them."""

    receiver: OtlpReceiver
    exporter: OtlpExporter

    def tracing(self, sample_ratio: float = 1.0, *, follow_parent: bool = True) -> Tracing:
        return Tracing(self.exporter, sample_ratio=sample_ratio, follow_parent=follow_parent)

    async def spans(self) -> list[ReceivedSpan]:
        await self.exporter.shutdown(timeout_s=60)
        return self.receiver.spans


@pytest.fixture
def otlp_receiver() -> Iterator[Callable[..., OtlpReceiver]]:
    """Start a receiver: `otlp_receiver(credentials)`; plain text without."""
    started: list[OtlpReceiver] = []

    def start(credentials: grpc.ServerCredentials | None = None) -> OtlpReceiver:
        started.append(OtlpReceiver(credentials))
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


@pytest.fixture
def traces(otlp_receiver: Callable[..., OtlpReceiver]) -> Traces:
    """Trace everything, into a receiver of the test's own."""
    receiver = otlp_receiver()
    exporter = open_exporter(
        Receiver(receiver.address, insecure=True), version="1.2.3", instance="here"
    )
    return Traces(receiver, exporter)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += dt.timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pki_dir(tmp_path: Path) -> Path:
    pki.ensure(tmp_path / "pki")
    return tmp_path / "pki"
