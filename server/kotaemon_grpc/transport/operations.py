"""HTTP for those who operate the server: `/metrics`, `/healthz`, `/readyz`. No user data.

h11 speaks HTTP/1.1, one request a connection. A framework would take a quarter of
the time in which the server has to start.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import h11
from prometheus_client.exposition import choose_encoder

from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.listener import bind_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    Check: TypeAlias = Callable[[], str]

_LOGGER = logging.getLogger(__name__)
_OK = "ok"
_TEXT = "text/plain; charset=utf-8"
_MAX_HEAD_BYTES = 16 * 1024
_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Reply:
    status: HTTPStatus
    body: bytes = b""
    content_type: str = _TEXT
    allow: str = ""

    def response(self) -> h11.Response:
        """Make the head."""
        headers = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if self.allow:
            headers.append(("Allow", self.allow))
        return h11.Response(status_code=self.status, reason=self.status.phrase, headers=headers)


class Operations:
    """The operations server.

    Args:
        address: where it listens.
        registry: the metrics to expose. They are collected on a thread, so that a
            scrape never holds up a call: callbacks must be safe there.
        readiness: for each named check a function that returns an empty string, or
            why the server is not ready. It is called on the event loop.
    """

    def __init__(
        self, address: Address, registry: CollectorRegistry, readiness: Mapping[str, Check]
    ) -> None:
        self._address = address
        self._registry = registry
        self._readiness = readiness
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> Address:
        """Listen and serve; return the address with its port.

        Raises:
            OperatorError: the address cannot be had.
        """
        try:
            self._server = await asyncio.start_server(
                self._accept, self._address.host, self._address.port
            )
        except OSError as error:
            raise bind_error(self._address, "--operations-listen", error) from None
        return Address(self._address.host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                try:
                    reply = await self._reply(await _read_request(connection, reader))
                except h11.RemoteProtocolError as error:
                    reply = _Reply(HTTPStatus(error.error_status_hint))
                except ConnectionError:
                    raise
                except Exception:
                    _LOGGER.exception("a page of the operations port failed")
                    reply = _Reply(HTTPStatus.INTERNAL_SERVER_ERROR)
                # h11 leaves out the body that a HEAD must not have.
                for event in (reply.response(), h11.Data(reply.body), h11.EndOfMessage()):
                    writer.write(connection.send(event) or b"")
                await writer.drain()
        except (TimeoutError, ConnectionError, h11.LocalProtocolError):
            pass  # a peer that has gone, or is too slow, is owed nothing
        finally:
            writer.close()

    async def _reply(self, request: h11.Request) -> _Reply:
        pages = {b"/metrics": self._metrics, b"/healthz": self._healthz, b"/readyz": self._readyz}
        page = pages.get(request.target.partition(b"?")[0])
        if page is None:
            return _Reply(HTTPStatus.NOT_FOUND)
        if request.method not in {b"GET", b"HEAD"}:
            return _Reply(HTTPStatus.METHOD_NOT_ALLOWED, allow="GET, HEAD")
        return await page(request)

    async def _metrics(self, request: h11.Request) -> _Reply:
        accept = dict(request.headers).get(b"accept", b"")
        encode, content_type = choose_encoder(accept.decode("latin-1"))
        body = await asyncio.to_thread(encode, self._registry)
        return _Reply(HTTPStatus.OK, body, content_type)

    async def _healthz(self, _request: h11.Request) -> _Reply:
        return _Reply(HTTPStatus.OK, _OK.encode())

    async def _readyz(self, _request: h11.Request) -> _Reply:
        reasons = {name: check() for name, check in self._readiness.items()}
        ready = not any(reasons.values())
        checks = {name: reason or _OK for name, reason in reasons.items()}
        body = json.dumps({"ready": ready, "checks": checks}).encode()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _Reply(status, body, "application/json")


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """Read the head of a request; a body is not waited for.

    Raises:
        ConnectionError: the peer has gone.
        h11.RemoteProtocolError: it does not speak HTTP.
    """
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise ConnectionError("the connection ended before a request")
        connection.receive_data(await reader.read(_MAX_HEAD_BYTES))
