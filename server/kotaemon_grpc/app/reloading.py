"""What a running server takes over from its files when they change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kotaemon_grpc.app.access import certificate_rules, policy_of
from kotaemon_grpc.app.backend import resize
from kotaemon_grpc.app.front import longest_call_s
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.app.access import Access
    from kotaemon_grpc.app.backend import Backend
    from kotaemon_grpc.app.facts import ServerFacts
    from kotaemon_grpc.app.reload_report import ReloadReport
    from kotaemon_grpc.app.seams import Seams
    from kotaemon_grpc.auth.certificate import CertificateRule
    from kotaemon_grpc.auth.policy import Policy
    from kotaemon_grpc.config import Config, Layers
    from kotaemon_grpc.telemetry.logs import LoggerFactory

_TAKEN_SECTIONS = frozenset({"policy", "limits"})
_TAKEN_KEYS = frozenset({"log.level", "log.sample_ok", "log.slow_s", "identity.certificates"})
_OF_OTHERS = "client"  # its settings are for the verbs that call a server


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings as a running server can take them, checked as at its start.

    Args:
        config: those that it started with, with all that may change as it is now.
        policy: what they say of the policy.
        rules: what they say of the names of certificates.
        need_restart: the keys that have changed, and cannot be taken.
    """

    config: Config
    policy: Policy
    rules: list[CertificateRule]
    need_restart: tuple[str, ...]


def settings_of(started: Config, wanted: Config) -> Settings:
    """Take of settings what a running server can.

    Args:
        started: those that it started with.
        wanted: those of now.

    Raises:
        OperatorError: together they are not valid.
    """
    need_restart = []
    sections: dict[str, Any] = {}
    for section in type(started).model_fields:
        old, new = getattr(started, section), getattr(wanted, section)
        taken = {}
        for key in type(old).model_fields:
            value, path = getattr(new, key), f"{section}.{key}"
            if section in _TAKEN_SECTIONS or path in _TAKEN_KEYS:
                taken[key] = value
            elif value != getattr(old, key) and section != _OF_OTHERS:
                need_restart.append(path)
        sections[section] = old.model_copy(update=taken)
    config = started.model_copy(update=sections)
    if longest_call_s(config) > longest_call_s(started):
        # Connections that have reached their age would end such a call.
        need_restart.append("server.max_connection_age_s")
    return Settings(config, policy_of(config), certificate_rules(config), tuple(need_restart))


class Reloading:
    """Keeps a running server as its files say; what is no good changes nothing."""

    def __init__(
        self,
        report: ReloadReport,
        seams: Seams,
        access: Access,
        backend: Backend,
        *,
        facts: ServerFacts,
        logger: LoggerFactory,
        log: FilteringBoundLogger,
    ) -> None:
        """Take what tells of reloads, and the parts that settings are given to."""
        self._report = report
        self._seams = seams
        self._access = access
        self._backend = backend
        self._facts = facts
        self._logger = logger
        self._log = log

    async def follow(self, started: Config, layers: Layers) -> None:
        """Take settings over from the file that the layers name, if they name one.

        Args:
            started: the settings that the server starts with.
            layers: where they came from.

        Raises:
            OperatorError: they are not valid any more.
        """
        if layers.file is None or not layers.file.is_file():
            return  # there is none, or it is a pipe, which can be read once
        settings = await asyncio.to_thread(
            self._report.watch,
            names.RELOAD_SETTINGS,
            [layers.file],
            lambda: settings_of(started, layers.load()),
            self.apply,
        )
        if settings.value.config != started or settings.value.need_restart:
            self.apply(settings.value)  # it has changed since

    def apply(self, settings: Settings) -> None:
        """Hold what comes from now on to other settings. Calls that run go on as they began."""
        config = settings.config
        self._seams.apply(config, settings.policy)
        self._access.apply(settings.rules)
        resize(self._backend.places, config.limits)
        self._logger.set_level(config.log.level)
        self._facts.config = config
        if settings.need_restart:
            keys = {names.KEY_SETTINGS: list(settings.need_restart)}
            self._log.warning(names.EVENT_NEEDS_RESTART, **keys)

    async def keep_up_to_date(self) -> None:
        """Follow all files, for ever."""
        async with asyncio.TaskGroup() as running:
            running.create_task(self._access.keep_up_to_date())
            for each in self._report.watched:
                running.create_task(each.refresh_forever())
