"""`kotaemon-grpc serve`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click
import uvloop

from kotaemon_grpc.app import serve as run
from kotaemon_grpc.cli.settings import config_options, layers_of, load_layers
from kotaemon_grpc.telemetry.log_stream import LogStream
from kotaemon_grpc.telemetry.logs import configure
from kotaemon_grpc.transport.shutdown import exit_within

if TYPE_CHECKING:
    from collections.abc import Coroutine

_FLAGS = {
    "listen": "server.listen",
    "health_listen": "server.health_listen",
    "operations_listen": "operations.listen",
    "data_dir": "storage.data_dir",
    "certs": "tls.dir",
    "insecure": "server.insecure",
    "reflection": "server.reflection",
    "import_paths": "documents.import_paths",
    "log_level": "log.level",
    "log_format": "log.format",
}


_LEAVE_S = 5.0


async def _left_in_time(served: Coroutine[object, object, None]) -> None:
    """Serve, and see to it that no thread that hangs holds up the end of the process.

    The loop waits for all threads at its end, and then Python does.
    """
    status = 1
    try:
        await served
        status = 0
    finally:
        exit_within(_LEAVE_S, status)


@click.command(short_help="Start the server in the foreground.")
@click.option("--listen", metavar="HOST:PORT", help="gRPC over TLS. [127.0.0.1:50051]")
@click.option(
    "--health-listen", metavar="HOST:PORT", help="gRPC health alone, plaintext. [127.0.0.1:50052]"
)
@click.option(
    "--operations-listen",
    metavar="HOST:PORT",
    help="HTTP for operators: /, /metrics, /healthz, /readyz. [127.0.0.1:9464]",
)
@click.option("--data-dir", metavar="DIR", help="Where documents are kept. [var]")
@click.option("--certs", metavar="DIR", help="Where the development PKI lives. [certs/dev]")
@click.option(
    "--insecure",
    is_flag=True,
    default=None,
    help="Serve anybody as an administrator in plaintext; on a loopback address alone.",
)
@click.option(
    "--reflection/--no-reflection", default=None, help="Describe the services to clients. [yes]"
)
@click.option(
    "--import",
    "import_paths",
    multiple=True,
    metavar="PATH",
    help="Import a file or directory before serving. Repeatable.",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [info]")
@click.option("--log-format", metavar="FORMAT", help="json or console. [json]")
@config_options
def serve(**options: Any) -> None:
    """Start the server in the foreground; SIGTERM or Ctrl-C drains and ends it.

    Port 0 picks a free port. When it serves, stdout has one JSON line whose
    "event" is "server.serving", with every address.
    """
    flags = {key: options[name] for name, key in _FLAGS.items()}
    if not flags["documents.import_paths"]:
        flags["documents.import_paths"] = None
    layers = layers_of(options["config_file"], options["assignments"], flags)
    config = load_layers(layers)
    # Without a standard output there is nobody to log to.
    descriptor = sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_WRONLY)
    with LogStream(descriptor) as stream:
        log = configure(config.log.level, config.log.format, stream)
        served = run(config, log, dropped_lines=lambda: stream.dropped, layers=layers)
        uvloop.run(_left_in_time(served))
