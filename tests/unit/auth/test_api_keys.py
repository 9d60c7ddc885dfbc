from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
import math
import re
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kotaemon_grpc.auth.api_keys import ApiKeyVerifier
from kotaemon_grpc.auth.key_file import KeyFile, parse_keys
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = dt.timedelta(days=1)


@pytest.fixture
def file(tmp_path: Path, clock: Any) -> KeyFile:
    return KeyFile(
        tmp_path / "var" / "keys.json", lambda: dt.datetime.fromtimestamp(clock(), dt.UTC)
    )


@pytest.fixture
def verifier(file: KeyFile, clock: Any) -> Callable[..., Any]:
    """Make a verifier that has read the file."""

    async def make(**settings: Any) -> ApiKeyVerifier:
        made = ApiKeyVerifier(file.path, clock=clock, **settings)
        await made.load()
        return made

    return make


async def test_a_key_names_who_has_it(
    file: KeyFile, verifier: Callable[..., Any], now_s: float
) -> None:
    _, key = file.create("ci", tenant="t-1", roles=("user", "editor"), life=DAY)
    _, eternal = file.create("backup", life=None)
    made = await verifier()
    identity = made.identify(key)
    assert (identity.principal, identity.tenant) == ("key:ci", "t-1")
    assert identity.roles == {"user", "editor"}
    assert (identity.credential, identity.expires_at) == ("api_key", now_s + 86400)
    other = made.identify(eternal)
    assert (other.principal, other.tenant, other.roles) == ("key:backup", "default", frozenset())
    assert other.expires_at == math.inf


def test_a_key_is_256_random_bits_of_which_only_a_hash_is_kept(file: KeyFile) -> None:
    made = [file.create("ci", life=DAY) for _ in range(3)]
    texts = {text for _, text in made}
    assert len(texts) == 3
    content = file.path.read_text()
    for kept, text in made:
        assert re.fullmatch(r"[0-9a-f]{16}\.[A-Za-z0-9_-]{43}", text)
        key_id, secret = text.split(".")
        assert kept.id == key_id
        assert kept.sha256 == hashlib.sha256(secret.encode()).hexdigest()
        assert secret not in content
        assert secret not in repr(kept)
        assert kept.sha256 not in repr(kept)
    assert json.loads(content)["version"] == 1
    assert set(json.loads(content)["keys"][0]) == {
        *("id", "sha256", "principal", "tenant", "roles"),
        *("created_at", "expires_at", "revoked_at"),
    }
    assert file.read() == [kept for kept, _ in made]


async def test_unknown_ids_and_wrong_secrets_look_the_same(
    file: KeyFile, verifier: Callable[..., Any], problem_of: Callable[..., str]
) -> None:
    (kept, key), (_, other) = (file.create("ci", life=DAY) for _ in range(2))
    file.revoke(kept.id)
    made = await verifier()
    key_id, secret = key.split(".")
    wrong = {
        "unknown": f"{'0' * 16}.{secret}",
        "another's": f"{other.split('.')[0]}.{secret}",
        "revoked, wrong secret": f"{key_id}.{'A' * 43}",
    }
    assert {name: problem_of(made.identify, text) for name, text in wrong.items()} == dict.fromkeys(
        wrong, "NOT_TRUSTED"
    )
    assert problem_of(made.identify, key) == "REVOKED"
    for text in (key[:-1], f"{key}A", f" {key}", key.replace(".", ":"), key.upper(), secret, ""):
        assert problem_of(made.identify, text) == "MALFORMED"


async def test_a_key_expires(
    file: KeyFile, verifier: Callable[..., Any], clock: Any, problem_of: Callable[..., str]
) -> None:
    _, key = file.create("ci", life=DAY)
    made = await verifier()
    clock.now_s += 86399.9
    assert made.identify(key).principal == "key:ci"
    clock.now_s += 0.1
    assert problem_of(made.identify, key) == "EXPIRED"


async def test_a_running_server_notices_new_and_revoked_keys_and_keeps_the_last_good_file(
    file: KeyFile, verifier: Callable[..., Any], naps: Any, problem_of: Callable[..., str]
) -> None:
    kept, key = file.create("ci", life=DAY)
    told: list[bool | str] = []
    made = await verifier(
        on_reload=told.append, on_change=lambda: told.append("change"), sleep=naps
    )
    following = asyncio.create_task(made.refresh_forever())

    async def attempt() -> list[bool | str]:
        told.clear()
        naps.end()
        await naps.begun()
        return list(told)

    assert told == [True, "change"]
    assert await naps.begun() == 2
    assert await attempt() == []
    _, second = file.create("cd", life=DAY)
    assert await attempt() == [True, "change"]
    assert made.identify(second).principal == "key:cd"
    good = file.path.read_bytes()
    file.path.write_bytes(good[:-10])
    assert await attempt() == [False]
    assert made.problem.startswith("it is no file of API keys")
    assert made.identify(key).principal == "key:ci"
    file.path.write_bytes(good)
    assert await attempt() == [True]
    file.revoke(kept.id)
    assert await attempt() == [True, "change"]
    assert problem_of(made.identify, key) == "REVOKED"
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


def test_revoking_is_for_good_and_only_of_keys_that_are_there(file: KeyFile, clock: Any) -> None:
    kept, _ = file.create("ci", life=DAY)
    first = file.revoke(kept.id)
    clock.now_s += 10
    assert file.revoke(kept.id) == first == file.read()[0]
    assert first.revoked_at == kept.created_at
    with pytest.raises(OperatorError, match="no such key"):
        file.revoke("f" * 16)


def test_the_file_is_private_and_nothing_else_is_left_behind(file: KeyFile) -> None:
    file.create("ci", life=DAY)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    file.path.chmod(0o644)
    file.create("ci", life=DAY)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert {path.name for path in file.path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_a_link_to_the_file_stays_one(file: KeyFile, tmp_path: Path) -> None:
    file.create("ci", life=DAY)
    link = tmp_path / "link.json"
    link.symlink_to(file.path)
    KeyFile(link).create("cd", life=DAY)
    assert link.is_symlink()
    assert len(file.read()) == 2


def test_writers_at_the_same_time_lose_nothing(file: KeyFile) -> None:
    start = threading.Barrier(8)

    def write() -> None:
        start.wait()
        for _ in range(5):
            KeyFile(file.path).create("ci", life=DAY)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file.read()) == 40


GOOD = {
    "id": "0123456789abcdef",
    "sha256": "0" * 64,
    "principal": "ci",
    "tenant": "default",
    "roles": ["user"],
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
    "revoked_at": None,
}


def content(**members: Any) -> bytes:
    key = {k: v for k, v in {**GOOD, **members}.items() if v != "absent"}
    return json.dumps({"version": 1, "keys": [key]}).encode()


def test_the_format_of_the_file_is_what_is_documented() -> None:
    assert list(parse_keys(content())) == ["0123456789abcdef"]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"x",
        b"[]",
        b"[" * 100_000,
        b'{"version": 2, "keys": []}',
        b'{"version": 1, "keys": {}}',
        b'{"version": 1, "keys": [], "more": 1}',
        content()[:-1],
        content(id="x"),
        content(id="0123456789ABCDEF"),
        content(sha256="0" * 63),
        content(principal=""),
        content(principal="a b"),
        content(principal="a\nb"),
        content(tenant="A"),
        content(tenant="a\n"),
        content(roles="user"),
        content(roles=["a b"]),
        content(created_at="2026-01-01T00:00:00"),
        content(expires_at="absent"),
        content(expires_at="soon"),
        content(revoked_at="absent"),
        content(expires="2026-01-01T00:00:00Z"),
        json.dumps({"version": 1, "keys": [GOOD, GOOD]}).encode(),
    ],
)
async def test_a_damaged_file_is_an_error_for_the_operator_without_its_content(
    file: KeyFile, verifier: Callable[..., Any], damaged: bytes
) -> None:
    with pytest.raises(SourceError):
        parse_keys(damaged)
    file.path.parent.mkdir()
    file.path.write_bytes(damaged)
    message = f"^{file.path} cannot be used: it is no file of API keys: [^\n]+$"
    for use in (file.read, lambda: file.create("ci", life=DAY), lambda: file.revoke("f" * 16)):
        with pytest.raises(OperatorError, match=message) as caught:
            use()
        assert GOOD["sha256"] not in str(caught.value)
    with pytest.raises(OperatorError, match=message[:-1]):
        await verifier()
    assert file.path.read_bytes() == damaged


async def test_a_missing_file_is_an_error_for_the_operator(
    file: KeyFile, verifier: Callable[..., Any]
) -> None:
    with pytest.raises(OperatorError, match="no such file"):
        await verifier()
    with pytest.raises(OperatorError, match='run "kotaemon-grpc keys create"'):
        file.read()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"principal": "a b"}, "principal"),
        ({"principal": ""}, "principal"),
        ({"principal": "ci", "tenant": "A"}, "tenant"),
        ({"principal": "ci", "roles": ("a b",)}, "roles"),
    ],
)
def test_what_would_be_a_damaged_file_is_not_written(
    file: KeyFile, arguments: dict[str, Any], what: str
) -> None:
    with pytest.raises(OperatorError, match=f"the {what} of the key is not valid"):
        file.create(**arguments, life=DAY)
    assert not file.path.exists()


def test_a_directory_that_cannot_be_made_is_an_error_for_the_operator(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="cannot be written: "):
        KeyFile(tmp_path / "file" / "keys.json").create("ci", life=DAY)


@given(st.text() | st.from_regex(r"[0-9a-f]{16}\.[\w-]{43}", fullmatch=True))
def test_whatever_is_sent_it_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ApiKeyVerifier(Path("none")).identify(text)
    assert len(text) < 20 or text not in str(caught.value)
