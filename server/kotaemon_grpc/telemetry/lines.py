"""Lines of the log that are written often, made in the least time.

They look like all others, which structlog makes. On a console, where few are
written, structlog makes these too.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import orjson

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

Level: TypeAlias = Literal["debug", "info", "warning", "error"]

# C1 control characters and the separators of lines and paragraphs, at which some
# readers break a line or a terminal is steered; and what no UTF-8 can hold.
_UNSAFE = re.compile("[\x80-\x9f\u2028\u2029\ud800-\udfff]")
_FIRST_SURROGATE, _LAST_SURROGATE = "\ud800", "\udfff"
_JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class LineWriter(Protocol):
    """Takes lines. It must be called on one thread, and never blocks or raises."""

    def set_level(self, level: Level) -> None:
        """Write what is as important as this or more."""
        ...

    def writes(self, level: Level) -> bool:
        """Tell whether lines of this level are written."""
        ...

    def write(self, level: Level, event: str, fields: dict[str, object]) -> None:
        """Write a line, unless its level is not written.

        Args:
            level: how much it matters.
            event: what happened, one of `names.EVENT_…`.
            fields: what else there is to say, of types that JSON has. The writer
                may add to it: it is made for this line alone.
        """
        ...

    def later(
        self, level: Level, event: str, make: Callable[..., dict[str, object]], *record: object
    ) -> None:
        """Write a line whose fields are made when it is written.

        To make many lines one after the other takes a fraction of the time that each takes
        between two calls.

        Args:
            level: how much it matters.
            event: what happened, one of `names.EVENT_…`.
            make: makes the fields of `record`, on any thread.
            record: values that do not change any more.
        """
        ...


class JsonLines:
    """One JSON object a line, in UTF-8.

    Args:
        put: takes a line with its end, or what makes it, and does not block.
        logger: the name of the part of the program whose lines they are.
        level: what is less important than this is not written.
        clock_s: tells the seconds since the Unix epoch.
    """

    def __init__(
        self,
        put: Callable[[bytes | Callable[[], bytes]], object],
        logger: str,
        level: Level,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._put = put
        self._logger = logger
        self._clock_s = clock_s
        self.set_level(level)

    def set_level(self, level: Level) -> None:
        """Write what is as important as this or more."""
        self._levels = _levels_from(level)

    def writes(self, level: Level) -> bool:
        """Tell whether lines of this level are written."""
        return level in self._levels

    def write(self, level: Level, event: str, fields: dict[str, object]) -> None:
        """Write a line; see `LineWriter`."""
        if level in self._levels:
            self._put(self._line(level, event, self._clock_s(), lambda: fields))

    def later(
        self, level: Level, event: str, make: Callable[..., dict[str, object]], *record: object
    ) -> None:
        """Write a line whose fields are made when it is written; see `LineWriter`."""
        if level in self._levels:
            self._put(partial(self._line, level, event, self._clock_s(), make, *record))

    def _line(
        self,
        level: Level,
        event: str,
        at_s: float,
        make: Callable[..., dict[str, object]],
        *record: object,
    ) -> bytes:
        now = dt.datetime.fromtimestamp(at_s, dt.UTC)
        if not now.microsecond:
            now = now.replace(microsecond=1)  # orjson would leave out a fraction that is zero
        fields = make(*record)
        fields[names.KEY_EVENT] = event
        fields[names.KEY_LOGGER] = self._logger
        fields[names.KEY_LEVEL] = level
        fields[names.KEY_TIMESTAMP] = now
        return json_line(fields)


class StructlogLines:
    """Lines as a logger of structlog makes them."""

    def __init__(self, logger: FilteringBoundLogger, level: Level) -> None:
        """Take the logger, and the level that it is set to."""
        self._logger = logger
        self.set_level(level)

    def set_level(self, level: Level) -> None:
        """Take the level that the logger is now set to."""
        self._levels = _levels_from(level)

    def writes(self, level: Level) -> bool:
        """Tell whether lines of this level are written."""
        return level in self._levels

    def write(self, level: Level, event: str, fields: dict[str, object]) -> None:
        """Write a line; see `LineWriter`."""
        self._logger.log(logging.getLevelNamesMapping()[level.upper()], event, **fields)

    def later(
        self, level: Level, event: str, make: Callable[..., dict[str, object]], *record: object
    ) -> None:
        """Write a line now: people read along; see `LineWriter`."""
        self.write(level, event, make(*record))


def json_line(fields: Mapping[str, Any]) -> bytes:
    """Make a line of JSON in UTF-8, with its end. What is of no type of JSON is its repr.

    Whatever stands in the fields, the line is one line and valid: characters that
    are unsafe in a log are escaped as JSON does it, and lone surrogates, which
    stand for bytes that were no UTF-8, as Python does it.
    """
    try:
        line = orjson.dumps(fields, default=_as_text, option=_JSON_OPTIONS)
        if line.isascii():
            return line
        text = line.decode()
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        text = json.dumps(fields, ensure_ascii=False, default=_as_text) + "\n"
    return _UNSAFE.sub(_escaped, text).encode()


def _escaped(unsafe: re.Match[str]) -> str:
    character = unsafe[0]
    escape = f"\\u{ord(character):04x}"
    # An escape of JSON for a lone surrogate is one that strict readers refuse.
    return "\\" + escape if _FIRST_SURROGATE <= character <= _LAST_SURROGATE else escape


def _as_text(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return repr(value)


def _levels_from(level: Level) -> frozenset[str]:
    least = logging.getLevelNamesMapping()[level.upper()]
    return frozenset(
        name.lower() for name, number in logging.getLevelNamesMapping().items() if number >= least
    )
