from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kotaemon_grpc.cli.config import config
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run() -> Callable[..., str]:
    def invoke(*args: str, **environ: str) -> str:
        result = CliRunner(env=environ).invoke(config, args)
        if isinstance(result.exception, OperatorError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.toml"
    path.write_text('[server]\nlisten = "127.0.0.1:7"\n[documents]\nimport_paths = ["a \\"b\\""]\n')
    return path


def test_show_prints_the_effective_settings_as_toml(run: Callable[..., str], file: Path) -> None:
    shown = tomllib.loads(run("show", "--config", str(file), KOTAEMON_GRPC_LOG__LEVEL="debug"))
    assert shown["server"]["listen"] == "127.0.0.1:7"
    assert shown["documents"]["import_paths"] == ['a "b"']
    assert shown["log"]["level"] == "debug"
    assert shown["conversations"] == {"history_turns": 6, "retention_days": 90}


def test_show_takes_settings_one_by_one(run: Callable[..., str], file: Path) -> None:
    shown = tomllib.loads(
        run(
            "show",
            "--config",
            str(file),
            "--set",
            "server.listen=[::1]:0",
            "--set",
            "log.level=error",
        )
    )
    assert shown["server"]["listen"] == "[::1]:0"
    assert shown["log"]["level"] == "error"


def test_show_prints_the_same_as_json(run: Callable[..., str], file: Path) -> None:
    as_json = json.loads(run("show", "--json", "--config", str(file)))
    assert as_json == tomllib.loads(run("show", "--config", str(file)))


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_masks_secrets(run: Callable[..., str], form: list[str]) -> None:
    words = "geheim"
    shown = run("show", *form, KOTAEMON_GRPC_TLS__KEY_PASSPHRASE=words)
    assert words not in shown
    assert '"********"' in shown


def test_show_reads_the_file_that_the_environment_names(
    run: Callable[..., str], file: Path
) -> None:
    assert '"127.0.0.1:7"' in run("show", KOTAEMON_GRPC_CONFIG=str(file))


def test_check_accepts_a_good_file_whatever_the_environment(
    run: Callable[..., str], file: Path
) -> None:
    assert run("check", str(file), KOTAEMON_GRPC_NONSENSE="1") == f"{file} is valid\n"


def test_check_refuses_a_bad_file(run: Callable[..., str], file: Path) -> None:
    file.write_text("[server]\nlisen = 1\n")
    with pytest.raises(OperatorError, match=r'did you mean "server\.listen"'):
        run("check", str(file))
