"""`kotaemon-grpc config`: look at the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
    """Validate a settings file, without the environment."""
    load(file=file, environ={}, flags={})
    click.echo(f"{file} is valid")


def _toml(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for number, (section, values) in enumerate(settings.items()):
        yield f"\n[{section}]" if number else f"[{section}]"
        for key, value in values.items():
            # For text, numbers, truth and lists of them JSON's syntax is TOML's, but for DEL.
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
