"""The peer `rest` with its middleware written for speed: plain ASGI, as few do it.

`@app.middleware` makes a task and a queue for each call; this does not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from peers import concerns, host, rest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from structlog.typing import FilteringBoundLogger

    from peers.host import Setting

_FAILED = 500


class Metrics:
    """Counts and times every call."""

    def __init__(self, app: ASGIApp) -> None:
        """Take what is wrapped."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a call."""
        started_s = time.perf_counter()
        code = _FAILED

        async def watch(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                concerns.SENT.labels(*rest.LABELS).inc()
            await send(message)

        concerns.STARTED.labels(*rest.LABELS).inc()
        concerns.RECEIVED.labels(*rest.LABELS).inc()
        try:
            await self._app(scope, receive, watch)
        finally:
            concerns.HANDLED.labels(*rest.LABELS, code).inc()
            concerns.SECONDS.labels(*rest.LABELS).observe(time.perf_counter() - started_s)


class AccessLog:
    """Writes a line a call."""

    def __init__(self, app: ASGIApp, logger: FilteringBoundLogger) -> None:
        """Take what is wrapped, and where the lines go."""
        self._app = app
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a call."""
        started_s = time.perf_counter()
        code, sent_bytes = _FAILED, 0

        async def watch(message: Message) -> None:
            nonlocal code, sent_bytes
            if message["type"] == "http.response.start":
                code = message["status"]
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)

        rest.bind(scope["path"])
        state = scope.setdefault("state", {})
        try:
            await self._app(scope, receive, watch)
        finally:
            claims = state.get("claims", {})
            self._logger.info(
                "call",
                code=code,
                duration_ms=round((time.perf_counter() - started_s) * 1000, 3),
                principal=claims.get("sub", ""),
                tenant=claims.get("tenant", ""),
                received_bytes=int(dict(scope["headers"]).get(b"content-length", b"0")),
                sent_bytes=sent_bytes,
            )


def add_middleware(app: FastAPI, logger: FilteringBoundLogger) -> None:
    """Add the access line and the metrics."""
    app.add_middleware(AccessLog, logger=logger)
    app.add_middleware(Metrics)


async def serve(setting: Setting) -> None:
    """Serve until told to end."""
    await rest.serve(setting, add_middleware, "rest_asgi")


if __name__ == "__main__":
    host.run(serve)
