from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.operations import Facts, Operations, Row, Section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def describe() -> Facts:
    engines = Section("Engines", ("Engine", "Places"), (Row(("local", "4")),))
    return Facts("kotaemon-grpc", "1.2.3", 61.0, (engines,))


@pytest.fixture
def reasons() -> dict[str, str]:
    return {"storage": "", "index": ""}


@pytest.fixture
async def bound(reasons: dict[str, str]) -> AsyncIterator[Address]:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", registry=registry).inc()
    checks = {name: lambda name=name: reasons[name] for name in reasons}
    operations = Operations(Address("127.0.0.1", 0), registry, checks, describe=describe)
    yield await operations.start()
    await operations.stop()


@pytest.fixture
async def http(bound: Address) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{bound}") as session:
        yield session


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("*/*", "text/plain", ""),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_metrics_come_in_the_format_asked_for(
    http: aiohttp.ClientSession, accept: str, content_type: str, end: str
) -> None:
    async with http.get("/metrics", headers={"Accept": accept}) as reply:
        text = await reply.text()
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith(content_type)
        assert "calls_total 1.0" in text
        assert text.endswith(end)


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate, GZIP;q=0.5", "gzip"),
        ("identity", None),
        ("gzip;q=0.0, *", None),
    ],
)
async def test_metrics_are_compressed_for_who_accepts_it(
    bound: Address, accept: str, encoding: str | None
) -> None:
    async with (
        aiohttp.ClientSession(f"http://{bound}", auto_decompress=False) as session,
        session.get("/metrics", headers={"Accept-Encoding": accept}) as reply,
    ):
        body = await reply.read()
        assert reply.headers.get("Content-Encoding") == encoding
        assert "Accept-Encoding" in reply.headers["Vary"]
    assert "calls_total 1.0" in (gzip.decompress(body) if encoding else body).decode()


async def test_the_page_shows_the_facts_and_may_load_nothing(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as reply:
        text = await reply.text()
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "Version 1.2.3, up for 1 min 1 s" in text
    assert "<p>Ready</p>" in text
    assert "<h2>Engines</h2>" in text


async def test_the_page_is_served_with_the_reasons_while_not_ready(
    http: aiohttp.ClientSession, reasons: dict[str, str]
) -> None:
    reasons["index"] = "12 documents behind"
    async with http.get("/") as reply:
        assert reply.status == 200
        assert "<li>index: 12 documents behind</li>" in await reply.text()


async def test_without_facts_there_is_no_page() -> None:
    operations = Operations(Address("127.0.0.1", 0), CollectorRegistry(), {})
    bound = await operations.start()
    async with aiohttp.ClientSession(f"http://{bound}") as session, session.get("/") as reply:
        assert reply.status == 404
    await operations.stop()


async def test_alive_is_alive_even_if_not_ready(
    http: aiohttp.ClientSession, reasons: dict[str, str]
) -> None:
    reasons["storage"] = "the disk is full"
    async with http.get("/healthz") as reply:
        assert (reply.status, await reply.text()) == (200, "ok")


async def test_ready_tells_of_each_check(
    http: aiohttp.ClientSession, reasons: dict[str, str]
) -> None:
    async with http.get("/readyz") as reply:
        assert reply.status == 200
        assert await reply.json() == {"ready": True, "checks": {"storage": "ok", "index": "ok"}}
    reasons["index"] = "12 documents behind"
    async with http.get("/readyz") as reply:
        assert reply.status == 503
        assert await reply.json() == {
            "ready": False,
            "checks": {"storage": "ok", "index": "12 documents behind"},
        }


@pytest.mark.parametrize("path", ["/metrics/", "/readyz/x", "/debug"])
async def test_other_paths_are_not_there(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as reply:
        assert reply.status == 404
        assert "Server" not in reply.headers


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
async def test_only_get_and_head(http: aiohttp.ClientSession, path: str) -> None:
    async with http.head(path) as reply:
        assert (reply.status, await reply.read()) == (200, b"")
    async with http.post(path) as reply:
        assert reply.status == 405
        assert reply.headers["Allow"] == "GET, HEAD"


async def test_a_taken_port_names_its_flag(taken_port: int) -> None:
    operations = Operations(Address("127.0.0.1", taken_port), CollectorRegistry(), {})
    with pytest.raises(OperatorError) as refused:
        await operations.start()
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{taken_port}: the port is in use; "
        "stop the other program or choose another with --operations-listen"
    )


@pytest.mark.parametrize(
    ("sent", "start"),
    [
        (b"GET /healthz\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /healthz?verbose HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET http://other:1/healthz HTTP/1.1\r\nHost: other:1\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET HTTP://other?x HTTP/1.1\r\nHost: other\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /x/http://other/healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
        (b"GET // HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
        (b"CONNECT other:1 HTTP/1.1\r\nHost: other:1\r\n\r\n", b"HTTP/1.1 404 "),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
    ],
)
async def test_odd_requests_harm_nobody(
    http: aiohttp.ClientSession, bound: Address, sent: bytes, start: bytes
) -> None:
    reader, writer = await asyncio.open_connection(bound.host, bound.port)
    writer.write(sent)
    assert (await reader.read()).startswith(start)
    writer.close()
    await writer.wait_closed()
    async with http.get("/healthz") as alive:
        assert alive.status == 200


async def test_a_page_that_fails_is_a_500_and_the_next_one_is_served() -> None:
    failures = iter([RuntimeError("secret-123")])

    def check() -> str:
        for failure in failures:
            raise failure
        return ""

    operations = Operations(Address("127.0.0.1", 0), CollectorRegistry(), {"storage": check})
    bound = await operations.start()
    async with aiohttp.ClientSession(f"http://{bound}") as session:
        async with session.get("/readyz") as response:
            assert (response.status, await response.text()) == (500, "")
        async with session.get("/readyz") as response:
            assert response.status == 200
    await operations.stop()
