"""The options that several verbs share, and what becomes of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kotaemon_grpc.config import COMMAND_LINE, Config, Layers
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

_CLIENT_FLAGS = {
    "target": "client.target",
    "certs": "tls.dir",
    "ca": "client.ca",
    "certificate": "client.certificate",
    "key": "client.key",
    "token_file": "client.token_file",
    "api_key_file": "client.api_key_file",
    "insecure": "client.insecure",
    "timeout": "client.timeout_s",
}


def config_options(function: F) -> F:
    """Add --config and --set to a verb; they arrive as `config_file` and `assignments`."""
    function = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Read settings from this TOML file.",
    )(function)
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help='Set any setting, as "documents.max_document_bytes=1000000". Repeatable.',
    )(function)


def client_options(function: F) -> F:
    """Add the options of a verb that calls a server; `client_config` takes them."""
    options = [
        click.option("--target", metavar="HOST:PORT", help="The server. [127.0.0.1:50051]"),
        click.option("--certs", metavar="DIR", help="The directory of the PEM files. [certs/dev]"),
        click.option("--ca", metavar="FILE", help="What signs servers. [DIR/ca.pem]"),
        click.option("--certificate", metavar="FILE", help="Your own. [DIR/client.pem]"),
        click.option("--key", metavar="FILE", help="Its key. [DIR/client-key.pem]"),
        click.option("--token-file", metavar="FILE", help="Show the bearer token in it. [none]"),
        click.option("--api-key-file", metavar="FILE", help="Show the API key in it. [none]"),
        click.option("--insecure", is_flag=True, default=None, help="Speak plaintext."),
        click.option("--timeout", type=float, metavar="SECONDS", help="Of each call. [60]"),
    ]
    for option in reversed(options):
        function = option(function)
    return config_options(function)


def client_config(options: dict[str, Any]) -> Config:
    """Take the shared options of a client verb out of its own, and load the settings.

    Raises:
        OperatorError: a setting is unknown or not valid.
    """
    flags = {key: options.pop(name) for name, key in _CLIENT_FLAGS.items()}
    return load_config(options.pop("config_file"), options.pop("assignments"), flags)


def load_config(
    file: Path | None, assignments: tuple[str, ...], flags: dict[str, object]
) -> Config:
    """Load the settings with flags that are None left out.

    Raises:
        OperatorError: a setting is unknown or not valid.
    """
    return load_layers(layers_of(file, assignments, flags))


def layers_of(file: Path | None, assignments: tuple[str, ...], flags: dict[str, object]) -> Layers:
    """Say where the settings come from, with flags that are None left out."""
    given = {key: value for key, value in flags.items() if value is not None}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise click.BadParameter(f'"{assignment}" is not KEY=VALUE', param_hint="--set")
        given[key.strip()] = value
    return Layers(file, dict(os.environ), given)


def load_layers(layers: Layers) -> Config:
    """Load the settings.

    Raises:
        OperatorError: a setting is unknown or not valid.
    """
    try:
        return layers.load()
    except OperatorError as error:
        # Settings that do not go together are no fault of one flag.
        if re.match(rf"{COMMAND_LINE}: (?!\[)", str(error)):
            raise click.UsageError(str(error)) from None
        raise
