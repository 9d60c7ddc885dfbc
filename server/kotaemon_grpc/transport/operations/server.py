"""The operations server: which pages there are, and what each answers."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.exposition import choose_encoder

from kotaemon_grpc.transport.operations import page
from kotaemon_grpc.transport.operations.http import (
    MAX_CONNECTIONS,
    REQUEST_TIMEOUT_S,
    HttpServer,
    Reply,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    import h11
    from prometheus_client import CollectorRegistry

    from kotaemon_grpc.transport.address import Address
    from kotaemon_grpc.transport.operations.page import Facts

    Check: TypeAlias = Callable[[], str]
    Describe: TypeAlias = Callable[[], Awaitable[Facts]]

_OK = "ok"
_FASTEST = 1  # of gzip's levels; metrics are so alike that it makes them small enough
_NOT_AT_ALL = re.compile(r"q=0(\.0{0,3})?")  # RFC 9110, section 12.4.2
_ABSOLUTE = re.compile(rb"https?://[^/?]*", re.IGNORECASE)  # RFC 9112, section 3.2.2


class Operations:
    """The operations server.

    Args:
        address: where it listens.
        registry: the metrics to expose. They are collected on a thread, so that a
            scrape never holds up a call: callbacks must be safe there.
        readiness: for each named check a function that returns an empty string, or
            why the server is not ready. It is called on the event loop.
        describe: tells what the page for people shows, at each request and on the
            event loop; what blocks it has to take to a thread. None: there is no page.
        tls: serves TLS with this; None serves plaintext.
        max_connections: those beyond are closed as they come.
        timeout_s: what a connection may take.
    """

    def __init__(
        self,
        address: Address,
        registry: CollectorRegistry,
        readiness: Mapping[str, Check],
        *,
        describe: Describe | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._registry = registry
        self._readiness = readiness
        self._collecting = asyncio.Lock()
        self._pages: dict[bytes, Callable[[dict[str, str]], Awaitable[Reply]]] = {
            b"/metrics": self._metrics,
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
        }
        if describe is not None:
            self._pages[b"/"] = partial(self._page, describe)
        self._server = HttpServer(
            address,
            self._reply,
            flag="--operations-listen",
            tls=tls,
            max_connections=max_connections,
            timeout_s=timeout_s,
        )

    async def start(self) -> Address:
        """Listen and serve; return the address with its port.

        Raises:
            OperatorError: the address cannot be had.
        """
        return await self._server.start()

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Serve TLS with another context, to connections that come from now on."""
        self._server.tls = tls

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        await self._server.stop()

    async def _reply(self, request: h11.Request) -> Reply:
        answer = self._pages.get(_path(request.target))
        if answer is None:
            return Reply(HTTPStatus.NOT_FOUND)
        if request.method not in {b"GET", b"HEAD"}:
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, headers=(("Allow", "GET, HEAD"),))
        pairs = ((name.decode(), value.decode("latin-1")) for name, value in request.headers)
        return await answer(dict(pairs))

    async def _page(self, describe: Describe, _headers: dict[str, str]) -> Reply:
        body = page.render(await describe(), self._reasons())
        return Reply(
            HTTPStatus.OK,
            body,
            page.CONTENT_TYPE,
            (("Content-Security-Policy", page.SECURITY_POLICY),),
        )

    async def _metrics(self, headers: dict[str, str]) -> Reply:
        encode, content_type = choose_encoder(headers.get("accept", ""))
        compressed = _accepts_gzip(headers.get("accept-encoding", ""))

        def collect() -> bytes:
            text = encode(self._registry)
            return gzip.compress(text, _FASTEST) if compressed else text

        async with self._collecting:  # many scrapes at once must not take all threads
            body = await asyncio.to_thread(collect)
        how = (("Content-Encoding", "gzip"),) if compressed else ()
        return Reply(HTTPStatus.OK, body, content_type, (("Vary", "Accept, Accept-Encoding"), *how))

    async def _healthz(self, _headers: dict[str, str]) -> Reply:
        return Reply(HTTPStatus.OK, _OK.encode())

    async def _readyz(self, _headers: dict[str, str]) -> Reply:
        reasons = self._reasons()
        ready = not any(reasons.values())
        checks = {name: reason or _OK for name, reason in reasons.items()}
        body = json.dumps({"ready": ready, "checks": checks}).encode()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Reply(status, body, "application/json")

    def _reasons(self) -> dict[str, str]:
        return {name: check() for name, check in self._readiness.items()}


def _path(target: bytes) -> bytes:
    absolute = _ABSOLUTE.match(target)
    if absolute:
        target = target[absolute.end() :]
    return target.partition(b"?")[0] or b"/"


def _accepts_gzip(accept_encoding: str) -> bool:
    for each in accept_encoding.lower().split(","):
        coding, _, quality = each.partition(";")
        if coding.strip() == "gzip":
            return not _NOT_AT_ALL.fullmatch(quality.strip())
    return False
