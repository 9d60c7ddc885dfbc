"""`kotaemon-grpc config`: look at the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kotaemon_grpc.app.checking import check as check_settings
from kotaemon_grpc.cli.settings import config_options, load_config
from kotaemon_grpc.config import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of TOML.")
def show(config_file: Path | None, assignments: tuple[str, ...], *, as_json: bool) -> None:
    """Print the effective settings, secrets masked."""
    settings = load_config(config_file, assignments, {}).masked()
    if as_json:
        click.echo(json.dumps(settings, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_toml(settings)))


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate a settings file, without the environment.

    Roles must name methods that exist, and bindings roles that do. The files that
    the settings name are not read.
    """
    check_settings(load(file=file, environ={}, flags={}))
    click.echo(f"{file} is valid")


def _toml(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for number, (section, values) in enumerate(settings.items()):
        yield f"\n[{section}]" if number else f"[{section}]"
        for key, value in values.items():
            yield f"{key} = {_inline(value)}"


def _inline(value: Any) -> str:
    """Write a value in one line. TOML has no word for what is not there."""
    if isinstance(value, dict):
        pairs = (
            f"{json.dumps(key, ensure_ascii=False)} = {_inline(item)}"
            for key, item in value.items()
            if item is not None
        )
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    # For text, numbers and truth JSON's syntax is TOML's, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
