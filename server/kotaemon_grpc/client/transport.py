"""How calls leave the client: the seam that can be replaced, in tests above all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from google.protobuf.message import Message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

R_co = TypeVar("R_co", bound=Message, covariant=True)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class CallSpec(Generic[R_co]):
    """One attempt of a call.

    Attributes:
        method: its whole name, as "/kotaemon.v2.AgentService/AskQuestion".
        response_type: the class of what the server sends.
        metadata: the headers, with names in lower case; credentials are among them,
            and `repr` leaves them out.
        timeout_s: when it has to end, in seconds from now; None only for a dialogue,
            which lasts as long as both sides want.
    """

    method: str
    response_type: type[R_co]
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_s: float | None = None


class Transport(Protocol):
    """Makes one attempt of a call: it repeats nothing, and puts nothing off.

    Each of the four methods raises `CallError` for whatever ends a call badly: what
    the server said (`errors.error_from_rpc`), UNAVAILABLE when none is reached,
    CANCELLED when the transport itself gave the call up. `asyncio.CancelledError` is
    left to the caller's own task when that is cancelled; the call is then cancelled
    too. What an iterator of requests raises ends the call and is raised as it is. When
    a call has ended, nothing reads its requests any more and the iterator is closed.

    All methods can be used concurrently, on the event loop that made the transport.
    """

    async def unary(self, call: CallSpec[R], request: Message) -> R:
        """Send one message and get one."""
        ...

    async def client_stream(self, call: CallSpec[R], requests: AsyncIterator[Message]) -> R:
        """Send messages and get one, which may come before all are sent."""
        ...

    def server_stream(self, call: CallSpec[R], request: Message) -> AsyncGenerator[R, None]:
        """Send one message and get any number. To close the generator cancels the call."""
        ...

    def bidi(self, call: CallSpec[R], requests: AsyncIterator[Message]) -> AsyncGenerator[R, None]:
        """Send messages and get messages. To close the generator cancels the call."""
        ...

    async def replace_targets(self, targets: Sequence[str]) -> None:
        """Send further calls elsewhere; calls in flight end where they are.

        Args:
            targets: never empty.

        Raises:
            ConfigurationError: a target cannot work; the earlier ones stay in use.
        """
        ...

    async def close(self) -> None:
        """Give up the calls in flight and hold nothing any more."""
        ...
