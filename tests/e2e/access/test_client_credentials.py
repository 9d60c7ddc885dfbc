"""What `AgentClient` shows, before a real server that asks for it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import AgentClient, AuthenticationError, TlsFiles
from kotaemon_grpc.client.credentials import ApiKey, ApiKeyFile, StaticToken, TokenFile
from kotaemon_grpc.client.oauth2 import OAuth2ClientCredentials

from .providers import TokenServer

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "When does the canteen open?"


def client_of(house: Any, listener: str, credentials: Any) -> AgentClient:
    """Make a client without a certificate."""
    tls = TlsFiles(house.certs / "ca.pem")
    return AgentClient(house.address(listener), tls=tls, credentials=credentials)


@pytest.mark.parametrize("kind", ["token", "token file", "key", "key file"])
async def test_a_caller_is_known_by_what_it_shows(house: Any, tmp_path: Path, kind: str) -> None:
    is_token = kind.startswith("token")
    secret = house.issuers["rs"].token("acme", "user") if is_token else house.key
    file = tmp_path / "secret"
    file.write_text(f"{secret}\n")
    credentials = {
        "token": lambda: StaticToken(secret),
        "token file": lambda: TokenFile(file),
        "key": lambda: ApiKey(secret),
        "key file": lambda: ApiKeyFile(file),
    }[kind]()
    async with client_of(house, "jwt" if is_token else "api_key", credentials) as client:
        assert "11:42" in (await client.ask(QUESTION)).text


@pytest.mark.parametrize("listener", ["jwt", "api_key"])
async def test_who_shows_nothing_is_told_so(house: Any, listener: str) -> None:
    async with client_of(house, listener, None) as client:
        with pytest.raises(AuthenticationError) as raised:
            await client.ask(QUESTION)
    assert raised.value.reason == "CREDENTIALS_MISSING"


async def test_a_token_file_that_is_replaced_is_shown_anew(house: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(house.issuers["rs"].forged("acme", "user"))
    async with client_of(house, "jwt", TokenFile(file)) as client:
        with pytest.raises(AuthenticationError):
            await client.ask(QUESTION)
        (tmp_path / "new").write_text(house.issuers["rs"].token("acme", "user"))
        (tmp_path / "new").replace(file)
        assert "11:42" in (await client.ask(QUESTION)).text


@pytest.mark.parametrize("expired", [0, 1])
async def test_a_token_of_an_authorization_server_is_taken_and_replaced_when_it_has_expired(
    house: Any, expired: int
) -> None:
    def make(number: int) -> str:
        life_s = -600 if number <= expired else 600
        return house.issuers["rs"].token("acme", "user", exp=time.time() + life_s)

    with closing(TokenServer(house.certs, make)) as tokens:
        credentials = OAuth2ClientCredentials(
            f"{tokens.url}/token", "robot", "s3cret", ca=house.certs / "ca.pem"
        )
        async with client_of(house, "jwt", credentials) as client:
            for _ in range(3):
                assert "11:42" in (await client.ask(QUESTION)).text
            answers = [event async for event in client.stream(QUESTION)]
    assert "11:42" in answers[-1].text
    assert len(tokens.given) == 1 + expired
