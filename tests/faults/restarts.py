"""Servers that end, each while the others go on: asked to, and killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab import Lab

_SERVERS = 3
_ROUNDS = 5
_CALLS_BETWEEN = 500  # to go well, so that the client's budget for repetitions is full again
_LIMIT_S = 60.0


async def rolling_restart(lab: Lab) -> None:
    servers = await lab.start(_SERVERS)
    async with lab.steady_load(*(server.address for server in servers)):
        for _ in range(_ROUNDS):
            for server in servers:
                status = await server.stop()
                lab.expect(status == 0, f"a server that was stopped ended with {status}")
                await server.start()
    lab.expect(not lab.counts.broken, f"{lab.counts.broken} streams broke")
    again = lab.entries().again
    lab.expect(not again, f"{again} times a server was asked for what another had done")
    lab.notes.append(f"{_ROUNDS * _SERVERS} restarts")


async def kill9(lab: Lab) -> None:
    servers = await lab.start(_SERVERS)
    async with lab.steady_load(*(server.address for server in servers)):
        for _ in range(_ROUNDS):
            for server in servers:
                await server.kill()
                await server.start()
                enough = len(lab.counts.took_s) + _CALLS_BETWEEN
                await lab.until(
                    lambda enough=enough: len(lab.counts.took_s) >= enough,
                    "the load stands still",
                    _LIMIT_S,
                )
    again = lab.entries().again
    # Else no kill came between work and its answer, and the row would show nothing.
    lab.expect(again > 0, "no work was asked for again whose answer was lost")
    lab.notes.append(
        f"{_ROUNDS * _SERVERS} kills, {lab.counts.broken} streams broke and were asked for again, "
        f"{again} times the work was found done"
    )


ROWS = {each.__name__: each for each in (rolling_restart, kill9)}
