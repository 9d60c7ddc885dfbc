from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.auth.fetch import MAX_BYTES, Url, get
from kotaemon_grpc.auth.jwks import KeySet
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = self.server.answers.get(self.path, (404, b""))  # type: ignore[attr-defined]
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("location", "/good?x=1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


class Web(ThreadingHTTPServer):
    """A web server on loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = {
            "/good?x=1": (200, b"keys"),
            "/moved": (302, b""),
            "/large": (200, b"x" * (MAX_BYTES + 1)),
            "/most": (200, b"x" * MAX_BYTES),
        }
        self.paths: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are the point of some tests."""

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.server_port}{path}"


def serving(web: Web) -> Iterator[Web]:
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield web
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    yield from serving(Web())


@pytest.fixture
def secure_web(tmp_path: Path) -> Iterator[Web]:
    pki.ensure(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server-key.pem")
    web = Web()
    web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
    yield from serving(web)


def test_a_body_is_fetched(web: Web) -> None:
    assert get(web.url("/good?x=1"), 10, None) == b"keys"
    assert len(get(web.url("/most"), 10, None)) == MAX_BYTES


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/moved", "status 302"), ("/none", "status 404"), ("/large", "larger than 1048576")],
)
def test_anything_else_is_refused(web: Web, path: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        get(web.url(path), 10, None)
    assert web.paths == [path]  # nothing was followed


def test_a_fetch_that_takes_too_long_is_given_up(web: Web) -> None:
    with pytest.raises((SourceError, TimeoutError)):
        get(web.url("/most"), 1e-9, None)


@pytest.mark.parametrize(
    ("scheme", "begins"),
    [
        ("http", b""),
        ("http", b"HTTP/1.1 200 OK\r\nx: "),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("http", b"HTTP/1.1 404 Not Found\r\nx: "),
        ("https", b"\x16\x03\x03\x40\x00"),  # a record of TLS that holds 16 KiB
    ],
)
def test_a_fetch_ends_whatever_drips(scheme: str, begins: bytes) -> None:
    before = set(threading.enumerate())
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(begins)
                while not stopped.wait(0.01):
                    peer.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(SourceError, match=r"^it takes longer than 0\.2 seconds$"):
                get(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/keys", 0.2, None)
        finally:
            stopped.set()
            thread.join()
    # Nothing is left to watch; others' threads may have ended meanwhile.
    assert set(threading.enumerate()) <= before


async def test_a_failure_of_tls_is_worded(web: Web, secure_web: Web) -> None:
    told = []
    for server in (web, secure_web):
        keys = KeySet(server.url("/good?x=1", "https"))
        await keys.load()
        told.append(keys.problem)
    assert told[0].startswith("TLS failed: ")
    assert told[1].startswith("its certificate is not trusted: ")
    assert not any(text.endswith(".") or "_" in text for text in told)


def test_a_peer_that_speaks_no_http_is_refused(web: Web) -> None:
    with pytest.raises(OSError, match="SSL"):
        get(web.url("/good?x=1", "https"), 10, None)


def test_the_certificate_must_be_of_the_given_ca(secure_web: Web, tmp_path: Path) -> None:
    url = secure_web.url("/good?x=1", "https")
    assert get(url, 10, tmp_path / "ca.pem") == b"keys"
    with pytest.raises(ssl.SSLCertVerificationError):
        get(url, 10, None)
    with pytest.raises(FileNotFoundError):
        get(url, 10, tmp_path / "none.pem")


async def test_a_key_set_comes_from_a_real_web_server(
    secure_web: Web, tmp_path: Path, jwk: Callable[..., Any], jwks: Callable[..., bytes]
) -> None:
    secure_web.answers["/keys"] = (200, jwks(jwk("es")))
    keys = KeySet(secure_web.url("/keys", "https"), ca=tmp_path / "ca.pem")
    await keys.load()
    assert keys.find("es", "ES256") is not None


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://idp.example.org/keys?p=1", True),
        ("https://[2001:db8::1]:8443/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://[::1]/keys", True),
        ("http://localhost/keys", True),
        ("http://idp.example.org/keys", False),
        ("http://10.0.0.1/keys", False),
        ("http://localhost.example.org/keys", False),
        ("https://user:secret@idp.example.org/keys", False),
        ("https://idp.example.org:99999/keys", False),
        ("https:///keys", False),
        ("https://idp.example.org/a b", False),
        ("https://idp.example.org/\r\nx", False),
        ("ftp://idp.example.org/keys", False),
        ("file:///etc/keys", False),
    ],
)
def test_a_url_is_https_or_goes_to_loopback(*, url: str, is_good: bool) -> None:
    def make() -> Url:
        return Url(url, refresh_s=1, timeout_s=1, ca=None, fetch=get)

    if is_good:
        assert make().name == url
    else:
        with pytest.raises(OperatorError) as caught:
            make()
        assert "secret" not in str(caught.value)
