"""What a client is not made of: refused at once, and not at the first call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import (
    AgentClient,
    ApiKeyFile,
    ClientError,
    ConfigurationError,
    Hooks,
    RetryPolicy,
    StaticToken,
    TlsFiles,
    TokenFile,
)
from kotaemon_grpc.client.testing import FakeTransport

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls": False},
        {"tls": True},
        {"tls": ""},
        {"tls": "certs"},
        {"tls": TlsFiles},
        {"credentials": ""},
        {"credentials": False},
        {"credentials": "secret"},
        {"credentials": StaticToken},
        {"retry": 0},
        {"retry": False},
        {"retry": 3},
        {"hooks": 5},
        {"hooks": Hooks()},
        {"hooks": "hooks"},
        {"hooks": [Hooks]},
        {"target": 5},
        {"target": None},
        {"target": [5]},
        {"target": b"h:1"},
        {"target": ["h:1", None]},
        {"timeout_s": True},
        {"timeout_s": "60"},
        {"timeout_s": 86_401},
        {"server_name": None},
    ],
)
async def test_what_is_of_a_wrong_kind_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        AgentClient(**{"tls": None, **wrong})


@pytest.mark.parametrize(
    "options",
    [{"attempts": 2.5}, {"attempts": True}, {"attempts": "3"}, {"max_backoff_s": "1"}],
    ids=str,
)
def test_a_policy_of_something_else_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RetryPolicy(**options)


@pytest.mark.parametrize("make", [TlsFiles, TlsFiles.in_directory, TokenFile, ApiKeyFile])
@pytest.mark.parametrize("wrong", [5, b"file", ""])
def test_what_is_no_path_is_refused(make: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="must be a path"):
        make(wrong)


async def test_paths_may_be_text(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc")
    assert await TokenFile(str(secret)).metadata() == (("authorization", "Bearer abc"),)
    assert (await ApiKeyFile(str(secret)).metadata())[0][1] == "abc"
    assert TlsFiles("ca.pem", key=str(secret)) == TlsFiles(Path("ca.pem"), key=secret)  # type: ignore[arg-type] # that is the test


@pytest.mark.parametrize("options", [{}, {"transport": FakeTransport({})}], ids=["grpc", "fake"])
def test_a_client_needs_an_event_loop(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="inside an asynchronous function"):
        AgentClient(tls=None, **options)


def test_a_client_is_of_no_use_on_another_event_loop() -> None:
    async def made() -> AgentClient:
        return AgentClient(tls=None, transport=FakeTransport({}))

    client = asyncio.run(made())

    async def used() -> None:
        with pytest.raises(ClientError, match="another event loop"):
            await client.ask("why?")
        with pytest.raises(ClientError, match="another event loop"):
            await client.replace_targets("h:1")
        with pytest.raises(ClientError, match="another event loop"):
            await client.close()

    asyncio.run(used())


@pytest.mark.parametrize("options", [{}, {"transport": FakeTransport({})}], ids=["grpc", "fake"])
async def test_a_closed_client_takes_no_targets(options: dict[str, Any]) -> None:
    client = AgentClient(tls=None, **options)
    await client.close()
    with pytest.raises(ClientError, match="closed"):
        await client.replace_targets("127.0.0.1:2")
