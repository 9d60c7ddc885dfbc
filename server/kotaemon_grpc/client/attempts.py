"""One attempt of a call: what it is sent with."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from kotaemon_grpc.client.errors import CallError, failed
from kotaemon_grpc.client.retry import is_expired
from kotaemon_grpc.client.transport import CallSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kotaemon_grpc.client.credentials import Credentials
    from kotaemon_grpc.client.hooks import AllHooks, Call, Headers

R = TypeVar("R", bound=Message)
R_co = TypeVar("R_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Method(Generic[R_co]):
    """A method of `kotaemon.v2`: "Service/Method", and the class of what it sends."""

    name: str
    response_type: type[R_co]

    @property
    def path(self) -> str:
        """How gRPC names it."""
        return f"/kotaemon.v2.{self.name}"


class Attempts:
    """Gives each attempt its credentials, its headers and what is left of the deadline.

    Args:
        credentials: None for none.
        hooks: are told of each attempt.
        clock: the seconds since some moment.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        hooks: AllHooks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with credentials that nobody has refused."""
        self._credentials = credentials
        self._hooks = hooks
        self._clock = clock
        self._refused: Headers = ()

    @asynccontextmanager
    async def begin(
        self, call: Call, method: Method[R], number: int, timeout_s: float
    ) -> AsyncIterator[CallSpec[R]]:
        """Give what an attempt is made with, and look at what becomes of it.

        Args:
            call: what is attempted.
            method: the same.
            number: of the attempt, from 1.
            timeout_s: what is left of the deadline. Of a dialogue, which has none, how
                long the credentials may take.

        Raises:
            DeadlineError: the credentials did not come in time.
            CredentialsError: there are none to show.
        """
        self._hooks.on_attempt(call, number)
        ends = self._clock() + timeout_s
        shown = await self._shown(timeout_s)
        left_s = max(ends - self._clock(), 0.0)
        try:
            yield CallSpec(
                method=method.path,
                response_type=method.response_type,
                metadata=(*shown, *self._hooks.headers(call)),
                timeout_s=None if call.timeout_s is None else left_s,
            )
        except CallError as error:
            # Calls that run at once are refused together, but what is shown by then may be new.
            if self._credentials is None:
                raise
            if is_expired(error) and shown != self._refused:
                self._refused = shown
                self._credentials.expired()
            raise

    async def _shown(self, timeout_s: float) -> Headers:
        if self._credentials is None:
            return ()
        try:
            async with asyncio.timeout(timeout_s) as bound:
                return await self._credentials.metadata()
        except TimeoutError:
            if not bound.expired():
                raise
        raise failed(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "the deadline passed before there were credentials to show",
        )
