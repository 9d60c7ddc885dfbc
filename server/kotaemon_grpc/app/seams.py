"""The pipeline of each listener: what all share, and who calls there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.pipeline.access_log import AccessLog
from kotaemon_grpc.pipeline.audit import Audit
from kotaemon_grpc.pipeline.call_metrics import CallMetrics
from kotaemon_grpc.pipeline.deadline import Deadlines, TimeLimits
from kotaemon_grpc.pipeline.identity import Identification
from kotaemon_grpc.pipeline.policy import Authorization
from kotaemon_grpc.pipeline.rates import Rates
from kotaemon_grpc.pipeline.seam import Seam
from kotaemon_grpc.pipeline.tracing import CallTracing
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from kotaemon_grpc.app.access import Access
    from kotaemon_grpc.app.front import Plan
    from kotaemon_grpc.auth.policy import Policy
    from kotaemon_grpc.config import Config
    from kotaemon_grpc.pipeline.call import Guard, Stage
    from kotaemon_grpc.telemetry.logs import LoggerFactory
    from kotaemon_grpc.telemetry.metrics import Metrics
    from kotaemon_grpc.telemetry.tracing import Tracing


class Seams:
    """Makes the seam of a listener.

    The order is that of a call on its way in: trace, metrics, access log, audit;
    then deadline, identity, policy, rates.
    """

    def __init__(
        self,
        config: Config,
        policy: Policy,
        access: Access,
        *,
        metrics: Metrics,
        tracing: Tracing,
        logger: LoggerFactory,
    ) -> None:
        """Make what all listeners share."""
        self._access = access
        self._on_verified = metrics.count_verified
        self._stages: list[Stage] = [
            CallTracing(tracing),
            CallMetrics(metrics),
            AccessLog(
                logger.lines("server"),
                sample_ok=config.log.sample_ok,
                slow_s=config.log.slow_s,
            ),
            Audit(logger("audit", unfiltered=True), policy),
        ]
        limits = config.limits
        self._deadlines = Deadlines(
            TimeLimits(
                default_s=limits.default_deadline_s,
                max_s=limits.max_deadline_s,
                max_stream_s=limits.max_stream_s,
                idle_s=limits.stream_idle_s,
                slow_reader_s=limits.slow_reader_s,
            )
        )
        self._behind_identity: list[Guard] = [Authorization(policy)]
        if limits.calls_per_second:
            self._behind_identity.append(
                Rates(
                    limits.calls_per_second,
                    on_refused=lambda: metrics.count_shed(names.SHED_RATE_LIMITED),
                )
            )

    def seam_for(self, plan: Plan) -> Seam:
        """Make the seam of a listener, with what finds out who calls there."""
        authenticator = self._access.authenticator(
            plan.credentials, plan.min_tls, self._on_verified
        )
        return Seam(
            self._stages,
            [
                self._deadlines,
                Identification(authenticator),
                *self._behind_identity,
            ],
        )
