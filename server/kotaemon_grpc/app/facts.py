"""What the page of the operations port shows of a running server."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kotaemon_grpc.app.certificates import certificate_section
from kotaemon_grpc.core.errors import AgentError
from kotaemon_grpc.transport.operations import Facts, Row, Section, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kotaemon_grpc.app.access import Access
    from kotaemon_grpc.app.backend import Backend
    from kotaemon_grpc.app.front import Listening
    from kotaemon_grpc.auth.watched_files import WatchedFiles
    from kotaemon_grpc.config import Config
    from kotaemon_grpc.config.fields import Section as Settings
    from kotaemon_grpc.transport.operations import ServerTLS

_SERVER_LIMITS = (
    "max_message_bytes",
    "max_metadata_bytes",
    "max_concurrent_streams",
    "max_connections",
)
_UNITS = {"_s": " s", "_bytes": " bytes"}
_ANY_NUMBER_AT_0 = "calls_per_second"


class ServerFacts:
    """Gathers them anew for each request. What is not there yet is left out."""

    def __init__(self, config: Config) -> None:
        """Take the settings; the rest comes as the server is put together."""
        self.config = config
        self._started_s = time.monotonic()
        self.listening: Sequence[Listening] = ()
        self.operations_files: WatchedFiles[ServerTLS] | None = None
        self.backend: Backend | None = None
        self.access: Access | None = None
        self.watched: Sequence[WatchedFiles[Any]] = ()

    async def __call__(self) -> Facts:
        """Gather them."""
        sections = [self._listeners(), self._certificates()]
        if self.backend is not None:
            sections += [_places(self.backend), await asyncio.to_thread(_store, self.backend)]
        if self.access is not None and self.access.sources:
            sections.append(_sources(self.access))
        if self.watched:
            sections.append(_files(self.watched))
        sections.append(self._limits())
        return Facts(
            name="kotaemon-grpc",
            version=version("kotaemon-grpc"),
            uptime_s=time.monotonic() - self._started_s,
            sections=tuple(sections),
        )

    def _listeners(self) -> Section:
        rows = tuple(
            Row(
                (
                    str(each.address),
                    f"TLS {each.plan.min_tls} or later" if each.plan.tls else "plaintext",
                    " or ".join(each.plan.credentials),
                ),
                State.OK if each.plan.tls else State.WARN,
            )
            for each in self.listening
        )
        return Section("Listeners", ("Address", "Transport", "Credentials"), rows)

    def _certificates(self) -> Section:
        files = {path: held for each in self.listening for path, held in each.certificates.items()}
        if self.operations_files is not None:
            files |= self.operations_files.value.material.certificates
        return certificate_section(files, datetime.now(UTC))

    def _limits(self) -> Section:
        limits, server = self.config.limits, self.config.server
        rows = (
            *_settings("limits", limits, type(limits).model_fields),
            *_settings("server", server, _SERVER_LIMITS),
        )
        return Section("Limits", ("Setting", "Value", "Meaning"), rows)


def _settings(name: str, section: Settings, keys: Iterable[str]) -> Iterator[Row]:
    """Make the rows of some settings of a section."""
    fields = type(section).model_fields
    for key in keys:
        value = _figure(key, getattr(section, key))
        yield Row((f"{name}.{key}", value, fields[key].description or ""))


def _figure(key: str, value: float) -> str:
    if key == _ANY_NUMBER_AT_0 and not value:
        return "any number"
    unit = next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")
    return f"{value:.10g}{unit}"


def _places(backend: Backend) -> Section:
    rows = tuple(
        Row(
            (name, str(each.in_flight), str(each.waiting), str(each.places)),
            State.WARN if each.waiting else State.OK,
        )
        for name, each in backend.places.items()
    )
    return Section("Engines", ("Engine", "In flight", "Waiting", "Places"), rows)


def _store(backend: Backend) -> Section:
    store = backend.store
    try:
        rows = [
            Row(("Documents", str(store.document_count()))),
            Row(("Passages", str(store.passage_count()))),
        ]
        lag = store.index_lag()
    except AgentError as error:
        rows, lag = [Row(("Store", str(error)), State.BAD)], 0
    rows.append(Row(("Collections behind", str(lag)), State.WARN if lag else State.OK))
    return Section("Store", ("What", "Value"), tuple(rows))


def _sources(access: Access) -> Section:
    rows = tuple(_last_read(source.name, source.problem) for source in access.sources)
    return Section("Keys that callers are verified with", ("Source", "Last read"), rows)


def _files(watched: Sequence[WatchedFiles[Any]]) -> Section:
    rows = tuple(_last_read(each.name, each.problem) for each in watched)
    return Section("Files that are read again", ("File", "Last read"), rows)


def _last_read(name: str, problem: str) -> Row:
    return Row((name, problem or "up to date"), State.WARN if problem else State.OK)
