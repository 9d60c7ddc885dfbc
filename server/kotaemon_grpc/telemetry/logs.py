"""Structured logs on stdout: one JSON object a line, or text for people.

No line has the text of a question, an answer or a document. Records of libraries
are cut to what cannot carry any: the first line of the message, and of an
exception its type and where it was raised, without its own words.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

import structlog

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    LoggerFactory: TypeAlias = Callable[[str], FilteringBoundLogger]


Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["json", "console"]


def configure(level: Level, format: Format, stream: TextIO | None = None) -> LoggerFactory:  # noqa: A002 - the name of the setting
    """Send the logs of this program and of its libraries to one stream.

    Args:
        level: what is less important than this is not written.
        format: `json` for machines, `console` for people.
        stream: where to; stdout if None.

    Returns:
        A function that makes the logger of a part of the program, by its name.
    """
    output = sys.stdout if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key=names.KEY_TIMESTAMP),
        _exception_without_words,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=output.isatty())
    )
    _route_libraries(output, number, shared, renderer)
    wrapper = structlog.make_filtering_bound_logger(number)

    def logger(name: str) -> FilteringBoundLogger:
        bound: FilteringBoundLogger = structlog.wrap_logger(
            structlog.WriteLogger(output),
            processors=[*shared, renderer],
            wrapper_class=wrapper,
            cache_logger_on_first_use=True,
        ).bind(**{names.KEY_LOGGER: name})
        return bound

    return logger


def _route_libraries(
    output: TextIO, level: int, shared: list[Processor], renderer: Processor
) -> None:
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Below warnings, libraries talk about themselves.
    root.setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)


def _first_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # asyncio's further lines show the repr of the exception that nobody fetched.
    lines = str(event[names.KEY_EVENT]).splitlines()
    event[names.KEY_EVENT] = lines[0] if lines else ""
    return event


def _exception_without_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event[names.KEY_EXCEPTION] = _trace(error)
    return event


def _trace(error: BaseException | None) -> list[dict[str, object]]:
    chain: list[dict[str, object]] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = traceback.extract_tb(error.__traceback__)
        chain.append(
            {
                "type": f"{type(error).__module__}.{type(error).__qualname__}",
                "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            }
        )
        error = error.__cause__ or error.__context__
    return chain
