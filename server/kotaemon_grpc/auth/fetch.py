"""Keys from a URL: over HTTPS, bounded in time and size, never from elsewhere."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kotaemon_grpc.auth.files import read
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from urllib.parse import SplitResult

MAX_BYTES = 1024 * 1024
"""The largest body that is read."""

_CHUNK_BYTES = 64 * 1024
_LEAST_S = 0.001  # of a socket's timeout; 0 is another thing


class Url:
    """A source that a web server gives.

    Args:
        url: https; http only for a loopback address, which nobody can get between.
        refresh_s: how often it is fetched, in seconds.
        timeout_s: how long that may take.
        ca: the CAs of the web server's certificate, PEM; None for those of the system.
        fetch: how it is fetched: takes the URL, the timeout and the CAs.

    Raises:
        OperatorError: the URL is none of these.
    """

    required = False

    def __init__(
        self,
        url: str,
        *,
        refresh_s: float,
        timeout_s: float,
        ca: Path | None,
        fetch: Callable[[str, float, Path | None], bytes],
    ) -> None:
        _check(url)
        self.name = url
        self.interval_s = refresh_s
        self._timeout_s = timeout_s
        self._ca = ca
        self._fetch = fetch

    def read(self) -> bytes:
        """Return what the web server gives now.

        Raises:
            OSError: it cannot be reached, or is not who it should be.
            SourceError: it gives nothing of use.
        """
        return self._fetch(self.name, self._timeout_s, self._ca)


def get(url: str, timeout_s: float, ca: Path | None) -> bytes:
    """Fetch a URL. Redirects are not followed, and no proxy is used.

    Args:
        url: checked by `Url`.
        timeout_s: how long it may take from the first attempt to connect to the last
            byte. To find the address of the host is not part of it: that is bounded by
            the resolver of the system alone.
        ca: the CAs of the web server's certificate, PEM; None for those of the system.

    Raises:
        OSError: the web server cannot be reached, or is not who it should be.
        SourceError: it answers with anything but 200, too much, or too slowly; or the
            CAs cannot be used.
    """
    parts = urlsplit(url)
    # Made for each fetch: the CAs may have been renewed.
    tls = _trusting(ca) if parts.scheme == "https" else None
    host = parts.hostname or ""
    connection = (
        http.client.HTTPConnection(host, parts.port)
        if tls is None
        else http.client.HTTPSConnection(host, parts.port, context=tls)
    )
    found = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
    deadline_s = time.monotonic() + timeout_s
    try:
        with (
            closing(connection),
            _connected(found, deadline_s) as tcp,
            _bounded(tcp, deadline_s, timeout_s),
        ):
            connection.sock = tcp if tls is None else tls.wrap_socket(tcp, server_hostname=host)
            return _body(connection, parts)
    except http.client.HTTPException as error:
        raise SourceError(f"it does not speak HTTP: {type(error).__name__}") from None


def _trusting(ca: Path | None) -> ssl.SSLContext:
    if ca is None:
        return ssl.create_default_context()
    try:
        # Between the certificates there may be words, in any language.
        pem = read(ca).decode("ascii", "ignore")
    except SourceError as error:
        raise SourceError(f"its CA file cannot be used: {error}") from None
    if not pem:  # which would mean the CAs of the system
        raise SourceError("its CA file cannot be used: it is empty")
    return ssl.create_default_context(cadata=pem)


def _connected(found: Sequence[Any], deadline_s: float) -> socket.socket:
    """Connect to the first of the addresses of a host that answers. What follows may block."""
    problem: OSError = TimeoutError()
    for family, kind, protocol, _, address in found:
        tcp = socket.socket(family, kind, protocol)
        try:
            tcp.settimeout(max(deadline_s - time.monotonic(), _LEAST_S))
            tcp.connect(address)
        except OSError as error:
            tcp.close()
            problem = error
        else:
            tcp.settimeout(None)
            return tcp
    raise problem


@contextmanager
def _bounded(tcp: socket.socket, deadline_s: float, timeout_s: float) -> Iterator[None]:
    """End a connection at a deadline.

    A timeout of the socket is one of each read, and starts again with each byte.

    Raises:
        SourceError: the deadline has come, whatever the end of the connection led to.
    """
    is_over = threading.Event()
    twin = tcp.dup()  # TLS takes the socket itself over

    def end() -> None:
        is_over.set()
        with suppress(OSError):  # the other side may have ended it
            twin.shutdown(socket.SHUT_RDWR)

    watchdog = threading.Timer(max(deadline_s - time.monotonic(), 0), end)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    except (OSError, http.client.HTTPException, SourceError):
        if not is_over.is_set():
            raise
    finally:
        watchdog.cancel()
        watchdog.join()
        twin.close()
    if is_over.is_set():  # what came looks whole even so if it has no length
        raise SourceError(f"it takes longer than {timeout_s:g} seconds")


def _body(connection: http.client.HTTPConnection, parts: SplitResult) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"accept": "application/json"})
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise SourceError(f"it answers with HTTP status {response.status}")
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BYTES:
            raise SourceError(f"it is larger than {MAX_BYTES} bytes")
    return bytes(body)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not (good and url.isascii() and url.isprintable() and " " not in url):
        raise OperatorError('a URL of keys is "https://host/path", without a user name')
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise OperatorError(f'"{url}" is not https; plain http is only for a loopback address')


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
