"""The current keys of an issuer of tokens."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kotaemon_grpc.auth.fetch import MAX_BYTES, Url, get
from kotaemon_grpc.auth.jwk import parse_jwks
from kotaemon_grpc.auth.reload import EARLY_S, Reloaded, nobody
from kotaemon_grpc.auth.watched_file import WatchedFile
from kotaemon_grpc.core.errors import CredentialsSourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kotaemon_grpc.auth.jwk import PublicKey, VerificationKey
    from kotaemon_grpc.auth.reload import Source


class KeySet:
    """The keys that a file or a URL gives. The last good set is kept on any failure.

    Args:
        source: a path, read again when the file changes; or a URL, which is https, or
            http on a loopback address.
        ca: the CAs of the URL's web server, PEM; None for those of the system.
        refresh_s: how often the URL is fetched, in seconds.
        timeout_s: how long that may take.
        on_reload: told after each attempt to read the keys whether it succeeded.
        on_change: told when the keys are others: what was verified by the old ones
            is to be forgotten.
        fetch: fetches a URL within so many seconds, with these CAs.
        sleep: waits for so many seconds.
        clock: seconds that never go back.

    Raises:
        OperatorError: the URL is none of these.
    """

    def __init__(
        self,
        source: str,
        *,
        ca: Path | None = None,
        refresh_s: float = 300.0,
        timeout_s: float = 5.0,
        on_reload: Callable[[bool], object] = nobody,
        on_change: Callable[[], object] = nobody,
        fetch: Callable[[str, float, Path | None], bytes] = get,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = source
        reader: Source[bytes]
        if "://" in source:
            reader = Url(source, refresh_s=refresh_s, timeout_s=timeout_s, ca=ca, fetch=fetch)
        else:
            reader = WatchedFile(Path(source), max_bytes=MAX_BYTES)
        none: tuple[VerificationKey, ...] = ()
        self._keys = Reloaded(
            reader,
            parse_jwks,
            none,
            on_reload=on_reload,
            on_change=on_change,
            sleep=sleep,
            clock=clock,
        )

    @property
    def problem(self) -> str:
        """Why the keys could not be read the last time; empty if they could."""
        return self._keys.problem

    async def load(self) -> None:
        """Read the keys for the first time.

        Raises:
            OperatorError: they are in a file that cannot be used. Without a URL's keys
                the server starts: calls with tokens may be tried again when they came.
        """
        await self._keys.load()

    async def refresh_forever(self) -> None:
        """Keep the keys current."""
        await self._keys.refresh_forever()

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Return the key that a token is to be verified with.

        Args:
            kid: what the token calls it. A token that does not is good with the only
                key of its algorithm.
            algorithm: of the token.

        Returns:
            The key, or None if there is none. Then it may be a new one, and the keys
            are read again soon.

        Raises:
            CredentialsSourceUnavailable: the keys could never be read yet, so that any
                token may be a good one.
        """
        fitting = [
            each
            for each in self._keys.value
            if each.algorithm == algorithm and kid in {None, each.kid}
        ]
        if not fitting:
            self._keys.refresh_soon()
            if not self._keys.is_read:
                # Asked for, they are read no later than this.
                raise CredentialsSourceUnavailable(min(self._keys.rest_s, EARLY_S))
            return None
        return fitting[0].key if kid is not None or len(fitting) == 1 else None
