"""`GrpcTransport`: calls over gRPC, to one server or several."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import Message

from kotaemon_grpc.client.calls import running_loop
from kotaemon_grpc.client.errors import (
    CallError,
    ConfigurationError,
    UnavailableError,
    error_from_rpc,
    failed,
)
from kotaemon_grpc.client.links import Pool
from kotaemon_grpc.client.sending import Sending, closed
from kotaemon_grpc.client.targets import is_local, targets_of
from kotaemon_grpc.client.tls import TlsWatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from kotaemon_grpc.client.links import Dial
    from kotaemon_grpc.client.tls import TlsFiles
    from kotaemon_grpc.client.transport import CallSpec

T = TypeVar("T")
R = TypeVar("R", bound=Message)

_CHANCES = 5  # of a dialogue to begin with a server that seemed ready
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},  # the server as a whole
    }
)
_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 0),
    # A new channel means a new connection, and not that of another one to the same place.
    ("grpc.use_local_subchannel_pool", 1),
    # What the server sends is bounded by the server.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it a peer that is stopped is found after a minute (seen in grpcio 1.85.1).
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A server that comes back is found soon: core would wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)


def _nobody(_what: str, _problem: str) -> None:
    """Be told in place of somebody."""


class GrpcTransport:
    """A `Transport` over gRPC. It connects with the first call.

    Calls go round robin to the servers that are connected and say that they serve, by
    the health service; one that has none is taken to serve. With TLS each server is
    checked by the name in its target. The files of TLS are looked at every two seconds
    while there are calls: what is new and works replaces what is in use.

    Args:
        targets: as `targets.targets_of` takes them.
        tls: the files of TLS; None speaks plaintext.
        server_name: the name that all servers' certificates have to be for, in place
            of the ones in the targets.
        carries_secrets: whether calls carry credentials: then plaintext is only for
            servers on this machine.
        begin_timeout_s: how long a dialogue, which has no deadline, may take to begin.
        on_reload: told `"tls"`, and what is wrong with the new files or empty.
        clock: seconds that never go back.

    Raises:
        ConfigurationError: a value or a file cannot work.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        tls: TlsFiles | None,
        server_name: str = "",
        carries_secrets: bool = False,
        begin_timeout_s: float = 60.0,
        on_reload: Callable[[str, str], object] = _nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needs_local = carries_secrets and tls is None
        self._on_reload = on_reload
        self._options = list(_OPTIONS)
        if server_name:
            self._options.append(("grpc.default_authority", server_name))
        self._begin_timeout_s = begin_timeout_s
        checked = self._checked(targets)
        self._tls = None if tls is None else TlsWatch(tls, clock)
        credentials = None if self._tls is None else self._tls.material.credentials()
        running_loop()
        self._pool = Pool(checked, self._dial(credentials), clock)
        self._reloading: asyncio.Task[None] | None = None
        self._is_closed = False

    async def unary(self, call: CallSpec[R], request: Message) -> R:
        """Send one message and get one. `Transport` says what all methods do."""
        async with self._carried(call) as (channel, timeout_s, _):
            method = channel.unary_unary(call.method, _to_bytes, call.response_type.FromString)
            rpc = method(request, timeout=timeout_s, metadata=call.metadata)
            return await _outcome(rpc, rpc)

    async def client_stream(self, call: CallSpec[R], requests: AsyncIterator[Message]) -> R:
        """Send messages and get one."""
        async with closed(requests), self._carried(call) as (channel, timeout_s, _):
            method = channel.stream_unary(call.method, _to_bytes, call.response_type.FromString)
            rpc = method(timeout=timeout_s, metadata=call.metadata)
            async with Sending(rpc, requests):
                return await _outcome(rpc, rpc)

    async def server_stream(self, call: CallSpec[R], request: Message) -> AsyncGenerator[R, None]:
        """Send one message and get any number."""
        async with self._carried(call) as (channel, timeout_s, _):
            method = channel.unary_stream(call.method, _to_bytes, call.response_type.FromString)
            rpc = method(request, timeout=timeout_s, metadata=call.metadata)
            try:
                while (response := await _outcome(rpc, rpc.read())) is not grpc.aio.EOF:
                    yield response
            finally:
                rpc.cancel()

    async def bidi(
        self, call: CallSpec[R], requests: AsyncIterator[Message]
    ) -> AsyncGenerator[R, None]:
        """Send messages and get messages."""
        async with closed(requests), self._begun(call) as rpc, Sending(rpc, requests):
            while (response := await _outcome(rpc, rpc.read())) is not grpc.aio.EOF:
                yield response

    @asynccontextmanager
    async def _begun(self, call: CallSpec[R]) -> AsyncIterator[grpc.aio.StreamStreamCall]:
        """Begin a dialogue; cancel it at the end of the block.

        Nobody repeats a dialogue. A server that went away while it was chosen is
        therefore passed over here: nothing was sent to it.
        """
        try:
            async with asyncio.timeout(self._begin_timeout_s) as bound:
                for chances in range(_CHANCES, 0, -1):
                    async with self._carried(call) as (channel, timeout_s, was_ready):
                        method = channel.stream_stream(
                            call.method, _to_bytes, call.response_type.FromString
                        )
                        rpc = method(timeout=timeout_s, metadata=call.metadata)
                        try:
                            try:
                                await _outcome(rpc, rpc.wait_for_connection())
                            except UnavailableError:
                                if was_ready and chances > 1:
                                    continue
                                raise
                            bound.reschedule(None)
                            yield rpc
                            return
                        finally:
                            rpc.cancel()
        except TimeoutError:
            if not bound.expired():
                raise
            raise failed(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the dialogue began"
            ) from None

    async def replace_targets(self, targets: str | Sequence[str]) -> None:
        """Send further calls elsewhere, once a new target is connected.

        Calls in flight end where they are. A target that stays keeps its connection.

        Raises:
            ConfigurationError: a target cannot work.
            UnavailableError: none of the new targets can be reached, while an earlier
                one can. In either case the earlier ones stay in use.
        """
        self._refuse_closed()
        checked = self._checked(targets)
        if not await self._pool.move(checked):
            raise failed(
                grpc.StatusCode.UNAVAILABLE,
                f"none of the new targets can be reached: {', '.join(checked)}",
            )

    async def close(self) -> None:
        """Give up the calls in flight and hold nothing any more."""
        self._is_closed = True
        if self._reloading:
            self._reloading.cancel()
            await asyncio.wait((self._reloading,))
        await self._pool.close()

    @asynccontextmanager
    async def _carried(
        self, call: CallSpec[R]
    ) -> AsyncIterator[tuple[grpc.aio.Channel, float | None, bool]]:
        """Give what carries a call, the seconds then left, and whether it seemed ready."""
        self._refuse_closed()
        self._look()
        loop = asyncio.get_running_loop()
        end_s = None if call.timeout_s is None else loop.time() + call.timeout_s

        def left_s() -> float | None:
            return None if end_s is None else max(0.0, end_s - loop.time())

        if self._reloading and not self._reloading.done() and not self._pool.is_ready:
            await asyncio.wait((self._reloading,), timeout=left_s())
        link = await self._pool.link(left_s())
        was_ready = link.is_ready
        async with link.carrying(left_s()) as channel:
            yield channel, left_s(), was_ready

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise failed(grpc.StatusCode.CANCELLED, "the client is closed")

    def _look(self) -> None:
        if self._tls and (self._reloading is None or self._reloading.done()) and self._tls.is_due():
            self._reloading = asyncio.create_task(self._reload(self._tls))

    async def _reload(self, tls: TlsWatch) -> None:
        try:
            material = await asyncio.to_thread(tls.read)
        except ConfigurationError as error:
            self._on_reload("tls", str(error))
            return
        if material is None:
            return
        if await self._pool.move(dial=self._dial(material.credentials())):
            tls.material = material
            self._on_reload("tls", "")
        else:
            tls.put_off()
            self._on_reload("tls", "no server takes the new files; the earlier ones stay in use")

    def _checked(self, targets: str | Sequence[str]) -> tuple[str, ...]:
        checked = targets_of(targets)
        for target in checked:
            if self._needs_local and not is_local(target):
                raise ConfigurationError(
                    f"credentials are not sent to {target} in plaintext; give the files of TLS"
                )
        return checked

    def _dial(self, credentials: grpc.ChannelCredentials | None) -> Dial:
        options = self._options
        if credentials is None:
            return lambda target: grpc.aio.insecure_channel(target, options)
        return lambda target: grpc.aio.secure_channel(target, credentials, options)


async def _outcome(rpc: grpc.aio.Call, awaited: Awaitable[T]) -> T:
    try:
        return await awaited
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # gRPC says this also when it is the call that was cancelled, here or by the server.
        raise await _cancelled(rpc) from None


async def _cancelled(rpc: grpc.aio.Call) -> CallError:
    trailers = await rpc.trailing_metadata()
    return error_from_rpc(
        grpc.aio.AioRpcError(
            grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), trailers, await rpc.details()
        )
    )


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()
