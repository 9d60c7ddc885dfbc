"""`kotaemon-grpc certs`: the development PKI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kotaemon_grpc.cli.settings import config_options, load_config
from kotaemon_grpc.transport import keyfiles, pki
from kotaemon_grpc.transport.certificate import Subject, Usage
from kotaemon_grpc.transport.description import describe

if TYPE_CHECKING:
    from kotaemon_grpc.transport.description import Description

_SHOWN = ("ca.pem", "server.pem", "client.pem")
_USAGES = {
    "both": (Usage.SERVER, Usage.CLIENT),
    "server": (Usage.SERVER,),
    "client": (Usage.CLIENT,),
}

_directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The directory of the development PKI (default: the setting tls.dir).",
)


@click.group()
def certs() -> None:
    """Make and look at development certificates."""


@certs.command()
@config_options
@_directory_option
def init(config_file: Path | None, assignments: tuple[str, ...], directory: Path | None) -> None:
    """Create what is missing and renew what is about to expire."""
    directory = _directory(config_file, assignments, directory)
    changes = pki.ensure(directory)
    for change in changes:
        click.echo(f"{'renewed' if change.renewed else 'created'} {change.path}")
    if not changes:
        click.echo(f"the certificates in {directory} are good")


@certs.command()
@click.argument("name", required=False)
@config_options
@_directory_option
@click.option("--san", "sans", multiple=True, metavar="DNS|IP", help="A name; may be repeated.")
@click.option("--spiffe", default="", metavar="URI", help="A SPIFFE ID.")
@click.option(
    "--usage",
    type=click.Choice(list(_USAGES)),
    default="both",
    show_default=True,
    help="Whether it is for a server or a client.",
)
@click.option(
    "--days",
    type=click.IntRange(min=1),
    default=pki.LEAF_LIFE.days,
    show_default=True,
    help="How long it is valid.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where it goes (default: beside the others).",
)
def issue(  # noqa: PLR0917 - click hands over one argument an option
    name: str | None,
    config_file: Path | None,
    assignments: tuple[str, ...],
    directory: Path | None,
    sans: tuple[str, ...],
    spiffe: str,
    usage: str,
    days: int,
    out: Path | None,
) -> None:
    """Issue NAME.pem and NAME-key.pem from the development CA.

    Without NAME they are named for the first --san, else for the last part of --spiffe.
    """
    name = name or (sans[0].removeprefix("*.") if sans else spiffe.rpartition("/")[2])
    if not name:
        raise click.UsageError("give NAME, --san or --spiffe")
    subject = Subject(name, sans=sans, spiffe=spiffe, usages=_USAGES[usage])
    paths = pki.issue(
        _directory(config_file, assignments, directory), name, subject, days=days, out=out
    )
    for path in paths:
        click.echo(f"created {path}")


@certs.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@config_options
@_directory_option
def show(
    files: tuple[Path, ...],
    config_file: Path | None,
    assignments: tuple[str, ...],
    directory: Path | None,
) -> None:
    """Describe certificates: those given, else the development PKI's."""
    directory = _directory(config_file, assignments, directory)
    advice = keyfiles.MEND if files else keyfiles.INIT
    for number, path in enumerate(files or [directory / name for name in _SHOWN]):
        if number:
            click.echo()
        click.echo(_text(describe(path, directory / "ca.pem", advice=advice)))


def _directory(config_file: Path | None, assignments: tuple[str, ...], given: Path | None) -> Path:
    return load_config(config_file, assignments, {"tls.dir": given}).tls.dir


def _text(found: Description) -> str:
    expired = found.remaining.total_seconds() <= 0
    left = "expired" if expired else f"{found.remaining.days} d {found.remaining.seconds // 3600} h"
    chains = {True: "yes", False: "no", None: "there is no ca.pem to compare with"}[found.chains]
    rows = {
        "subject": found.subject,
        "issuer": found.issuer,
        "names": ", ".join(found.sans) or "-",
        "SPIFFE ID": found.spiffe or "-",
        "not before": found.not_before.isoformat(),
        "not after": found.not_after.isoformat(),
        "remaining": left,
        "key": found.key_type,
        "SHA-256": found.sha256,
        "from ca.pem": chains,
    }
    return "\n".join([str(found.path), *(f"  {key + ':':<13}{rows[key]}" for key in rows)])
