from __future__ import annotations

import datetime as dt
import json
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from kotaemon_grpc.cli.keys import keys
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def run(path: Path) -> Callable[..., Result]:
    def invoke(*args: str, status: int = 0, named: bool = True) -> Result:
        result = CliRunner().invoke(keys, [*args, *([f"--file={path}"] if named else [])])
        if isinstance(result.exception, OperatorError):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return invoke


def listed(run: Callable[..., Result]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json").stdout.splitlines()]


def test_create_prints_the_key_this_once(run: Callable[..., Result], path: Path) -> None:
    result = run("create", "--principal", "ci", "--tenant", "t-1", "--role=user", "--role=editor")
    key = result.stdout.rstrip("\n")
    assert re.fullmatch(r"[0-9a-f]{16}\.[\w-]{43}", key)
    key_id, secret = key.split(".")
    (note,) = result.stderr.splitlines()
    assert note.startswith(f"created key {key_id} of ci in {path}, good until ")
    assert note.endswith("; it is not shown again")
    assert secret not in note
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (row,) = listed(run)
    assert (row["id"], row["principal"], row["tenant"]) == (key_id, "ci", "t-1")
    assert (row["roles"], row["state"]) == (["user", "editor"], "good")
    assert set(row) == {
        *("id", "principal", "tenant", "roles", "state"),
        *("created_at", "expires_at", "revoked_at"),
    }
    for text in (run("list").stdout, run("list", "--json").stdout, path.read_text()):
        assert key_id in text
        assert secret not in text


def test_create_prints_json_too(run: Callable[..., Result]) -> None:
    made = json.loads(run("create", "--principal=ci", "--expires-days=0", "--json").stdout)
    assert made["key"].startswith(f"{made['id']}.")
    assert (made["principal"], made["tenant"], made["roles"]) == ("ci", "default", [])
    assert made["expires_at"] is None
    assert "sha256" not in made


@pytest.mark.parametrize(("arguments", "days"), [((), 90), (("--expires-days=7",), 7)])
def test_a_key_expires_after_the_days_named(
    run: Callable[..., Result], arguments: tuple[str, ...], days: int
) -> None:
    run("create", "--principal=ci", *arguments)
    (row,) = listed(run)
    start, end = (dt.datetime.fromisoformat(row[k]) for k in ("created_at", "expires_at"))
    assert end - start == dt.timedelta(days=days)


def test_revoke_ends_a_key_and_is_told(run: Callable[..., Result]) -> None:
    run("create", "--principal=ci")
    run("create", "--principal=cd", "--expires-days=0")
    first, second = (row["id"] for row in listed(run))
    result = run("revoke", first)
    assert (result.stdout, result.stderr) == ("", f"revoked key {first} of ci\n")
    assert [row["state"] for row in listed(run)] == ["revoked", "good"]
    text = run("list").stdout
    assert f"{first}  revoked\n  ci of tenant default: no roles\n" in text
    assert f"{second}  good\n" in text
    assert "expires never" in text
    with pytest.raises(OperatorError, match="no such key"):
        run("revoke", "f" * 16)


def test_the_file_is_that_of_the_settings(run: Callable[..., Result], path: Path) -> None:
    setting = f"--set=identity.api_keys_file={path}"
    key = run("create", "--principal=ci", setting, named=False).stdout
    assert run("list", setting, named=False).stdout.startswith(key.split(".")[0])
    with pytest.raises(OperatorError, match=r"set identity\.api_keys_file"):
        run("list", named=False)


def test_wrong_usage_is_said(run: Callable[..., Result], path: Path) -> None:
    run("create", status=2)
    run("create", "--principal=ci", "--expires-days=-1", status=2)
    run("revoke", status=2)
    with pytest.raises(OperatorError, match="the tenant of the key is not valid"):
        run("create", "--principal=ci", "--tenant=A")
    with pytest.raises(OperatorError, match=f"{re.escape(str(path))} cannot be read"):
        run("list")
