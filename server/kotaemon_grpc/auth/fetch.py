"""Keys from a URL: over HTTPS, bounded in time and size, never from elsewhere."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from urllib.parse import SplitResult

MAX_BYTES = 1024 * 1024
"""The largest body that is read."""

_CHUNK_BYTES = 64 * 1024


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

    Raises:
        OSError: the web server cannot be reached, or is not who it should be.
        SourceError: it answers with anything but 200, too much, or too slowly.
    """
    parts = urlsplit(url)
    deadline_s = time.monotonic() + timeout_s
    connection = _connection(parts, timeout_s, ca)
    try:
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
            if time.monotonic() > deadline_s:
                raise SourceError(f"it takes longer than {timeout_s:g} seconds")
    except http.client.HTTPException as error:
        raise SourceError(f"it does not speak HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
    return bytes(body)


def _connection(
    parts: SplitResult, timeout_s: float, ca: Path | None
) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    # Made for each fetch: the CAs may have been renewed.
    context = ssl.create_default_context(cafile=ca)
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)


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
