"""Options that name resources: an id or the whole name, checked before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from kotaemon_grpc.client import NEW_CONVERSATION
from kotaemon_grpc.core.checks import ID_FORM, Checks
from kotaemon_grpc.core.errors import InvalidArgument
from kotaemon_grpc.core.model import RESOURCE_ID
from kotaemon_grpc.core.names import collection_name, conversation_name

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def collection_option(help_text: str) -> Callable[[F], F]:
    """Add --collection; it arrives as a resource name."""
    return click.option(
        "--collection",
        default="default",
        show_default=True,
        metavar="NAME",
        callback=_collection,
        help=help_text,
    )


def conversation_option(function: F) -> F:
    """Add --conversation; it arrives as a resource name, of a new one if it was not given."""
    return click.option(
        "--conversation",
        default="-",
        metavar="NAME",
        callback=_conversation,
        help='Go on with this one, as "conversations/abc". [a new one]',
    )(function)


def base_uri_option(function: F) -> F:
    """Add --base-uri; None if it was not given."""
    return click.option(
        "--base-uri",
        metavar="URI",
        callback=_uri,
        help="What takes the place of PATH in a document's URI. [the file's own file: URI]",
    )(function)


def _collection(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    return collection_name(_id(value.removeprefix("collections/")))


def _conversation(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    conversation = value.removeprefix("conversations/")
    return NEW_CONVERSATION if conversation == "-" else conversation_name(_id(conversation))


def _uri(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    checks = Checks()
    checks.uri("URI", value or "")
    try:
        checks.done()
    except InvalidArgument as error:
        raise click.BadParameter(error.violations[0].description) from None
    return value


def _id(value: str) -> str:
    if not RESOURCE_ID.fullmatch(value):
        raise click.BadParameter(ID_FORM)
    return value
