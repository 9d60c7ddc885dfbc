"""What a process does not use it must not load: each of these is paid for on every start."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVER_ONLY = {"aiohttp", "cryptography", "markdown_it", "prometheus_client", "tantivy"}
_ROOTS = "print(*{name.partition('.')[0] for name in sys.modules}, *sys.modules)"


def loaded_by(program: str, *arguments: str) -> set[str]:
    """The modules, and the packages at their roots, that a program has loaded in the end."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{_ROOTS}", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_client_library_needs_neither_the_server_nor_the_command_line() -> None:
    loaded = loaded_by("import kotaemon_grpc.client")
    assert "grpc" in loaded
    assert not loaded & (SERVER_ONLY | {"click", "pydantic", "structlog", "kotaemon_grpc.core"})
    ours = {name.split(".")[1] for name in loaded if name.startswith("kotaemon_grpc.")}
    assert ours == {"client", "pb", "wire"}


def test_the_client_library_needs_nothing_but_what_it_is_installed_with() -> None:
    loaded = loaded_by("import kotaemon_grpc.client.testing")
    theirs = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    # grpc itself loads the last four: two of them only where they happen to be installed.
    assert {name for name in theirs if not name.startswith("_")} <= {
        "google",
        "grpc",
        "kotaemon_grpc",
        "tenacity",
        "cython_runtime",
        "grpc_health",
        "grpc_reflection",
        "typing_extensions",
    }


@pytest.mark.parametrize("verb", ["ask", "chat", "search", "documents"])
def test_a_verb_that_calls_a_server_does_not_load_one(verb: str) -> None:
    program = "from kotaemon_grpc.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    loaded = loaded_by(program, verb, "--help")
    assert f"kotaemon_grpc.cli.{verb}" in loaded
    assert not loaded & (SERVER_ONLY | {"kotaemon_grpc.app", "kotaemon_grpc.stores", "structlog"})
