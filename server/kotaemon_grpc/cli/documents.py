"""`kotaemon-grpc documents`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kotaemon_grpc.cli.calls import call
from kotaemon_grpc.cli.resources import collection_option
from kotaemon_grpc.cli.settings import client_config, client_options
from kotaemon_grpc.cli.show import document_to_json, printable

if TYPE_CHECKING:
    from kotaemon_grpc.client import AgentClient, Document


@click.group()
def documents() -> None:
    """List, show and delete the documents that the server holds."""


@documents.command("list")
@collection_option("What is listed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@client_options
def list_(**options: Any) -> int:
    """List the documents of a collection."""
    config = client_config(options)

    async def use(client: AgentClient) -> int:
        count = 0
        async for document in client.list_documents(options["collection"]):
            _print(document, as_json=options["as_json"])
            count += 1
        return count

    if not call(config, use) and not options["as_json"]:
        click.echo("no documents", err=True)
    return 0


@documents.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@client_options
def get(**options: Any) -> int:
    """Show the document NAME, as "collections/default/documents/abc"."""
    config = client_config(options)
    found = call(config, lambda client: client.get_document(options["name"]))
    _print(found, as_json=options["as_json"])
    return 0


@documents.command()
@click.argument("name")
@client_options
def delete(**options: Any) -> int:
    """Delete the document NAME, for good."""
    config = client_config(options)
    call(config, lambda client: client.delete_document(options["name"]))
    return 0


def _print(document: Document, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document_to_json(document), ensure_ascii=False))
    else:
        click.echo(
            f"{document.name}\n"
            f"  {printable(document.title)}  <{document.uri}>\n"
            f"  {document.mime_type}, {document.size_bytes} bytes, "
            f"{document.passage_count} passages, {document.state}"
        )
