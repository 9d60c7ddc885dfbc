"""`kotaemon-grpc import`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from kotaemon_grpc.cli import FAILED
from kotaemon_grpc.cli.calls import call, explain
from kotaemon_grpc.cli.resources import base_uri_option, collection_option
from kotaemon_grpc.cli.settings import client_config, client_options
from kotaemon_grpc.client import (
    AuthenticationError,
    CallError,
    PermissionDeniedError,
    UnavailableError,
)
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.documents.walk import FoundFile, find_documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.client import AgentClient

_CONCURRENT = 16  # the server commits what is waiting together


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@collection_option("Where it goes.")
@base_uri_option
@client_options
def import_(**options: Any) -> int:
    """Import the Markdown and text files at and below each PATH.

    An unchanged file is left alone. A file that cannot be imported is named on
    stderr, the rest goes on, and the exit status is 1.
    """
    config = client_config(options)
    run = _Run(collection=options["collection"], base_uri=options["base_uri"])
    found: list[FoundFile] = []
    for item in find_documents(options["paths"]):
        if isinstance(item, FoundFile):
            found.append(item)
        else:
            run.fail(item.path, item.reason)
    run.refuse_collisions(found)
    if not found and not run.failed:
        raise OperatorError("no Markdown or text files there; name others")
    # Progress is for people: stdout has the result alone, and a log has no use for it.
    with click.progressbar(
        length=len(found), label="importing", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as progress:
        run.advance = progress.update
        call(config, lambda client: run.take_all(client, found))
    counts = [f"{run.outcomes[name]} {name}" for name in ("created", "replaced", "unchanged")]
    click.echo(", ".join([*counts, f"{run.failed} failed"]))
    return FAILED if run.failed else 0


@dataclass(slots=True)
class _Run:
    """One import of many files."""

    collection: str
    base_uri: str | None
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    advance: Callable[[int], object] = int

    def fail(self, path: Path, reason: str) -> None:
        self.failed += 1
        # A file name may hold anything, line breaks too; a failure is one line.
        name = json.dumps(str(path), ensure_ascii=False)[1:-1]
        progress = "\r\x1b[K" if sys.stderr.isatty() else ""  # of which a failure takes the line
        click.echo(f"{progress}{name}: {reason}", err=True)

    def refuse_collisions(self, found: list[FoundFile]) -> None:
        """Stop before anything is sent if one file would replace another."""
        paths: dict[str, Path] = {}
        for file in found:
            other = paths.setdefault(self._uri_of(file), file.path)
            if other.resolve() != file.path.resolve():
                raise click.UsageError(
                    f"{other} and {file.path} would have the same URI, {self._uri_of(file)}; "
                    "import them one after the other with a --base-uri each"
                )

    async def take_all(self, client: AgentClient, found: list[FoundFile]) -> None:
        places = asyncio.Semaphore(_CONCURRENT)
        tasks = [asyncio.create_task(self._take(client, file, places)) for file in found]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _take(self, client: AgentClient, file: FoundFile, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                with file.path.open("rb") as content:
                    imported = await client.import_document(
                        content,
                        uri=self._uri_of(file),
                        collection=self.collection,
                        mime_type=file.mime_type,
                    )
            except (UnavailableError, AuthenticationError, PermissionDeniedError):
                raise  # it is not the file's fault: the rest would fail as well
            except CallError as error:
                self.fail(file.path, explain(error))
            except OSError as error:
                self.fail(file.path, str(error.strerror).lower())
            else:
                self.outcomes[imported.outcome] += 1
            self.advance(1)

    def _uri_of(self, file: FoundFile) -> str:
        if self.base_uri is None:
            return file.uri
        relative = file.path.name if file.path == file.root else file.path.relative_to(file.root)
        return f"{self.base_uri.rstrip('/')}/{quote(os.fsencode(relative))}"
