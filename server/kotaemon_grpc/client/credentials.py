"""What a client shows to say who it is, beside a certificate."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from kotaemon_grpc.client.errors import ConfigurationError, CredentialsError
from kotaemon_grpc.client.files import path_of, stamp_of
from kotaemon_grpc.wire import headers

if TYPE_CHECKING:
    from pathlib import Path

_SHOWABLE = re.compile(r"[\x21-\x7e]+")
_MAX_SECRET_BYTES = 16 * 1024  # what a server takes in its headers is less


class Credentials(Protocol):
    """Gives what each attempt of a call shows. It has to be safe for concurrent use."""

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the headers, with names in lower case.

        Raises:
            CredentialsError: there are none to show.
            CallError: there are none at the moment; UNAVAILABLE is tried again.
        """
        ...

    def expired(self) -> None:
        """Forget what is kept: the server says that it has expired."""
        ...


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A bearer token that is always the same (RFC 6750, section 2.1).

    Raises:
        ConfigurationError: it is empty, or no header can carry it.
    """

    token: str = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.token, "the token")

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the header."""
        return (bearer(self.token),)

    def expired(self) -> None:
        """Keep it: there is no other."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, as `kotaemon-grpc keys create` prints it.

    Raises:
        ConfigurationError: it is empty, or no header can carry it.
    """

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.key, "the API key")

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the header."""
        return ((headers.API_KEY, self.key),)

    def expired(self) -> None:
        """Keep it: there is no other."""


class TokenFile:
    """A bearer token in a file, that is read again when it is replaced.

    Args:
        path: holds the token and nothing else, but for white space around it.

    Raises:
        ConfigurationError: it cannot be read, or holds no token.
    """

    def __init__(self, path: str | Path) -> None:
        self._secret = SecretFile(path, "token")

    def __repr__(self) -> str:
        return f"TokenFile({str(self._secret.path)!r})"

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the header."""
        return (bearer(self._secret.value()),)

    def expired(self) -> None:
        """Read the file again."""
        self._secret.forget()


class ApiKeyFile:
    """An API key in a file, that is read again when it is replaced.

    Args:
        path: holds the key and nothing else, but for white space around it.

    Raises:
        ConfigurationError: it cannot be read, or holds no key.
    """

    def __init__(self, path: str | Path) -> None:
        self._secret = SecretFile(path, "API key")

    def __repr__(self) -> str:
        return f"ApiKeyFile({str(self._secret.path)!r})"

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the header."""
        return ((headers.API_KEY, self._secret.value()),)

    def expired(self) -> None:
        """Read the file again."""
        self._secret.forget()


class SecretFile:
    """A secret in a small file. While the file is no good, the last good one is kept.

    Args:
        path: read at once; later only looked at, unless it was replaced.
        noun: what it holds, for people.

    Raises:
        ConfigurationError: it cannot be read, or holds no such thing.
    """

    def __init__(self, path: str | Path, noun: str) -> None:
        self.path = path_of(path, f"the file of the {noun}")
        self._noun = noun
        self._value = ""
        self._seen: object = None
        try:
            self.value()
        except CredentialsError as error:
            raise ConfigurationError(str(error)) from error

    def value(self) -> str:
        """Return the secret.

        Raises:
            CredentialsError: the file is no good, and what was read is forgotten.
        """
        try:
            stamp = stamp_of(self.path)
            if not self._value or stamp != self._seen:
                self._value = self._read()
                self._seen = stamp
        except (OSError, ConfigurationError) as error:
            if not self._value:
                why = error.strerror if isinstance(error, OSError) else str(error)
                raise CredentialsError(f"cannot use {self.path} ({why})") from error
        return self._value

    def forget(self) -> None:
        """Use no longer what was read."""
        self._value = ""

    def _read(self) -> str:
        with self.path.open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
        if len(content) > _MAX_SECRET_BYTES:
            raise ConfigurationError(f"it has more than {_MAX_SECRET_BYTES} bytes")
        secret = content.decode("ascii", "replace").strip()
        _check(secret, f"the {self._noun}")
        return secret


def bearer(token: str) -> tuple[str, str]:
    """Make the header that shows a token."""
    return headers.AUTHORIZATION, f"Bearer {token}"


def is_showable(secret: object) -> bool:
    """Tell whether a header can carry it: visible ASCII characters, and any at all."""
    return isinstance(secret, str) and _SHOWABLE.fullmatch(secret) is not None


def checked_credentials(given: object) -> Credentials | None:
    """Return what can be credentials.

    Raises:
        ConfigurationError: it cannot; only None stands for none.
    """
    if given is None:
        return None
    methods = (getattr(given, name, None) for name in ("metadata", "expired"))
    if isinstance(given, type) or not all(callable(method) for method in methods):
        raise ConfigurationError("credentials must be None or an object such as StaticToken(...)")
    return cast("Credentials", given)


def _check(secret: str, noun: str) -> None:
    if not secret:
        raise ConfigurationError(f"{noun} is empty")
    if not is_showable(secret):
        raise ConfigurationError(f"{noun} has characters other than visible ASCII")
