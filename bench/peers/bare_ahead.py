"""The bare handlers on our own server, which accepts calls ahead: what the rest of ours costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import question
from kotaemon_grpc.transport.server import Server
from peers import bare, host

if TYPE_CHECKING:
    from peers.host import Setting


async def serve(setting: Setting) -> None:
    """Serve."""
    by_path = {f"/{question.SERVICE}/{name}": each for name, each in bare.handlers().items()}
    await host.serve_until_told(Server(by_path, host.OPTIONS), setting)


if __name__ == "__main__":
    host.run(serve)
