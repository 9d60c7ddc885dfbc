"""The same call on one server after the other, round by round."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import load
import preflight
import question
from comparison import Comparison
from peers.host import SAMPLED
from process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from load import Rate
    from material import Material

PEERS = ("bare", "bare_ahead", "assembled", "rest", "rest_asgi", "hardened")
_OVER_HTTP = ("rest", "rest_asgi")
_SERVICE_NAMES = {"hardened": "kotaemon-grpc"}  # others are called as peers are


async def compare(
    material: Material,
    peers: Sequence[str],
    cores: tuple[int, int],
    *,
    rounds: int,
    round_s: float,
    warm_up_s: float,
    profile: bool = False,
) -> Comparison:
    """Measure peers in turn; each round begins with another one.

    Args:
        material: certificates and tokens.
        peers: some of `PEERS`.
        cores: for the servers and for the load.
        rounds: how many.
        round_s: how long each peer is measured in a round.
        warm_up_s: how long each is called before that.
        profile: let `hardened` tell on stderr where its time went; it is slower then.

    Raises:
        NotAsExpected: a peer does not have what it is compared by.
        CallFailed: a call was not answered with OK.
    """
    made: list[dict[str, Rate]] = []
    server_core, load_core = cores
    with ExitStack() as stack:
        receiver = stack.enter_context(Process("peers.receiver", load_core))
        servers = {
            peer: stack.enter_context(
                Process(
                    f"peers.{peer}",
                    server_core,
                    [
                        f"--directory={material.directory}",
                        f"--log={_log(material, peer)}",
                        f"--otlp=127.0.0.1:{receiver.port}",
                        *(["--profile"] if profile and peer == "hardened" else []),
                    ],
                )
            )
            for peer in peers
        }
        for peer, server in servers.items():
            await _preflight(peer, server, material)
        for number in range(rounds):
            first = number % len(peers)
            rates = {}
            for peer in (*peers[first:], *peers[:first]):
                rates[peer] = await _measure(peer, servers[peer], material, warm_up_s, round_s)
            made.append(rates)
        for server in servers.values():
            server.stop()
        _check_telemetry(material, made, json.loads(receiver.stop()))
    return Comparison(made)


async def _preflight(peer: str, server: Process, material: Material) -> None:
    if peer in _OVER_HTTP:
        await preflight.check_rest(peer, server.port, material)
    else:
        await preflight.check_grpc(peer, server.port, material, guarded=not peer.startswith("bare"))


async def _measure(
    peer: str, server: Process, material: Material, warm_up_s: float, round_s: float
) -> Rate:
    tally = load.Tally(ok=0, failed=0, times_s=[])
    loops: list[load.Loop]
    if peer in _OVER_HTTP:
        rest = [question.rest_request(token) for token in material.tokens]
        tls = material.client_tls("http/1.1")
        loops = await load.http_loops(server.port, tls, rest, tally)
    else:
        grpc = [question.grpc_request(token) for token in material.tokens]
        loops = await load.grpc_loops(server.port, material.client_tls("h2"), grpc, tally)
    try:
        return await load.measure(loops, tally, warm_up_s, round_s, server.busy_s)
    except load.CallFailed as error:
        raise load.CallFailed(f"{peer}: {error}") from None


def _check_telemetry(
    material: Material, rounds: Sequence[Mapping[str, Rate]], spans: Mapping[str, int]
) -> None:
    """See that each call left its line, and that the share that is traced arrived."""
    for peer in rounds[0]:
        if peer.startswith("bare"):
            continue
        calls = sum(each[peer].calls for each in rounds)
        with _log(material, peer).open("rb") as log:
            lines = sum(1 for _ in log)
        if lines < calls:
            raise preflight.NotAsExpected(f"{peer} wrote {lines} lines for {calls} calls")
        exported = spans.get(_SERVICE_NAMES.get(peer, peer), 0)
        if exported < calls * SAMPLED / 2:  # chance is far narrower
            raise preflight.NotAsExpected(f"{peer} exported {exported} spans of {calls} calls")


def _log(material: Material, peer: str) -> Path:
    return material.directory / f"{peer}.log"
