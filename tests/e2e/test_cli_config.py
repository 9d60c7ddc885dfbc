"""`config` and the order of the settings, as a shell sees them."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]


def test_flags_beat_the_environment_which_beats_the_file(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[server]\nlisten = "127.0.0.1:1001"\nhealth_listen = "127.0.0.1:1002"\n'
        '[operations]\nlisten = "127.0.0.1:1003"\n'
    )
    done = command(
        "config",
        "show",
        f"--config={file}",
        "--set=server.listen=127.0.0.1:3001",
        KOTAEMON_GRPC_SERVER__LISTEN="127.0.0.1:2001",
        KOTAEMON_GRPC_SERVER__HEALTH_LISTEN="127.0.0.1:2002",
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = tomllib.loads(done.stdout)
    assert shown["server"]["listen"] == "127.0.0.1:3001"
    assert shown["server"]["health_listen"] == "127.0.0.1:2002"
    assert shown["operations"]["listen"] == "127.0.0.1:1003"
    assert shown["storage"]["data_dir"] == "var"


def test_show_masks_secrets_in_both_forms(command: Command) -> None:
    words = "open-sesame"
    as_toml = command("config", "show", KOTAEMON_GRPC_TLS__KEY_PASSPHRASE=words)
    as_json = command("config", "show", "--json", KOTAEMON_GRPC_TLS__KEY_PASSPHRASE=words)
    assert words not in as_toml.stdout + as_toml.stderr + as_json.stdout + as_json.stderr
    assert tomllib.loads(as_toml.stdout) == json.loads(as_json.stdout)
    assert json.loads(as_json.stdout)["tls"]["key_passphrase"] == "********"  # noqa: S105 - it is masked


def test_what_show_prints_is_a_file_that_check_accepts(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "shown.toml"
    file.write_text(command("config", "show").stdout)
    done = command("config", "check", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file} is valid\n")


def test_an_unknown_key_names_the_nearest_in_one_line(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[server]\nlissten = "127.0.0.1:1"\n')
    in_file = command("config", "check", str(file))
    in_environment = command("config", "show", KOTAEMON_GRPC_SERVER__LISTN="127.0.0.1:1")
    for done, nearest in (
        (in_file, 'unknown key "server.lissten"; did you mean "server.listen"?'),
        (in_environment, 'did you mean "KOTAEMON_GRPC_SERVER__LISTEN"?'),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert nearest in line


def test_an_unknown_key_on_the_command_line_is_wrong_usage(command: Command) -> None:
    done = command("config", "show", "--set=server.lisen=127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'unknown key "server.lisen"; did you mean "server.listen"?' in done.stderr


def test_a_file_that_is_missing_or_no_toml_fails_in_one_line(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text("[server\n")
    for name in ("none.toml", "bad.toml"):
        done = command("config", "check", name)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert name in line


def test_the_environment_tells_a_verb_where_its_server_is(command: Command, server: object) -> None:
    done = command(
        "ask",
        "How many steps do the stairs of the tower have?",
        KOTAEMON_GRPC_CLIENT__TARGET=server.address,
        KOTAEMON_GRPC_TLS__DIR=str(server.certs),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The stairs have 167 steps" in done.stdout
