"""The file of API keys: who has which, and until when. It has no secret, only their hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kotaemon_grpc.auth.files import locked, read, replace
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.core.model import DEFAULT_TENANT, RESOURCE_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

MAX_FILE_BYTES = 16 * 1024 * 1024
_ID_BYTES = 8
_SECRET_BYTES = 32  # 256 bits: too many to try, so that a plain hash keeps them

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
_Principal = Annotated[str, Field(pattern=r"^[^\pC\pZ]{1,128}$")]
_Tenant = Annotated[str, Field(pattern=f"^{RESOURCE_ID.pattern}$")]
_Role = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


class ApiKey(BaseModel):
    """An API key, as it is kept.

    Args:
        id: 16 hexadecimal digits: the public part of the key.
        sha256: of the secret part.
        principal: the name of who has it, without white space.
        tenant: the tenant of who has it.
        roles: those it grants.
        expires_at: None if it never does.
        revoked_at: None unless it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: _Id
    sha256: _Sha256
    principal: _Principal
    tenant: _Tenant
    roles: tuple[_Role, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1]
    keys: tuple[ApiKey, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> _Content:
        if len({key.id for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have the same id")
        return self


def parse_keys(content: bytes) -> dict[str, ApiKey]:
    """Read the content of the file.

    Returns:
        The keys by id, in the order of the file.

    Raises:
        SourceError: it is damaged.
    """
    try:
        return {key.id: key for key in _Content.model_validate_json(content).keys}
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        text = f"{place}: {message}" if place else message
        raise SourceError(f"it is no file of API keys: {text}") from None


def hash_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyFile:
    """The file, for who may change it."""

    def __init__(
        self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Take the path, which need not be there yet, and the present time."""
        self.path = path.resolve()  # a link stays one when what it points to is replaced
        self._clock = clock

    def read(self) -> list[ApiKey]:
        """Return all keys, in the order they were made.

        Raises:
            OperatorError: the file is missing, cannot be read or is damaged.
        """
        return list(self._by_id().values())

    def create(
        self,
        principal: str,
        *,
        tenant: str = DEFAULT_TENANT,
        roles: tuple[str, ...] = (),
        life: timedelta | None,
    ) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            principal: the name of who gets it, without white space, at most 128 characters.
            tenant: the tenant of who gets it.
            roles: those it grants.
            life: how long it is good; None for ever.

        Returns:
            What is kept, and the key itself, which is not.

        Raises:
            OperatorError: the file cannot be written or is damaged, or an argument is
                not valid.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        now = self._clock().replace(microsecond=0)
        try:
            key = ApiKey(
                id=secrets.token_hex(_ID_BYTES),
                sha256=hash_of(secret),
                principal=principal,
                tenant=tenant,
                roles=roles,
                created_at=now,
                expires_at=None if life is None else now + life,
                revoked_at=None,
            )
        except ValidationError as error:
            what = error.errors()[0]["loc"][0]
            raise OperatorError(f"the {what} of the key is not valid; choose another") from None
        with self._locked():
            keys = self._by_id() if self.path.exists() else {}
            self._write({**keys, key.id: key})
        return key, f"{key.id}.{secret}"

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key, for good. One that was revoked before stays so.

        Raises:
            OperatorError: there is no such key, or the file cannot be written or is
                damaged.
        """
        with self._locked():
            keys = self._by_id()
            key = keys.get(key_id)
            if key is None:
                raise OperatorError(
                    f'{self.path} has no such key; "kotaemon-grpc keys list" has their ids'
                )
            if key.revoked_at is None:
                now = self._clock().replace(microsecond=0)
                key = key.model_copy(update={"revoked_at": now})
                self._write({**keys, key_id: key})
        return key

    def _by_id(self) -> dict[str, ApiKey]:
        try:
            return parse_keys(read(self.path, MAX_FILE_BYTES))
        except OSError as error:
            raise OperatorError(
                f"{self.path} cannot be read: {os.strerror(error.errno or 0).lower()}; "
                'run "kotaemon-grpc keys create" or name another file'
            ) from None
        except SourceError as error:
            raise OperatorError(f"{self.path} cannot be used: {error}") from None

    def _write(self, keys: Mapping[str, ApiKey]) -> None:
        content = _Content(version=1, keys=tuple(keys.values())).model_dump_json(indent=2)
        replace(self.path, f"{content}\n".encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with locked(self.path):
                yield
        except OSError as error:
            raise OperatorError(
                f"{self.path} cannot be written: {os.strerror(error.errno or 0).lower()}; "
                "make its directory writable or name another file"
            ) from None
