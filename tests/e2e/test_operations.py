"""The operations port: /metrics, /healthz, /readyz."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import NotFoundError
from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    import grpc

    from kotaemon_grpc.client import AgentClient

SAMPLE = re.compile(r"(?P<name>[a-z_]+)(\{(?P<labels>.*)\})? (?P<value>\S+)")


async def get(server: Any, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.operations_address}{path}", method=method)

    def run() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310 - our own address
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(run)


async def metrics_of(server: Any) -> dict[tuple[str, frozenset[str]], float]:
    status, body = await get(server, "/metrics")
    assert status == 200
    samples = filter(None, map(SAMPLE.fullmatch, body.splitlines()))
    return {
        (m["name"], frozenset((m["labels"] or "").split(",")) - {""}): float(m["value"])
        for m in samples
    }


async def grown(server: Any, before: dict[Any, float], name: str, *labels: str, by: float) -> bool:
    """Wait until a count has grown: a call's end is counted as its answer is under way."""
    key = (name, frozenset(labels))
    async with asyncio.timeout(20):
        while True:
            now = await metrics_of(server)
            if now.get(key, 0) - before.get(key, 0) >= by:
                return now.get(key, 0) - before.get(key, 0) == by


def of_method(kind: str, service: str, method: str) -> list[str]:
    return [f'grpc_type="{kind}"', f'grpc_service="{service}"', f'grpc_method="{method}"']


async def test_calls_are_counted_by_their_code(server: Any, client: AgentClient) -> None:
    labels = of_method("unary", "kotaemon.v2.AgentService", "AskQuestion")
    before = await metrics_of(server)
    await client.ask("Who plans the drills?")
    await client.ask("What is the capital of Mongolia?")
    with pytest.raises(NotFoundError):
        await client.ask("why?", collection="collections/never-was")
    for name, more, by in (
        ("grpc_server_handled_total", ['grpc_code="OK"'], 2),
        ("grpc_server_handled_total", ['grpc_code="NOT_FOUND"'], 1),
        ("grpc_server_started_total", [], 3),
        ("grpc_server_msg_received_total", [], 3),
        ("grpc_server_msg_sent_total", [], 2),
        ("grpc_server_handling_seconds_count", [], 3),
    ):
        assert await grown(server, before, name, *labels, *more, by=by)
    for reason in ("answered", "nothing_found"):
        label = f'finish_reason="{reason}"'
        assert await grown(server, before, "kotaemon_grpc_answers_total", label, by=1)


async def test_messages_of_a_stream_are_counted(server: Any, channel: grpc.aio.Channel) -> None:
    labels = of_method("bidi_stream", "kotaemon.AgentService", "ChatStream")
    before = await metrics_of(server)
    chat = channel.stream_stream(
        "/kotaemon.AgentService/ChatStream",
        v1.Message.SerializeToString,
        v1.Message.FromString,
    )
    said = [v1.Message(role="user", content="What is the capital of Mongolia?")] * 3
    answers = [message async for message in chat(iter(said))]
    assert await grown(server, before, "grpc_server_msg_received_total", *labels, by=3)
    assert await grown(server, before, "grpc_server_msg_sent_total", *labels, by=len(answers))


async def test_what_is_stored_is_counted(server: Any, client: AgentClient, tmp_path: Any) -> None:
    before = await metrics_of(server)
    file = tmp_path / "note.md"
    file.write_text("# Note\n\nOne passage.")
    with file.open("rb") as content:
        await client.import_document(
            content, uri=file.as_uri(), collection=f"collections/m{uuid.uuid4().hex}"
        )
    after = await metrics_of(server)
    for name in ("kotaemon_grpc_documents", "kotaemon_grpc_passages"):
        assert after[name, frozenset()] - before[name, frozenset()] == 1
    assert after["kotaemon_grpc_index_lag", frozenset()] == 0


async def test_every_metric_is_exposed(server: Any) -> None:
    _, body = await get(server, "/metrics")
    for key, name in vars(names).items():
        if isinstance(name, str) and name.startswith(("grpc_server_", "kotaemon_grpc_")):
            assert re.search(rf"^# TYPE {name}(_total)? ", body, re.MULTILINE), key


async def test_the_server_is_alive_and_ready(server: Any) -> None:
    assert (await get(server, "/healthz"))[0] == 200
    assert (await get(server, "/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("//", "GET", 404), ("/metrics/", "GET", 404), ("/metrics", "POST", 405)],
)
async def test_other_requests_are_refused(server: Any, path: str, method: str, status: int) -> None:
    assert (await get(server, path, method))[0] == status
