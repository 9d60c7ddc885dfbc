"""`OAuth2ClientCredentials`: tokens from an authorization server (RFC 6749, section 4.4)."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kotaemon_grpc.client.credentials import SecretFile, bearer, is_showable
from kotaemon_grpc.client.errors import ConfigurationError
from kotaemon_grpc.client.targets import is_local
from kotaemon_grpc.client.tokens import Grant, TokenEndpoint, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kotaemon_grpc.client.tokens import Token

_AHEAD_S = 60.0  # how long before its end a token is replaced ...
_AHEAD_RATIO = 0.2  # ... or, of a short life, which part of it
_LIMIT_S = 30.0  # for a whole exchange
_REST_S = 5.0  # between attempts to replace a token that is still good


class OAuth2ClientCredentials:
    """Bearer tokens by the grant "client credentials", replaced before they expire.

    However many calls want a token, one request asks for it, and a good one is used
    while that lasts.

    Args:
        token_url: where tokens are given: https, or http on this machine.
        client_id: who asks.
        client_secret: what proves it; or else
        client_secret_file: a file that holds it, read again when it is replaced.
        scope: asked for, with spaces between several; empty for the server's default.
        audience: asked for by a parameter that some servers want; empty for none.
        ca: PEM certificates that sign the authorization server; None for the system's.
        clock: seconds that never go back.

    Raises:
        ConfigurationError: a value or a file cannot work.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str = "",
        *,
        client_secret_file: Path | None = None,
        scope: str = "",
        audience: str = "",
        ca: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_url(token_url)
        if not client_id:
            raise ConfigurationError("client_id must not be empty")
        if bool(client_secret) == bool(client_secret_file):
            raise ConfigurationError("give either client_secret or client_secret_file")
        # A query may hold what others must not see.
        self._shown_url = token_url.partition("?")[0]
        self._client_id = client_id
        self._secret = client_secret
        self._secret_file = (
            SecretFile(client_secret_file, "client secret") if client_secret_file else None
        )
        self._grant = Grant(scope, audience)
        self._endpoint = TokenEndpoint(token_url, ca)
        self._clock = clock
        self._token: Token | None = None
        self._ends_s = self._replace_at_s = -math.inf
        self._fetching: asyncio.Task[Token] | None = None

    def __repr__(self) -> str:
        return f"OAuth2ClientCredentials({self._shown_url!r}, {self._client_id!r})"

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the header.

        Raises:
            CredentialsError: the authorization server refuses, or what it says is no token.
            UnavailableError: it cannot be reached, or cannot answer now.
        """
        now = self._clock()
        token = self._token
        if token is None or now >= self._ends_s:
            token = await asyncio.shield(self._fetch())
        elif now >= self._replace_at_s:
            self._fetch()
        return (bearer(token.value),)

    def expired(self) -> None:
        """Get another one with the next call."""
        self._token = None

    def _fetch(self) -> asyncio.Task[Token]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetched())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    async def _fetched(self) -> Token:
        began = self._clock()
        # A failure does not set calls on while the present token lasts.
        self._replace_at_s = began + _REST_S
        secret = self._secret_file.value() if self._secret_file else self._secret
        try:
            async with asyncio.timeout(_LIMIT_S):
                token = await asyncio.to_thread(
                    self._endpoint.ask, self._grant, self._client_id, secret
                )
        except TimeoutError as error:
            raise unavailable("it takes too long") from error
        self._token = token
        self._ends_s = began + token.life_s
        self._replace_at_s = self._ends_s - min(_AHEAD_S, token.life_s * _AHEAD_RATIO)
        return token

    def _done(self, task: asyncio.Task[Token]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # who waited for it has it; else the present token is used


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError("token_url is no URL") from error
    if parts.scheme not in {"http", "https"} or not host or port == 0 or not is_showable(url):
        raise ConfigurationError("token_url must be an https URL")
    if parts.username is not None or parts.fragment:
        raise ConfigurationError("token_url must have no user, password or fragment")
    if parts.scheme == "http" and not is_local(f"[{host}]" if ":" in host else host):
        raise ConfigurationError(
            "token_url must be https: the client's secret is not sent in plaintext"
        )
