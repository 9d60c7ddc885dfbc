"""What users can watch: for metrics, logs and traces of their own."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kotaemon_grpc.client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kotaemon_grpc.client.errors import CallError

Headers = tuple[tuple[str, str], ...]

# What gRPC takes as a header of text; anything else would fail the call
# (PROTOCOL-HTTP2 of gRPC, "Custom-Metadata").
_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_VALUE = re.compile(r"[\x20-\x7e]*")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Call:
    """A call, with all its attempts. Each is equal to itself alone, so it can be a key.

    Attributes:
        method: its whole name, as "/kotaemon.v2.AgentService/AskQuestion".
        timeout_s: the deadline of all its attempts together, in seconds from its start;
            None for a dialogue, which has none.
        request_id: what makes a repetition safe; empty if the call changes nothing, and
            for a dialogue, whose questions have one each.
    """

    method: str
    timeout_s: float | None
    request_id: str = ""


class Hooks:
    """Is told what becomes of calls. Inherit from it, and write the methods that you need.

    They are called on the event loop of the client, and must not block. One that
    raises is logged and does no harm.
    """

    def on_start(self, call: Call) -> None:
        """Begin a call."""

    def on_attempt(self, call: Call, attempt: int) -> None:
        """Begin an attempt of it, the first of which is 1."""

    def on_retry(self, call: Call, attempt: int, error: CallError, wait_s: float) -> None:
        """Wait after a failed attempt, before the next one."""

    def on_end(self, call: Call, error: BaseException | None, elapsed_s: float) -> None:
        """End a call.

        Args:
            call: the one of `on_start`.
            error: None if it went well. `asyncio.CancelledError` or `GeneratorExit` if
                the caller gave it up.
            elapsed_s: the time from its start, with all attempts and waits.
        """

    def headers(self, call: Call) -> Headers:  # noqa: ARG002 - for those who inherit
        """Return what an attempt is to carry on top, such as a `traceparent`."""
        return ()

    def on_reload(self, what: str, problem: str) -> None:
        """Look at files or targets that changed.

        Args:
            what: which, as "tls".
            problem: empty if the new ones are in use; else why the earlier ones stay.
        """


class AllHooks(Hooks):
    """Tells all of them, whatever one of them raises."""

    def __init__(self, hooks: Iterable[Hooks]) -> None:
        """Take what is told, in this order.

        Raises:
            ConfigurationError: it is something else.
        """
        try:
            self._hooks = tuple(hooks)
        except TypeError:
            raise ConfigurationError("hooks must be a list of Hooks") from None
        if not all(isinstance(each, Hooks) for each in self._hooks):
            raise ConfigurationError("each of the hooks must be an instance of Hooks")

    def on_start(self, call: Call) -> None:
        """See `Hooks`."""
        self._tell(lambda hooks: hooks.on_start(call))

    def on_attempt(self, call: Call, attempt: int) -> None:
        """See `Hooks`."""
        self._tell(lambda hooks: hooks.on_attempt(call, attempt))

    def on_retry(self, call: Call, attempt: int, error: CallError, wait_s: float) -> None:
        """See `Hooks`."""
        self._tell(lambda hooks: hooks.on_retry(call, attempt, error, wait_s))

    def on_end(self, call: Call, error: BaseException | None, elapsed_s: float) -> None:
        """See `Hooks`."""
        self._tell(lambda hooks: hooks.on_end(call, error, elapsed_s))

    def on_reload(self, what: str, problem: str) -> None:
        """See `Hooks`."""
        self._tell(lambda hooks: hooks.on_reload(what, problem))

    def headers(self, call: Call) -> Headers:
        """Join what they return; what could not be sent is left out."""
        joined: list[tuple[str, str]] = []
        self._tell(lambda hooks: joined.extend(_checked(hooks.headers(call))))
        return tuple(joined)

    def _tell(self, what: Callable[[Hooks], None]) -> None:
        for hooks in self._hooks:
            try:
                what(hooks)
            except Exception:  # noqa: BLE001 - whatever it is, the call goes on
                _log.exception("a hook of the client failed")


def _checked(headers: Headers) -> Headers:
    """Raise ValueError or TypeError for a header that gRPC would not send."""
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f'"{name}" is no header that can be sent')
    return headers
