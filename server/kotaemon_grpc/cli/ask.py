"""`kotaemon-grpc ask`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from kotaemon_grpc.cli.calls import NOTHING_FOUND, call
from kotaemon_grpc.cli.resources import collection_option, conversation_option
from kotaemon_grpc.cli.settings import client_config, client_options
from kotaemon_grpc.cli.show import answer_to_json, printable, sources_to_text


@click.command()
@click.argument("question")
@collection_option("What is asked.")
@conversation_option
@click.option("--language", default="", metavar="TAG", help='As "en" or "zh". [the question\'s]')
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@client_options
def ask(**options: Any) -> int:
    """Ask QUESTION and print the answer with its sources.

    Exit status: 0 answered, 3 nothing found, 2 wrong usage, 1 any other failure.
    """
    config = client_config(options)
    answer = call(
        config,
        lambda client: client.ask(
            options["question"],
            collection=options["collection"],
            conversation=options["conversation"],
            language=options["language"],
        ),
    )
    if options["as_json"]:
        click.echo(json.dumps(answer_to_json(answer), ensure_ascii=False))
    else:
        click.echo(printable(answer.text))
        if answer.citations:
            click.echo(f"\n{sources_to_text(answer)}")
        if sys.stdin.isatty():
            click.echo(f"\ngo on with --conversation {answer.conversation}", err=True)
    return 0 if answer.finish_reason == "answered" else NOTHING_FOUND
