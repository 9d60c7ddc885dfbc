"""The pipeline of each listener: what all share, and who calls there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.auth.authenticator import anybody
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
    from kotaemon_grpc.auth.authenticator import Trusts
    from kotaemon_grpc.auth.policy import Policy
    from kotaemon_grpc.config import Config, Limits
    from kotaemon_grpc.pipeline.call import Guard, Stage
    from kotaemon_grpc.pipeline.running import Running
    from kotaemon_grpc.telemetry.logs import LoggerFactory
    from kotaemon_grpc.telemetry.metrics import Metrics
    from kotaemon_grpc.telemetry.tracing import Tracing


class Seams:
    """Makes the seam of a listener.

    The order is that of a call on its way in: register, trace, metrics, access log, audit;
    then deadline, identity, policy, rates.
    """

    def __init__(
        self,
        config: Config,
        policy: Policy,
        access: Access,
        *,
        running: Running,
        metrics: Metrics,
        tracing: Tracing,
        logger: LoggerFactory,
    ) -> None:
        """Make what all listeners share."""
        self._access = access
        self._metrics = metrics
        self._access_log = AccessLog(logger.lines("server"))
        self._audit = Audit(logger("audit", audit=True), policy)
        self._made: list[tuple[Seam, Identification]] = []
        self._limits: Limits | None = None
        self._stages: list[Stage] = [
            running,  # the first, so that it is the last to see a call end
            CallTracing(tracing),
            CallMetrics(metrics),
            self._access_log,
            self._audit,
        ]
        self._rates: list[Guard] = []
        self.apply(config, policy)

    def apply(self, config: Config, policy: Policy) -> None:
        """Hold calls that come from now on to other limits and another policy.

        Of the settings it takes `limits`, and what `log` says of the access log.
        """
        self._access_log.choose(sample_ok=config.log.sample_ok, slow_s=config.log.slow_s)
        self._audit.policy = policy
        limits = config.limits
        if self._limits is None or limits.calls_per_second != self._limits.calls_per_second:
            self._rates = self._rates_of(limits)  # else whoever used up its calls had them again
        self._limits = limits
        self._deadlines = Deadlines(
            TimeLimits(
                default_s=limits.default_deadline_s,
                max_s=limits.max_deadline_s,
                max_stream_s=limits.max_stream_s,
                idle_s=limits.stream_idle_s,
                slow_reader_s=limits.slow_reader_s,
            )
        )
        self._authorization = Authorization(policy)
        for seam, identification in self._made:
            seam.replace_guards(self._guards(identification))

    def seam_for(self, plan: Plan, trusts: Trusts = anybody) -> Seam:
        """Make the seam of a listener, with what finds out who calls there.

        Args:
            plan: the listener.
            trusts: tells of a client's certificate whether its CA is trusted now.
        """
        authenticator = self._access.authenticator(
            plan.credentials, plan.min_tls, self._metrics.count_verified, trusts
        )
        identification = Identification(authenticator)
        seam = Seam(self._stages, self._guards(identification))
        self._made.append((seam, identification))
        return seam

    def _guards(self, identification: Identification) -> list[Guard]:
        return [self._deadlines, identification, self._authorization, *self._rates]

    def _rates_of(self, limits: Limits) -> list[Guard]:
        if not limits.calls_per_second:
            return []
        count = self._metrics.count_shed
        return [Rates(limits.calls_per_second, on_refused=lambda: count(names.SHED_RATE_LIMITED))]
