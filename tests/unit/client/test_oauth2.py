"""Tokens from a real token endpoint, over HTTP and HTTPS."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from kotaemon_grpc.client import ConfigurationError, UnavailableError
from kotaemon_grpc.client.errors import CredentialsError
from kotaemon_grpc.client.oauth2 import OAuth2ClientCredentials
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "s3cret"  # noqa: S105 - of a server of this test's own


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Endpoint:
    """A token endpoint that numbers its tokens, and can be told to misbehave."""

    def __init__(self, pki_dir: Path | None = None) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, str]]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer: Callable[[int], bytes] = token
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.was_asked = threading.Event()
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                endpoint.requests.append(
                    (dict(self.headers), dict(parse_qsl(body.decode(), strict_parsing=True)))
                )
                endpoint.was_asked.set()
                answer = endpoint.answer(len(endpoint.requests))
                endpoint.may_answer.wait()
                self.send_response(endpoint.status)
                for name, value in endpoint.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Say nothing of clients that go away."""

        self._server = Server(("127.0.0.1", 0), Handler)
        scheme = "http"
        if pki_dir:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pki_dir / "server.pem", pki_dir / "server-key.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def token(number: int, **changes: Any) -> bytes:
    made = {"access_token": f"t{number}", "token_type": "Bearer", "expires_in": 300}
    return json.dumps(made | changes).encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def credentials(endpoint: Endpoint, clock: Clock) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(endpoint.url, "robot", SECRET, clock=clock)


async def shown(credentials: OAuth2ClientCredentials) -> str:
    ((name, value),) = await credentials.metadata()
    assert name == "authorization"
    return value.removeprefix("Bearer ")


async def until_nothing_runs() -> None:
    """Wait for what was begun in the background."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


async def test_a_token_is_asked_for_as_the_standard_says(endpoint: Endpoint) -> None:
    credentials = OAuth2ClientCredentials(
        endpoint.url, "ro:bot", "p&ss wörd", scope="ask read", audience="agents"
    )
    assert await shown(credentials) == "t1"
    headers, form = endpoint.requests[0]
    assert form == {
        "grant_type": "client_credentials",
        "scope": "ask read",
        "audience": "agents",
    }
    kind, _, pair = headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"ro%3Abot:p%26ss+w%C3%B6rd")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_what_is_not_wanted_is_not_asked_for(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials
) -> None:
    await shown(credentials)
    assert endpoint.requests[0][1] == {"grant_type": "client_credentials"}


async def test_a_token_is_kept_while_it_is_good(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, clock: Clock
) -> None:
    assert await shown(credentials) == "t1"
    clock.now_s += 239
    assert await shown(credentials) == "t1"
    assert len(endpoint.requests) == 1


async def test_fifty_calls_at_once_ask_once(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials
) -> None:
    endpoint.may_answer.clear()
    calls = [asyncio.create_task(shown(credentials)) for _ in range(50)]
    await asyncio.to_thread(endpoint.was_asked.wait)
    calls[0].cancel()
    endpoint.may_answer.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert set(others) == {"t1"}
    assert len(endpoint.requests) == 1


async def test_a_token_is_replaced_ahead_of_its_end_and_nobody_waits(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, clock: Clock
) -> None:
    await shown(credentials)
    clock.now_s += 240
    endpoint.may_answer.clear()
    assert [await shown(credentials) for _ in range(5)] == ["t1"] * 5
    endpoint.may_answer.set()
    await until_nothing_runs()
    assert await shown(credentials) == "t2"
    assert len(endpoint.requests) == 2


async def test_a_token_that_has_ended_is_not_shown(
    credentials: OAuth2ClientCredentials, clock: Clock
) -> None:
    await shown(credentials)
    clock.now_s += 300
    assert await shown(credentials) == "t2"


async def test_a_token_that_the_server_says_has_expired_is_not_shown_again(
    credentials: OAuth2ClientCredentials,
) -> None:
    await shown(credentials)
    credentials.expired()
    assert await shown(credentials) == "t2"


async def test_a_good_token_is_used_while_no_other_can_be_got(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, clock: Clock
) -> None:
    await shown(credentials)
    endpoint.status = 503
    clock.now_s += 240
    assert await shown(credentials) == "t1"
    await until_nothing_runs()
    clock.now_s += 4
    assert await shown(credentials) == "t1"
    await until_nothing_runs()
    assert len(endpoint.requests) == 2
    endpoint.status = 200
    clock.now_s += 1
    assert await shown(credentials) == "t1"
    await until_nothing_runs()
    assert await shown(credentials) == "t3"


async def test_a_token_without_an_end_is_taken_to_have_one(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, clock: Clock
) -> None:
    endpoint.answer = lambda number: json.dumps(
        {"access_token": f"t{number}", "token_type": "bearer"}
    ).encode()
    await shown(credentials)
    clock.now_s += 300
    assert await shown(credentials) == "t2"


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_an_endpoint_in_trouble_may_be_asked_again(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, status: int
) -> None:
    endpoint.status = status
    with pytest.raises(UnavailableError, match=str(status)):
        await shown(credentials)
    endpoint.status = 200
    assert await shown(credentials) == "t2"


async def test_an_endpoint_that_is_not_there_may_be_asked_again(
    clock: Clock,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    credentials = OAuth2ClientCredentials(f"http://127.0.0.1:{port}", "robot", SECRET, clock=clock)
    with pytest.raises(UnavailableError, match="cannot be reached") as raised:
        await shown(credentials)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refusal_is_told_without_secrets(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, status: int
) -> None:
    endpoint.status = status
    endpoint.answer = lambda _: json.dumps(
        {"error": "invalid_client", "error_description": f"{SECRET} is wrong"}
    ).encode()
    with pytest.raises(CredentialsError, match=f"{status}: invalid_client") as raised:
        await shown(credentials)
    assert SECRET not in str(raised.value)
    endpoint.answer = lambda _: json.dumps({"error": f"{SECRET} is wrong"}).encode()
    with pytest.raises(CredentialsError, match=str(status)) as raised:
        await shown(credentials)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, status: int
) -> None:
    endpoint.status = status
    endpoint.headers["Location"] = endpoint.url
    with pytest.raises(CredentialsError, match=str(status)):
        await shown(credentials)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not JSON",
        b"[]",
        b"[" * 50_000,
        b"{}",
        b"\xff",
        token(1, access_token=""),
        token(1, access_token="a b"),  # noqa: S106 - no password
        token(1, access_token="a\r\nx: y"),  # noqa: S106 - no password
        token(1, access_token=7),
        token(1, token_type="mac"),  # noqa: S106 - no password
        token(1, token_type=None),
        token(1, expires_in="soon"),
        token(1, expires_in=0),
        token(1, expires_in=-5),
        token(1, expires_in=None),
        b'{"access_token": "t", "token_type": "Bearer", "expires_in": NaN}',
        b'{"access_token": "t", "token_type": "Bearer", "expires_in": 1e999}',
    ],
)
async def test_an_answer_without_a_token_is_refused(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials, answer: bytes
) -> None:
    endpoint.answer = lambda _: answer
    with pytest.raises(CredentialsError):
        await shown(credentials)


async def test_an_answer_without_end_is_not_read_to_its_end(
    endpoint: Endpoint, credentials: OAuth2ClientCredentials
) -> None:
    endpoint.answer = lambda number: token(number) + b" " * 1_000_000
    with pytest.raises(CredentialsError, match="more than 65536 bytes"):
        await shown(credentials)


async def test_a_secret_in_a_file_is_read_again(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first\n")
    credentials = OAuth2ClientCredentials(endpoint.url, "robot", client_secret_file=file)
    await shown(credentials)
    (tmp_path / "new").write_text("second\n")
    (tmp_path / "new").replace(file)
    credentials.expired()
    await shown(credentials)
    pairs = [base64.b64decode(headers["Authorization"][6:]) for headers, _ in endpoint.requests]
    assert pairs == [b"robot:first", b"robot:second"]


@pytest.fixture
def tls_endpoint(pki_dir: Path) -> Iterator[Endpoint]:
    endpoint = Endpoint(pki_dir)
    yield endpoint
    endpoint.close()


async def test_the_endpoint_is_checked_by_the_ca_that_is_given(
    tls_endpoint: Endpoint, pki_dir: Path
) -> None:
    credentials = OAuth2ClientCredentials(tls_endpoint.url, "robot", SECRET, ca=pki_dir / "ca.pem")
    assert await shown(credentials) == "t1"


@pytest.mark.parametrize("ca", ["another", "the system's"])
async def test_an_endpoint_of_another_ca_gets_no_secret(
    tls_endpoint: Endpoint, tmp_path: Path, ca: str
) -> None:
    pki.ensure(tmp_path / "other")
    credentials = OAuth2ClientCredentials(
        tls_endpoint.url,
        "robot",
        SECRET,
        ca=tmp_path / "other" / "ca.pem" if ca == "another" else None,
    )
    with pytest.raises(CredentialsError, match="certificate is not trusted"):
        await shown(credentials)
    assert tls_endpoint.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "token",
        "ftp://h.example/token",
        "http://h.example/token",
        "http://127.0.0.1.example/token",
        "https:///token",
        "https://h.example:0/token",
        "https://h.example:99999/token",
        "https://user:s3cret@h.example/token",
        "https://h.example/token#part",
        "https://h.example/to ken",
        "https://[h.example/token",
    ],
)
def test_a_url_that_cannot_work_or_would_tell_the_secret_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        OAuth2ClientCredentials(url, "robot", SECRET)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", ["http://localhost/t", "http://[::1]:8080/t", "https://h/t?a=b"])
def test_these_urls_are_taken(url: str) -> None:
    assert SECRET not in repr(OAuth2ClientCredentials(url, "robot", SECRET))


def test_the_query_of_the_url_is_not_shown() -> None:
    shown = repr(OAuth2ClientCredentials(f"https://h/t?key={SECRET}", "robot", "x"))
    assert shown == "OAuth2ClientCredentials('https://h/t', 'robot')"


def test_what_proves_the_client_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    url = "https://h.example"
    for values in (
        {"client_id": "", "client_secret": SECRET},
        {"client_id": "robot"},
        {"client_id": "robot", "client_secret": SECRET, "client_secret_file": file},
        {"client_id": "robot", "client_secret_file": tmp_path / "nowhere"},
        {"client_id": "robot", "client_secret": SECRET, "ca": tmp_path / "nowhere"},
        {"client_id": "robot", "client_secret": SECRET, "ca": file},
    ):
        with pytest.raises(ConfigurationError):
            OAuth2ClientCredentials(url, **values)  # type: ignore[arg-type] # as users may
