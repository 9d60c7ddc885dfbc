"""`kotaemon-grpc keys`: API keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kotaemon_grpc.auth.key_file import KeyFile
from kotaemon_grpc.cli.settings import config_options, load_config
from kotaemon_grpc.cli.show import printable
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.core.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kotaemon_grpc.auth.key_file import ApiKey
    from kotaemon_grpc.config import Config

_file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file of the keys (default: the setting identity.api_keys_file).",
)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.option("--principal", required=True, metavar="NAME", help="Who gets it.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, metavar="ID", help="Of whom.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="May be repeated.")
@click.option(
    "--expires-days",
    type=click.IntRange(min=0, max=36500),
    default=90,
    show_default=True,
    help="How long it is good; 0: for ever.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_file_option
@config_options
def create(**options: Any) -> None:
    """Make a key and print it, this once: only a hash of it is kept."""
    days = options["expires_days"]
    config = _config(options)
    _check_roles(options["roles"], config)
    file = _key_file(options, config)
    key, text = file.create(
        options["principal"],
        tenant=options["tenant"],
        roles=options["roles"],
        life=timedelta(days=days) if days else None,
    )
    click.echo(json.dumps({"key": text, **_to_json(key)}) if options["as_json"] else text)
    until = f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "for ever"
    click.echo(
        f"created key {key.id} of {key.principal} in {file.path}, good {until}; "
        "it is not shown again",
        err=True,
    )


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@_file_option
@config_options
def list_(**options: Any) -> None:
    """List the keys, without their secrets."""
    now = datetime.now(UTC)
    for key in _key_file(options, _config(options)).read():
        state = _state(key, now)
        if options["as_json"]:
            click.echo(json.dumps({**_to_json(key), "state": state}))
        else:
            roles = ", ".join(key.roles) or "no roles"
            click.echo(
                f"{key.id}  {state}\n"
                f"  {printable(key.principal)} of tenant {key.tenant}: {roles}\n"
                f"  created {_day(key.created_at)}, expires {_day(key.expires_at)}"
            )


@keys.command()
@click.argument("key_id", metavar="ID")
@_file_option
@config_options
def revoke(**options: Any) -> None:
    """Revoke the key ID, for good. Servers notice within seconds."""
    key = _key_file(options, _config(options)).revoke(options["key_id"])
    click.echo(f"revoked key {key.id} of {key.principal}", err=True)


def _config(options: dict[str, Any]) -> Config:
    return load_config(options["config_file"], options["assignments"], {})


def _check_roles(roles: Sequence[str], config: Config) -> None:
    known = config.policy.all_roles
    for role in roles:
        if role not in known:
            raise OperatorError(
                f'there is no role "{role}" but {", ".join(sorted(known))}; '
                "name the settings of the server with --config"
            )


def _key_file(options: dict[str, Any], config: Config) -> KeyFile:
    path = options["file"] or config.identity.api_keys_file
    if path is None:
        raise OperatorError("no file of API keys is configured; set identity.api_keys_file")
    return KeyFile(path)


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "good"


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d}"


def _to_json(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"sha256"})
