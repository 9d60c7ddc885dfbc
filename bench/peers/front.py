"""The server's own front, as the server puts it together, around services of the benchmark."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

import material
from kotaemon_grpc.app.access import Access, policy_of
from kotaemon_grpc.app.front import bind_all
from kotaemon_grpc.app.reload_report import ReloadReport
from kotaemon_grpc.app.seams import Seams
from kotaemon_grpc.app.serving import tracing_of
from kotaemon_grpc.config import Config
from kotaemon_grpc.pipeline.running import Running
from kotaemon_grpc.telemetry.log_stream import LogStream
from kotaemon_grpc.telemetry.logs import configure
from kotaemon_grpc.telemetry.loop_lag import watch_loop_lag
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.transport.health import HealthReporter
from peers import host
from peers.host import SAMPLED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kotaemon_grpc.app.backend import Service
    from peers.host import Setting


def config(setting: Setting) -> Config:
    """Make the settings: every concern is on, and a line is written for every call."""
    return Config.model_validate(
        {
            "server": {"listen": "127.0.0.1:0", "credentials": ["certificate+jwt"]},
            "tls": {"dir": setting.directory},
            "identity": {
                "issuers": [
                    {
                        "name": "bench",
                        "issuer": material.ISSUER,
                        "audiences": [material.AUDIENCE],
                        "jwks": str(setting.directory / material.JWKS_FILE),
                        "tenant_claim": "tenant",
                        "roles_by_scope": {material.SCOPE: ["user"]},
                    }
                ]
            },
            "log": {"sample_ok": 1.0},
            "traces": {"endpoint": setting.otlp, "insecure": True, "sample_ratio": SAMPLED},
        }
    )


async def serve(setting: Setting, services: Callable[[Metrics], Sequence[Service]]) -> None:
    """Serve until told to end.

    Args:
        setting: what the peer is told.
        services: makes what is served, given where to count.
    """
    settings = config(setting)
    descriptor = os.open(setting.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    async with AsyncExitStack() as opened:
        opened.callback(os.close, descriptor)
        stream = opened.enter_context(LogStream(descriptor))
        logger = configure("info", "json", stream)
        metrics = Metrics(CollectorRegistry())
        metrics.ask_log(lambda: stream.dropped)
        report = ReloadReport(metrics, logger("server"))
        access = Access(settings, report.attempted, report.changed)
        await access.load()
        seams = Seams(
            settings,
            policy_of(settings),
            access,
            running=Running(),
            metrics=metrics,
            tracing=tracing_of(settings, opened, metrics),
            logger=logger,
        )
        (listening,) = await bind_all(
            settings,
            services(metrics),
            HealthReporter(),
            seam_for=seams.seam_for,
            report=report,
            on_change=lambda _material: access.forget(),
            log=logger("server"),
        )
        await listening.server.start()
        opened.push_async_callback(listening.server.stop, None)
        upkeep = asyncio.gather(access.keep_up_to_date(), watch_loop_lag(metrics.observe_loop_lag))
        await host.until_told(listening.address.port)
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
