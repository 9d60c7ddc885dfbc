"""From a descriptor to handlers, and what every handler is told."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest

from kotaemon_grpc.api.v2 import agent, document
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.errors import NotFound, ResourceType
from kotaemon_grpc.pipeline.registration import service_handlers
from kotaemon_grpc.pipeline.seam import Seam

MADE = re.compile(r"[0-9a-f]{32}")
KINDS = ["unary", "client_stream", "server_stream", "bidi_stream"]


class Everything:
    """Has all methods that anybody may ask for."""

    def __getattr__(self, name: str) -> Any:
        return name


async def fail(_context: Any) -> None:
    raise NotFound(ResourceType.DOCUMENT, "x")


def test_a_servicer_that_lacks_a_method_is_not_registered() -> None:
    with pytest.raises(AttributeError, match="ask_question"):
        service_handlers(Seam([], []), agent.SERVICE, object(), failure_messages={})


@pytest.mark.parametrize("service", [agent.SERVICE, document.SERVICE])
@pytest.mark.parametrize("name", ["", "another.Name"])
def test_every_method_has_a_handler_of_its_kind(service: Any, name: str) -> None:
    handlers = service_handlers(
        Seam([], []), service, Everything(), failure_messages=agent.FAILURE_MESSAGES, name=name
    )
    assert {
        (method.path, method.client_streaming, method.server_streaming) for method in handlers
    } == {
        (f"{name or service.full_name}/{each.name}", each.client_streaming, each.server_streaming)
        for each in service.methods
    }
    for method, handler in handlers.items():
        # Of any kind: core must not wait for a message before a guard has seen the call.
        assert handler.request_streaming
        assert handler.response_streaming == method.server_streaming
        assert method.request == service.methods_by_name[method.name].input_type.full_name
        assert method.failure_message is agent.FAILURE_MESSAGES.get(method.name)


@pytest.mark.parametrize("kind", KINDS)
async def test_methods_know_their_kind(kind: str, serving: Any) -> None:
    async with serving() as served:
        await served.run(kind)
        call, _ = await served.recorder.end()
    assert call.method.type == kind


async def test_a_method_that_does_not_exist_is_none_of_ours(serving: Any) -> None:
    async with serving() as served:
        calling = served.channel.unary_unary("/kotaemon.v2.AgentService/Guess")(b"")
        assert await calling.code() is grpc.StatusCode.UNIMPLEMENTED
        assert served.recorder.calls == []


@pytest.mark.parametrize("kind", KINDS)
async def test_handlers_are_told_who_calls(kind: str, serving: Any) -> None:
    async with serving() as served:
        assert (await served.run(kind)).code == "OK"
        await served.recorder.end()
    (context,) = served.handlers.contexts
    assert context.caller == Caller("anyone")


async def test_no_handler_is_called_for_a_caller_that_no_guard_knows(serving: Any) -> None:
    class Forgetful:
        def admission(self, _method: Any) -> Any:
            def admit(call: Any) -> None:
                call.caller = None

            return admit

    async with serving(guards=[Forgetful()]) as served:
        outcome = await served.run("unary")
        await served.recorder.end()
        assert served.handlers.contexts == []
    assert (outcome.code, outcome.failure.error.details()) == ("INTERNAL", "internal error")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("r-1", "r-1"),
        ("~!\"#$%&'()", "~!\"#$%&'()"),
        ("i" * 128, "i" * 128),
        ("i" * 999, "i" * 128),
    ],
)
async def test_a_request_id_that_is_given(kind: str, given: str, taken: str, serving: Any) -> None:
    async with serving(fail) as served:
        outcome = await served.run(kind, metadata=(("x-request-id", given),))
        call, _ = await served.recorder.end()
    assert outcome.request_id == call.request_id == taken
    assert dict(outcome.failure.error.trailing_metadata())["x-request-id"] == taken


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [None, "", " ", "a b", "{x} y"])
async def test_a_request_id_that_is_not_given_or_not_taken(
    kind: str, given: str | None, serving: Any
) -> None:
    metadata = () if given is None else (("x-request-id", given),)
    async with serving(fail) as served:
        outcome = await served.run(kind, metadata=metadata)
        call, _ = await served.recorder.end()
    assert MADE.fullmatch(call.request_id)
    assert outcome.request_id == call.request_id


@pytest.mark.parametrize(
    "given", ["a\r\nb: c", "a\tb", "\x00", "r\n", "\x7f", "ä", "\ud800", b"r-1"]
)
async def test_what_could_not_stand_in_a_header_is_no_request_id(
    given: str | bytes, beginning: Any
) -> None:
    """No client of core's can send it; others may."""
    assert MADE.fullmatch(beginning(metadata=(("x-request-id", given),)).request_id)


async def test_request_ids_that_are_made_differ(serving: Any) -> None:
    async with serving() as served:
        for _ in range(2):
            await served.run("unary")
            await served.recorder.end()
    first, second = served.recorder.calls
    assert first.request_id != second.request_id


async def test_of_a_key_that_comes_twice_the_last_counts(serving: Any) -> None:
    async with serving() as served:
        await served.run("unary", metadata=(("x-request-id", "r-1"), ("x-request-id", "r-2")))
        call, _ = await served.recorder.end()
    assert call.request_id == "r-2"


@pytest.mark.parametrize("key", ["authorization", "x-api-key"])
async def test_of_two_credentials_none_is_taken(key: str, beginning: Any) -> None:
    call = beginning(metadata=((key, "first"), ("b", "1"), (key, "second"), ("b", "2")))
    assert call.metadata == {key: b"", "b": "2"}
