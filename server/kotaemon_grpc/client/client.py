"""`AgentClient`: kotaemon.v2 as plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from kotaemon_grpc.client.attempts import Attempts
from kotaemon_grpc.client.calls import Calls, checked_timeout_s
from kotaemon_grpc.client.channels import GrpcTransport
from kotaemon_grpc.client.conversations import Conversations
from kotaemon_grpc.client.credentials import checked_credentials
from kotaemon_grpc.client.documents import Documents
from kotaemon_grpc.client.errors import ConfigurationError
from kotaemon_grpc.client.hooks import AllHooks
from kotaemon_grpc.client.questions import Questions
from kotaemon_grpc.client.retry import Retries, RetryPolicy
from kotaemon_grpc.client.tls import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import UnionType

    from kotaemon_grpc.client.credentials import Credentials
    from kotaemon_grpc.client.hooks import Hooks
    from kotaemon_grpc.client.transport import Transport

DEFAULT_TARGET = "127.0.0.1:50051"


class AgentClient(Questions, Conversations, Documents):
    """Asks one server, or several alike. Use it as an asynchronous context manager.

    It belongs to the event loop that it is made on, and is safe for concurrent use
    there.

    Args:
        target: `host:port`, any gRPC target, or several of them, which take the calls
            in turn.
        tls: the files of TLS, which are read again when they change; None speaks
            plaintext.
        credentials: what is shown with each call on top of a certificate.
        timeout_s: the deadline of each call that is not a dialogue and does not say its
            own, all attempts together, above 0 and at most a day; `import_document` has
            more. Of a dialogue, how long it may take to begin.
        retry: how often calls are repeated.
        hooks: are told what becomes of calls.
        transport: makes the calls in place of gRPC, as `testing.FakeTransport` does;
            target, tls and server_name are then of no use.
        server_name: the name that the server's certificate has to be for; empty for
            the one in the target.

    Raises:
        ConfigurationError: a file cannot be read, a value cannot work, or there is no
            running event loop.
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        tls: TlsFiles | None,
        credentials: Credentials | None = None,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        hooks: Iterable[Hooks] = (),
        transport: Transport | None = None,
        server_name: str = "",
    ) -> None:
        """Check what is given; it connects with the first call."""
        timeout_s = checked_timeout_s(timeout_s)
        credentials = checked_credentials(credentials)
        retry = RetryPolicy() if retry is None else retry
        _check(tls, TlsFiles | None, "tls must be None or TlsFiles(...)")
        _check(retry, RetryPolicy, "retry must be None or RetryPolicy(...)")
        _check(server_name, str, "server_name must be text")
        all_hooks = AllHooks(hooks)
        self._transport = (
            transport
            if transport is not None
            else GrpcTransport(
                target,
                tls=tls,
                server_name=server_name,
                carries_secrets=credentials is not None,
                begin_timeout_s=timeout_s,
                on_reload=all_hooks.on_reload,
            )
        )
        self._calls = Calls(
            self._transport,
            attempts=Attempts(credentials, all_hooks),
            retries=Retries(retry),
            hooks=all_hooks,
            timeout_s=timeout_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def replace_targets(self, target: str | Sequence[str]) -> None:
        """Send further calls elsewhere; calls in flight end where they are.

        Args:
            target: as at the start, and never empty.

        Raises:
            ConfigurationError: a target cannot work.
            ClientError: the client is closed.
            UnavailableError: none of them can be reached, while an earlier one can. In
                either case the earlier ones stay in use.
        """
        await self._calls.replace_targets([target] if isinstance(target, str) else target)

    async def close(self) -> None:
        """Give up the calls in flight; further ones are refused."""
        await self._calls.close()


def _check(given: object, kind: type | UnionType, problem: str) -> None:
    if not isinstance(given, kind):
        raise ConfigurationError(f"{problem}, not {type(given).__name__}")
