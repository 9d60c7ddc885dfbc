"""Is what is measured there at all? A peer that checks nothing would be fast."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import calls
import h2
import question
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from material import Material


class NotAsExpected(Exception):
    """A peer does not do what it is compared by."""


async def check_grpc(name: str, port: int, material: Material, *, guarded: bool) -> None:
    """Call a gRPC peer as one should, and, if it is guarded, as one should not.

    Raises:
        NotAsExpected: the status or the answer is another one than it has to be.
    """
    good = question.grpc_request(material.tokens[0])
    expected = {"a good call": (good, calls.OK)}
    if guarded:
        foreign = question.grpc_request(material.foreign_token)
        blank = question.grpc_request(material.tokens[0], question=" ")
        expected |= {
            "no token": (question.grpc_request(""), calls.UNAUTHENTICATED),
            "a token that another key signed": (foreign, calls.UNAUTHENTICATED),
            "a blank question": (blank, calls.INVALID_ARGUMENT),
        }
    caller = await h2.connect(port, material.client_tls("h2"), calls.Caller)
    replies = {what: await caller.call(request) for what, (request, _) in expected.items()}
    caller.close()
    _compare(
        name,
        {what: status for what, (_, status) in expected.items()},
        {what: reply.status for what, reply in replies.items()},
    )
    answer = pb.AskQuestionResponse.FromString(replies["a good call"].message).answer.text
    if answer != question.ANSWER:
        raise NotAsExpected(f"{name} does not give the constant answer")
    await _check_certificate(name, port, material)


async def check_rest(name: str, port: int, material: Material) -> None:
    """Call a REST peer as one should and as one should not.

    Raises:
        NotAsExpected: the status or the answer is another one than it has to be.
    """
    tls = material.client_tls("http/1.1")
    token = material.tokens[0]
    expected = {
        "a good call": (question.rest_request(token), 200),
        "no token": (question.rest_request(""), 401),
        "a token that another key signed": (question.rest_request(material.foreign_token), 401),
        "a blank question": (question.rest_request(token, question=" "), 422),
    }
    found = {}
    for what, (request, _) in expected.items():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname=h2.AUTHORITY
        )
        writer.write(request)
        found[what] = int((await reader.readline()).split()[1])
        writer.transport.abort()
    _compare(name, {what: status for what, (_, status) in expected.items()}, found)
    await _check_certificate(name, port, material)


async def _check_certificate(name: str, port: int, material: Material) -> None:
    tls = ssl.create_default_context(cafile=material.directory / "ca.pem")
    tls.set_alpn_protocols(["h2", "http/1.1"])
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname=h2.AUTHORITY
        )
        # With TLS 1.3 the client is done before the server has looked for its certificate.
        writer.write(question.rest_request(material.tokens[0]))
        greeted = await reader.read(1)
        writer.transport.abort()
    except OSError:
        return
    if greeted:
        raise NotAsExpected(f"{name} serves a client that has no certificate")


def _compare(name: str, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    for what, status in expected.items():
        if found[what] != status:
            raise NotAsExpected(f"{name} answers {what} with {found[what]}, not {status}")
