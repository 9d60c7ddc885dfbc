"""Where spans go: an OTLP receiver, as the OpenTelemetry Collector is, by gRPC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from kotaemon_grpc.telemetry.otlp_exporter import OtlpExporter

DEFAULT_TIMEOUT_S = 10.0  # OTLP exporter specification, OTEL_EXPORTER_OTLP_TIMEOUT

_HEADER = re.compile(r"(?!grpc-)([0-9a-z_.-]+)(?<!-bin)[ \t]*:[ \t]*([\x20-\x7e]+)")
"""ASCII metadata that an application may set ("gRPC over HTTP2", Custom-Metadata)."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Which receiver.

    Args:
        endpoint: host and port, as `collector.example:4317`.
        ca: a PEM file with the CAs that its certificate may come from; None for those
            that gRPC trusts by itself.
        insecure: plain text, for a receiver beside the server; `ca` has no meaning then.
        headers_file: metadata for it, a `name: value` a line; it may hold secrets.
        timeout_s: the seconds that an export may take, with all its attempts.
    """

    endpoint: str
    ca: Path | None = None
    insecure: bool = False
    headers_file: Path | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


def open_exporter(receiver: Receiver, *, version: str, instance: str) -> OtlpExporter:
    """Start to export spans. Nothing is connected to before there is one.

    Args:
        receiver: where to.
        version: of this program.
        instance: the name of this server among those of the same kind.

    Raises:
        OperatorError: a package is missing, or a setting or a file is no good.
    """
    try:
        from kotaemon_grpc.telemetry import otlp_exporter  # noqa: PLC0415 - an extra brings it
    except ImportError as error:
        raise OperatorError(
            "traces.endpoint is set, and the package opentelemetry-proto is missing; "
            'install it with: pip install "kotaemon-grpc[server,otlp]"'
        ) from error
    return otlp_exporter.OtlpExporter(
        receiver.endpoint,
        credentials=_credentials(receiver),
        headers=_headers(receiver.headers_file),
        resource={
            "service.name": "kotaemon-grpc",
            "service.version": version,
            "service.instance.id": instance,
        },
        timeout_s=receiver.timeout_s,
    )


def _credentials(receiver: Receiver) -> grpc.ChannelCredentials | None:
    if receiver.insecure:
        return None
    roots = None if receiver.ca is None else _read(receiver.ca, "traces.ca")
    if roots is not None and b"-----BEGIN CERTIFICATE-----" not in roots:
        raise OperatorError(f"traces.ca: {receiver.ca} has no certificate")
    return grpc.ssl_channel_credentials(roots)


def _headers(file: Path | None) -> tuple[tuple[str, str], ...]:
    if file is None:
        return ()
    headers = []
    lines = _read(file, "traces.headers_file").decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found = _HEADER.fullmatch(line.strip())
            if found is None:
                # The line may hold a secret.
                raise OperatorError(
                    f'traces.headers_file: line {number} of {file} is not a "name: value"'
                )
            headers.append((found[1], found[2]))
    return tuple(headers)


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{setting}: {file} cannot be read: {error.strerror}") from error
