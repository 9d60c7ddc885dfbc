"""The command line: one file a verb."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

import click

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.telemetry.grpc_core import quiet_grpc_core

FAILED = 1
"""The exit status of any failure but wrong usage, which is click's 2."""

_EXIT_STATUS_BASE = 128  # POSIX shells report 128 + n for a process that signal n ended
_INTERRUPTED = _EXIT_STATUS_BASE + signal.SIGINT

_VERBS = {
    "ask": "ask",
    "certs": "certs",
    "chat": "chat",
    "config": "config",
    "documents": "documents",
    "health": "health",
    "import": "import_",
    "keys": "keys",
    "search": "search",
    "serve": "serve",
    "version": "version",
}


class _Verbs(click.Group):
    """Imports a verb when it is used: asking must not load what only serving needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _VERBS:
            return None
        module = import_module(f"kotaemon_grpc.cli.{_VERBS[cmd_name]}")
        command: click.Command = getattr(module, _VERBS[cmd_name])
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def _command() -> None:
    """Put RAG agents on gRPC: serve them, ask them, and look after their documents.

    Settings come from flags, else from KOTAEMON_GRPC_… in the environment, else
    from the file that --config names, else they have their defaults:
    "kotaemon-grpc config show" prints them.
    """


def _end_at_signals() -> None:
    """Let signals end the process at once, until the server listens to them itself.

    As the first process of a container it would pass over them, and a start may take long.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, lambda came, _frame: os._exit(_EXIT_STATUS_BASE + came))


def main() -> None:
    """Run the command line and end the process with its exit status."""
    if sys.argv[1:2] == ["serve"]:
        _end_at_signals()
    quiet_grpc_core(os.environ)
    try:
        status = _command.main(standalone_mode=False, prog_name="kotaemon-grpc")
        if sys.stdout:
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except OSError as error:
        # Our output: what is left of it must not fail again when Python ends. A reader that
        # has gone, as head does, is told nothing; a full disk is another matter.
        if not isinstance(error, BrokenPipeError):
            what = error.filename or "the output"
            click.echo(f"error: {what}: {(error.strerror or str(error)).lower()}", err=True)
        if sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OperatorError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    sys.exit(status)
