"""What a run found, as tables for people and as one JSON object."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from comparison import LEAST_BARE_PER_S
from peers.tokens import COALESCED, PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from comparison import Comparison
    from overload import Load
    from streams import Flow

OTHERS = ("bare", "bare_ahead", "assembled", "rest", "rest_asgi")


def calls_table(comparison: Comparison) -> Iterator[str]:
    """Say what each peer did; columns are the medians of the rounds that count."""
    yield "| AskQuestion | calls/s | of bare | p50 ms | p99 ms | load's core busy | server's |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for peer in sorted(comparison.rounds[0], key=lambda each: -comparison.median(each, "per_s")):
        ratio = comparison.ratio(peer, "bare")
        yield (
            f"| {peer} | {comparison.median(peer, 'per_s'):,.0f} "
            f"| {'' if ratio is None else f'{ratio:.2f}'} "
            f"| {comparison.median(peer, 'p50_ms'):.1f} | {comparison.median(peer, 'p99_ms'):.1f} "
            f"| {comparison.median(peer, 'client_busy'):.0%} "
            f"| {comparison.median(peer, 'server_busy'):.0%} |"
        )
    yield ""
    rounds, undisturbed = len(comparison.rounds), len(comparison.undisturbed)
    yield (
        f"{len(comparison.counted)} of {rounds} rounds count: a server shared its core with "
        f"others in {rounds - undisturbed}, and the bare handler did less than "
        f"{LEAST_BARE_PER_S:,}/s in others."
    )
    if comparison.is_provisional:
        which = "the rounds that were not disturbed" if undisturbed else "all rounds"
        yield f"As none counts, these are the medians of {which}, and provisional."


def streams_table(flows: Sequence[Mapping[str, Flow]]) -> Iterator[str]:
    """Say how answers flowed; columns are the medians of all rounds."""
    yield "| a streamed answer | tokens/s | first token ms | messages an answer |"
    yield "| --- | --- | --- | --- |"
    for way, name in ((COALESCED, "coalesced"), (PER_TOKEN, "a message a token")):
        of_way = [each[way] for each in flows]
        tokens, first, messages = (
            statistics.median(getattr(flow, figure) for flow in of_way)
            for figure in ("tokens_per_s", "first_ms", "messages")
        )
        yield f"| {name} | {tokens:,.0f} | {first:.1f} | {messages:,.0f} |"


def idle_table(kib: Mapping[str, float]) -> Iterator[str]:
    """Say what an idle stream holds."""
    yield "| an idle chat stream | KiB |"
    yield "| --- | --- |"
    for peer, each in kib.items():
        yield f"| {peer} | {each:.1f} |"


def overload_table(loads: Sequence[Load]) -> Iterator[str]:
    """Say what became of each load."""
    yield (
        "| offered, times what the engine can do | calls/s | answered in time /s | refused in time "
        "| neither | p99 of answers ms | p99 of refusals ms |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for each in loads:
        yield (
            f"| {each.factor:g} | {each.offered_per_s:,.0f} | {each.goodput_per_s:,.0f} "
            f"| {each.refused:.1%} | {each.late:.2%} | {each.ok_p99_ms:.0f} "
            f"| {each.refused_p99_ms:.0f} |"
        )


def figures(
    comparison: Comparison,
    flows: Sequence[Mapping[str, Flow]],
    idle_kib: Mapping[str, float],
    loads: Sequence[Load],
) -> dict[str, float | bool | None]:
    """Return the figures by name; None for what was not measured."""
    peak = max((each.goodput_per_s for each in loads), default=0.0)
    last = loads[-1] if loads else None
    ratios = {f"hardened_vs_{other}": comparison.ratio("hardened", other) for other in OTHERS}
    tuned = ratios.pop("hardened_vs_rest_asgi")
    return {
        **ratios,
        "coalesced_vs_per_token": statistics.median(
            each[COALESCED].tokens_per_s / each[PER_TOKEN].tokens_per_s for each in flows
        )
        if flows
        else None,
        "idle_stream_kib": idle_kib.get("hardened"),
        "bare_idle_stream_kib": idle_kib.get("bare"),
        "goodput_at_4x": last.goodput_per_s / peak if last and peak else None,
        "hardened_vs_rest_asgi": tuned,
        "rounds": len(comparison.rounds),
        "counted_rounds": len(comparison.counted),
        "undisturbed_rounds": len(comparison.undisturbed),
        "provisional": comparison.is_provisional,
        **{f"{peer}_per_s": comparison.median(peer, "per_s") for peer in comparison.rounds[0]},
        "refused_at_4x": last.refused if last else None,
        "late_at_4x": last.late if last else None,
    }


def as_json(found: Mapping[str, float | bool | None]) -> str:
    """Make one line of figures."""
    rounded = {
        name: round(each, 3) if isinstance(each, float) else each for name, each in found.items()
    }
    return json.dumps(rounded)
