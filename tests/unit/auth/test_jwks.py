from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.auth.jwks import KeySet
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import CredentialsSourceUnavailable, OperatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

URL = "https://idp.example.org/keys"


class Provider:
    """An identity provider: what it gives when its keys are fetched."""

    def __init__(self) -> None:
        self.gives: bytes | Exception = OSError("down")
        self.fetches: list[tuple[str, float, Path | None]] = []

    def __call__(self, url: str, timeout_s: float, ca: Path | None) -> bytes:
        self.fetches.append((url, timeout_s, ca))
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Followed:
    """A key set that is kept current, one attempt at a time."""

    def __init__(self, source: str, naps: Any, **settings: Any) -> None:
        self.told: list[bool | str] = []
        self.now_s = 0.0
        self.naps = naps
        self.keys = KeySet(
            source,
            on_reload=self.told.append,
            on_change=lambda: self.told.append("change"),
            sleep=naps,
            clock=lambda: self.now_s,
            **settings,
        )

    async def attempt(self) -> float:
        """Let the set be read once more, and return how long it then rests."""
        self.naps.end()
        return await self.naps.begun()


async def settled() -> None:
    """Let every task that can go on have its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def follow(naps: Any) -> AsyncIterator[Callable[..., Any]]:
    """Load a key set and keep it current: `followed, rest_s = await follow(source)`."""
    running = []

    async def start(source: str, **settings: Any) -> tuple[Followed, float]:
        followed = Followed(source, naps, **settings)
        await followed.keys.load()
        running.append(asyncio.create_task(followed.keys.refresh_forever()))
        return followed, await naps.begun()

    yield start
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# --- which key is found ----------------------------------------------------


async def test_a_token_without_a_kid_needs_that_there_is_one_key_only(
    jwk: Callable[..., Any], jwks: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("rs"), jwk("rs2"), jwk("es")))
    keys = KeySet(str(path))
    await keys.load()
    assert keys.find(None, "ES256") is not None
    assert keys.find(None, "RS256") is None
    assert keys.find("rs", "RS256") is not None
    assert keys.find("rs", "ES256") is None


# --- from a URL ----------------------------------------------------------------


async def test_keys_are_fetched_again_and_again(
    provider: Provider, follow: Callable[..., Any], jwk: Any, jwks: Any, tmp_path: Path
) -> None:
    provider.gives = jwks(jwk("rs"))
    ca = tmp_path / "ca.pem"
    settings = {"fetch": provider, "refresh_s": 300.0, "timeout_s": 3.0, "ca": ca}
    followed, rest_s = await follow(URL, **settings)
    assert rest_s == 300
    assert provider.fetches == [(URL, 3.0, ca)]
    assert followed.keys.find("rs", "RS256") is not None

    assert await followed.attempt() == 300
    assert followed.told == [True, "change", True]  # nothing is forgotten for the same keys

    provider.gives = jwks(jwk("rs2"))
    await followed.attempt()
    assert followed.told[3:] == [True, "change"]
    assert followed.keys.find("rs", "RS256") is None
    assert followed.keys.find("rs2", "RS256") is not None


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        (OSError(111, "x"), "connection refused"),
        (OSError("x"), "OSError"),
        (socket.gaierror(-2, "x"), "its host name is not known"),
        (TimeoutError("x"), "it takes too long"),
        (TimeoutError(110, "x"), "it takes too long"),
        (ValueError("secret"), "ValueError"),
        (SourceError("it is odd"), "it is odd"),
        (b"{}", 'it is no JSON Web Key set, which has a list "keys"'),
        (b"[" * 100_000, "it is not JSON"),
    ],
)
async def test_the_last_good_set_is_kept(
    *,
    provider: Provider,
    follow: Callable[..., Any],
    jwk: Any,
    jwks: Any,
    failure: bytes | Exception,
    problem: str,
) -> None:
    provider.gives = good = jwks(jwk("rs"))
    followed, _ = await follow(URL, fetch=provider)
    provider.gives = failure
    rests = [await followed.attempt() for _ in range(12)]
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert followed.keys.find("rs", "RS256") is not None
    assert followed.keys.problem == problem
    assert followed.told == [True, "change"] + [False] * 12
    provider.gives = good
    assert await followed.attempt() == 300
    assert followed.keys.problem == ""
    assert followed.told[-1] is True


async def test_a_provider_that_is_down_at_the_start_is_waited_for(
    provider: Provider, follow: Callable[..., Any], jwk: Any, jwks: Any
) -> None:
    followed, rest_s = await follow(URL, fetch=provider)
    assert rest_s == 1
    assert followed.told == [False]
    for retry_after_s in (1, 2, 4, 8, 10, 10):  # what is asked for comes within 10 s
        with pytest.raises(CredentialsSourceUnavailable) as raised:
            followed.keys.find("rs", "RS256")
        assert raised.value.retry_after_s == retry_after_s
        await followed.attempt()
    provider.gives = jwks(jwk("rs"))
    assert await followed.attempt() == 300
    assert followed.keys.find("rs", "RS256") is not None
    assert followed.keys.find("other", "RS256") is None
    provider.gives = OSError("down")
    await followed.attempt()
    assert followed.keys.find("other", "RS256") is None  # they were read: it is a bad token


async def test_the_start_does_not_wait_for_a_provider_that_keeps_silent(
    follow: Callable[..., Any], jwk: Any, jwks: Any
) -> None:
    answers = threading.Event()

    def fetch(*_: object) -> bytes:
        assert answers.wait(60)
        return jwks(jwk("rs"))

    followed, rest_s = await follow(URL, fetch=fetch)
    assert rest_s == 1
    assert (followed.told, followed.keys.problem) == ([False], "it takes too long")
    with pytest.raises(CredentialsSourceUnavailable):
        followed.keys.find("rs", "RS256")
    answers.set()
    assert await followed.attempt() == 300  # the fetch that was begun, and no second one
    assert followed.keys.find("rs", "RS256") is not None


async def test_an_unknown_key_is_looked_for_soon_but_not_often(
    provider: Provider, follow: Callable[..., Any], jwk: Any, jwks: Any, naps: Any
) -> None:
    provider.gives = jwks(jwk("rs"))
    followed, _ = await follow(URL, fetch=provider)
    provider.gives = jwks(jwk("rs"), jwk("rs2"))

    followed.now_s = 9.9  # after the last attempt, at 0
    assert followed.keys.find("rs2", "RS256") is None
    await settled()
    assert naps.cut_short == 0

    followed.now_s = 10.0
    assert followed.keys.find("rs", "RS256") is not None  # no reason to look
    assert followed.keys.find("rs2", "RS256") is None
    assert await naps.begun() == 300
    assert (naps.cut_short, len(provider.fetches)) == (1, 2)
    assert followed.keys.find("rs2", "RS256") is not None

    followed.now_s = 19.9
    assert followed.keys.find("rs3", "RS256") is None
    await settled()
    assert naps.cut_short == 1


# --- from a file ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no such file"), (b"{}", "no JSON Web Key set"), (b" " * 2**20 + b"x", "larger than")],
)
async def test_a_file_must_be_good_at_the_start(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OperatorError, match=f"{path} cannot be used: .*{problem}"):
        await KeySet(str(path)).load()


async def test_a_file_is_read_again_when_it_has_changed(
    follow: Callable[..., Any], jwk: Any, jwks: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("rs")))
    followed, rest_s = await follow(str(path))
    assert rest_s == 2
    await followed.attempt()
    assert followed.told == [True, "change"]  # nothing was done

    path.write_bytes(b"{}")
    await followed.attempt()
    await followed.attempt()
    assert followed.told[2:] == [False]  # it is the same bad file still
    path.unlink()
    await followed.attempt()
    assert followed.told[3:] == [False]
    assert followed.keys.problem == "no such file or directory"
    assert followed.keys.find("rs", "RS256") is not None

    path.write_bytes(jwks(jwk("es")))
    await followed.attempt()
    assert followed.told[4:] == [True, "change"]
    assert followed.keys.find("rs", "RS256") is None


async def test_a_file_that_was_away_and_is_back_unchanged_is_good_again(
    follow: Callable[..., Any], jwk: Any, jwks: Any, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "keys.json").write_bytes(jwks(jwk("rs")))
    followed, _ = await follow(str(mount / "keys.json"))
    mount.rename(tmp_path / "away")
    await followed.attempt()
    (tmp_path / "away").rename(mount)
    await followed.attempt()
    assert followed.told == [True, "change", False, True]
    assert followed.keys.problem == ""


async def test_a_file_behind_links_is_followed_as_kubernetes_swaps_it(
    follow: Callable[..., Any], jwk: Any, jwks: Any, tmp_path: Path
) -> None:
    for name, kid in (("..1", "rs"), ("..2", "rs2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(jwks(jwk(kid)))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    followed, _ = await follow(str(tmp_path / "keys.json"))
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    await followed.attempt()
    assert followed.keys.find("rs2", "RS256") is not None
    assert followed.keys.find("rs", "RS256") is None
