"""Structured logs on stdout: one JSON object a line, or text for people.

No line has the text of a question, an answer or a document. Records of libraries
are cut to what cannot carry any: the first line of the message, with what was
filled into it if that is nothing but numbers and names of methods; and of an
exception its type and where it was raised, without its own words.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

import structlog

from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.exceptions import without_words
from kotaemon_grpc.telemetry.lines import JsonLines, StructlogLines, json_line
from kotaemon_grpc.telemetry.log_stream import AuditStream, LogStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from kotaemon_grpc.telemetry.lines import Level, LineWriter

Format: TypeAlias = Literal["json", "console"]

# An error to grpcio, from its logger `grpc._cython.cygrpc`, for each value of metadata that
# it cannot read. Any client can cause it, as often as it likes.
_NOT_UTF_8 = "Invalid encoding on %s"
_CLIENTS_INTERVAL_S = 1.0

# The path of a call ("gRPC over HTTP2", Requests), as grpcio names methods.
_METHOD = re.compile(r"/?[A-Za-z_][\w.]{0,127}/[A-Za-z_]\w{0,127}", re.ASCII)


class LoggerFactory:
    """Makes what the parts of the program log with, all to one stream.

    Calling it makes the logger of a part, by its name.
    """

    def __init__(
        self,
        output: TextIO,
        level: Level,
        processors: Sequence[Processor],
        *,
        for_people: bool,
        libraries: _LibraryFilter,
    ) -> None:
        """Take where lines go, which of them, how structlog makes them and for whom."""
        self._output = output
        self._level = level
        self._for_people = for_people
        self._libraries = libraries
        self._processors = processors
        self._wrapper = structlog.make_filtering_bound_logger(logging.NOTSET)
        self._writers: list[LineWriter] = []

    def __call__(self, name: str, *, audit: bool = False) -> FilteringBoundLogger:
        """Make the logger of a part of the program.

        Args:
            name: of the part.
            audit: whether its lines are for those who audit: they are written whatever
                the level is, and have room of their own in a `LogStream`.
        """
        output, processors = self._output, self._processors
        if not audit:
            processors = [self._drop_unimportant, *processors]
        elif isinstance(output, LogStream):
            output = AuditStream(output)
        bound: FilteringBoundLogger = structlog.wrap_logger(
            structlog.WriteLogger(output),
            processors=processors,
            wrapper_class=self._wrapper,
            cache_logger_on_first_use=True,
        ).bind(**{names.KEY_LOGGER: name})
        return bound

    def lines(self, name: str) -> LineWriter:
        """Make what a part of the program writes lines with that come often."""
        self._writers.append(self._line_writer(name))
        return self._writers[-1]

    def set_level(self, level: Level) -> None:
        """Write what is as important as this or more, from now on."""
        self._level = level
        self._libraries.set_level(level)
        for each in self._writers:
            each.set_level(level)

    def _line_writer(self, name: str) -> LineWriter:
        if self._for_people:
            return StructlogLines(self(name), self._level)
        if isinstance(self._output, LogStream):
            return JsonLines(self._output.put, name, self._level)
        return JsonLines(
            lambda line: self._output.write((line if isinstance(line, bytes) else line()).decode()),
            name,
            self._level,
        )

    def _drop_unimportant(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if logging.getLevelNamesMapping()[method.upper()] < _number(self._level):
            raise structlog.DropEvent
        return event


_OURS = "kotaemon_grpc."


class _LibraryFilter(logging.Filter):
    """Lets through what libraries say that is important enough.

    What a client alone has caused is made a warning, and is told once a second at most.
    """

    def __init__(self, level: Level, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self.set_level(level)
        self._quiet_until_s = -math.inf

    def set_level(self, level: Level) -> None:
        self._level = number = _number(level)
        # Below warnings, libraries talk about themselves.
        logging.getLogger().setLevel(
            max(number, logging.WARNING) if number > logging.DEBUG else number
        )

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == _NOT_UTF_8:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            now_s = self._clock()
            if now_s < self._quiet_until_s:
                return False
            self._quiet_until_s = now_s + _CLIENTS_INTERVAL_S
        return record.levelno >= self._level


def configure(
    level: Level,
    format: Format,  # noqa: A002 - the name of the setting
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LoggerFactory:
    """Send the logs of this program and of its libraries to one stream.

    Args:
        level: what is less important than this is not written.
        format: `json` for machines, `console` for people.
        stream: where to; stdout if None.
        clock: seconds that only grow.

    Returns:
        What makes the loggers of the parts of the program.
    """
    output = sys.stdout if stream is None else stream
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key=names.KEY_TIMESTAMP),
        _exception_without_words,
    ]
    rendering: list[Processor] = [_as_json]
    if format == "console":
        colored = structlog.dev.ConsoleRenderer(colors=output.isatty())
        rendering = [_exception_as_text, colored]
    handler = logging.StreamHandler(output)
    libraries = _LibraryFilter(level, clock)
    handler.addFilter(libraries)
    _route_libraries(handler, shared, rendering)
    return LoggerFactory(
        output,
        level,
        [*shared, *rendering],
        for_people=format == "console",
        libraries=libraries,
    )


def _route_libraries(
    handler: logging.Handler, shared: list[Processor], rendering: list[Processor]
) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            pass_foreign_args=True,
        )
    )
    logging.getLogger().handlers[:] = [handler]


def _first_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event["_record"]
    # Libraries fill in what callers sent: then their template has to do.
    found = event.pop("positional_args", None) or ()
    filled_in = found.values() if isinstance(found, dict) else found
    is_whole = record.name.startswith(_OURS) or all(map(_tells_nothing, filled_in))
    said = event[names.KEY_EVENT] if is_whole else record.msg
    # asyncio's further lines show the repr of the exception that nobody fetched.
    lines = str(said).splitlines()
    event[names.KEY_EVENT] = lines[0] if lines else ""
    return event


def _tells_nothing(argument: object) -> bool:
    if isinstance(argument, str):
        return _METHOD.fullmatch(argument) is not None
    return isinstance(argument, int | float)


def _exception_without_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event[names.KEY_EXCEPTION] = without_words(error)
    return event


def _exception_as_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if names.KEY_EXCEPTION in event:
        event[names.KEY_EXCEPTION] = "\n".join(
            "\n    ".join([link["type"], *link["frames"]]) for link in event[names.KEY_EXCEPTION]
        )
    return event


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return json_line(event).decode().removesuffix("\n")


def _number(level: Level) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
