"""The types of settings, and what all sections share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StrictFloat,
    StrictInt,
)

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

MAX_INT32 = 2**31 - 1  # of channel arguments of gRPC, and of offsets in the contract
_MAX_DURATION_S = 7 * 24 * 3600.0


def _read_address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('an address is "host:port"')  # noqa: TRY004 - pydantic collects these
    return parse_address(value)


def _read_file(value: Any) -> Any:
    return None if value == "" else value


def _check_not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("should have at least one item")
    return value


def checked_by(rule: Callable[[_T], object]) -> AfterValidator:
    """Hold a setting to a rule of what it is for, which raises `OperatorError`."""

    def check(value: _T) -> _T:
        try:
            rule(value)
        except OperatorError as error:
            raise ValueError(str(error)) from None  # pydantic collects these
        return value

    return AfterValidator(check)


ListenAddress = Annotated[Address, BeforeValidator(_read_address), PlainSerializer(str)]
File = Annotated[
    Path | None,
    BeforeValidator(_read_file),
    PlainSerializer(lambda path: "" if path is None else str(path)),
]
Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: "********" if secret.get_secret_value() else "")
]
GraceSeconds = Annotated[StrictFloat, Field(ge=0, le=3600, allow_inf_nan=False)]
Seconds = Annotated[StrictFloat, Field(gt=0, le=_MAX_DURATION_S, allow_inf_nan=False)]
Ratio = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[StrictInt, Field(ge=1, le=MAX_INT32)]
NOT_EMPTY = AfterValidator(_check_not_empty)
"""Of a list. Not `min_length`, which also complains of a list whose items were refused."""
Patterns = Annotated[tuple[str, ...], NOT_EMPTY]
TLSVersion: TypeAlias = Literal["1.2", "1.3"]


class Section(BaseModel):
    """A table of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
