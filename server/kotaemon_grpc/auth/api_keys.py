"""Who calls, by an API key of a file."""

from __future__ import annotations

import asyncio
import hmac
import math
import re
import time
from typing import TYPE_CHECKING

from kotaemon_grpc.auth.identity import API_KEY, Identity
from kotaemon_grpc.auth.key_file import MAX_FILE_BYTES, ApiKey, hash_of, parse_keys
from kotaemon_grpc.auth.reload import Reloaded, nobody
from kotaemon_grpc.auth.watched_file import WatchedFile
from kotaemon_grpc.core.errors import CredentialProblem, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_KEY = re.compile(r"([0-9a-f]{16})\.([\w-]{43})", re.ASCII)  # 43: 256 bits in base64url
_NO_HASH = "0" * 64


class ApiKeyVerifier:
    """Verifies API keys by a file that is read again when it changes.

    Args:
        path: the file; see `KeyFile`.
        clock: the seconds since the Unix epoch.
        on_reload: told after each attempt to read a changed file whether it succeeded.
        on_change: told when the keys are others: what was verified is to be forgotten.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        on_reload: Callable[[bool], object] = nobody,
        on_change: Callable[[], object] = nobody,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = str(path)
        self._clock = clock
        none: dict[str, ApiKey] = {}
        self._keys = Reloaded(
            WatchedFile(path, max_bytes=MAX_FILE_BYTES),
            parse_keys,
            none,
            on_reload=on_reload,
            on_change=on_change,
            sleep=sleep,
        )

    @property
    def problem(self) -> str:
        """Why the file could not be read the last time; empty if it could."""
        return self._keys.problem

    async def load(self) -> None:
        """Read the file for the first time.

        Raises:
            OperatorError: it is missing, cannot be read or is damaged.
        """
        await self._keys.load()

    async def refresh_forever(self) -> None:
        """Keep the keys current."""
        await self._keys.refresh_forever()

    def identify(self, key: str) -> Identity:
        """Return whom a key names.

        Raises:
            Unauthenticated: it is unknown, has expired or was revoked. Nobody learns
                which ids there are: the secret is compared first.
        """
        parts = _KEY.fullmatch(key)
        if parts is None:
            raise Unauthenticated(CredentialProblem.MALFORMED, "API key")
        found = self._keys.value.get(parts[1])
        wanted = found.sha256 if found is not None else _NO_HASH
        if not hmac.compare_digest(hash_of(parts[2]), wanted) or found is None:
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "API key")
        if found.revoked_at is not None:
            raise Unauthenticated(CredentialProblem.REVOKED, f"API key {found.id}")
        expires_at = math.inf if found.expires_at is None else found.expires_at.timestamp()
        if expires_at <= self._clock():
            raise Unauthenticated(CredentialProblem.EXPIRED, f"API key {found.id}")
        return Identity(
            principal=f"key:{found.principal}",
            tenant=found.tenant,
            roles=frozenset(found.roles),
            credential=API_KEY,
            expires_at=expires_at,
        )
