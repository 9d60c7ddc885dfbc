"""`kotaemon-grpc search`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from kotaemon_grpc.cli.calls import NOTHING_FOUND, call
from kotaemon_grpc.cli.resources import collection_option
from kotaemon_grpc.cli.settings import client_config, client_options
from kotaemon_grpc.cli.show import place_to_text, printable


@click.command()
@click.argument("query")
@collection_option("What is searched.")
@click.option(
    "--max-results", type=click.IntRange(1, 100), default=10, show_default=True, metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@client_options
def search(**options: Any) -> int:
    """Print the passages that fit QUERY best.

    Exit status: 0 found, 3 nothing found, 2 wrong usage, 1 any other failure.
    """
    config = client_config(options)
    results = call(
        config,
        lambda client: client.search(
            options["query"],
            collection=options["collection"],
            page_size=options["max_results"],
        ),
    )
    for number, result in enumerate(results, 1):
        if options["as_json"]:
            click.echo(json.dumps(asdict(result), ensure_ascii=False))
        else:
            place = place_to_text(result.title, result.uri, result.location)
            click.echo(
                f"[{number}] {place}  ({result.score:.2f})\n{printable(result.text.strip())}\n"
            )
    if not results and not options["as_json"]:
        click.echo("no passages", err=True)
    return 0 if results else NOTHING_FOUND
