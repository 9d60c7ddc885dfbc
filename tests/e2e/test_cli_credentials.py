"""The verbs that call a server, with a token or an API key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def guarded(start: Callable[..., Any], command: Command, tmp_path: Path) -> tuple[Any, Path]:
    """A server that takes API keys alone, and the file of a key."""
    keys = tmp_path / "keys.json"
    made = command("keys", "create", "--principal=ann", "--role=admin", f"--file={keys}")
    key_file = tmp_path / "key"
    key_file.write_text(f"{made.stdout.strip()}\n")
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[server]\ncredentials = ["api_key"]\n[identity]\napi_keys_file = "{keys}"\n'
    )
    return start(f"--config={settings}"), key_file


def test_a_key_takes_the_place_of_a_certificate(
    guarded: tuple[Any, Path], command: Command, tmp_path: Path
) -> None:
    server, key_file = guarded
    alone = tmp_path / "ca-alone"
    alone.mkdir()
    (alone / "ca.pem").write_bytes((server.certs / "ca.pem").read_bytes())
    flags = [f"--target={server.address}", f"--certs={alone}"]
    listed = command("documents", "list", f"--api-key-file={key_file}", *flags)
    assert (listed.stdout, listed.stderr, listed.returncode) == ("", "no documents\n", 0)
    as_json = command("documents", "list", "--json", f"--api-key-file={key_file}", *flags)
    assert (as_json.stdout, as_json.stderr, as_json.returncode) == ("", "", 0)
    by_environment = command(
        "documents", "list", *flags, KOTAEMON_GRPC_CLIENT__API_KEY_FILE=str(key_file)
    )
    assert by_environment.returncode == 0
    with_certificate = command("documents", "list", f"--api-key-file={key_file}", *server.flags)
    assert with_certificate.returncode == 0
    without = command("documents", "list", *server.flags)
    assert without.stderr.startswith("error: unauthenticated: ")
    as_token = command("documents", "list", f"--token-file={key_file}", *flags)
    assert as_token.stderr.startswith("error: unauthenticated: ")
    assert key_file.read_text().strip() not in as_token.stderr


def test_files_that_cannot_be_shown_fail_in_one_line(
    certs: Path, command: Command, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    flags = ["documents", "list", "--target=127.0.0.1:1", f"--certs={certs}"]
    for arguments, words in (
        ([f"--token-file={tmp_path / 'none'}"], "none"),
        ([f"--api-key-file={empty}"], "empty"),
        ([f"--token-file={empty}", f"--api-key-file={empty}"], "give one of"),
    ):
        done = command(*flags, *arguments)
        assert (done.stdout, done.returncode) == ("", 1)
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_secret_is_not_sent_in_plaintext_to_another_machine(
    command: Command, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    done = command(
        "ask", "why?", "--insecure", "--target=server.example:1", f"--token-file={token}"
    )
    assert done.returncode == 1
    assert "plaintext" in done.stderr
    assert "s3cret" not in done.stderr


def test_a_refusal_says_when_to_try_again(start: Callable[..., Any], command: Command) -> None:
    server = start("--set=limits.calls_per_second=0.02")
    assert command("documents", "list", *server.flags).returncode == 0
    refused = command("documents", "list", "--timeout=5", *server.flags)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: resource exhausted: ")
    assert re.search(r"; try again in \d+ s \(request ", refused.stderr)
