"""What a running server takes of changed settings, and what is told of it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from kotaemon_grpc.app.reload_report import ReloadReport
from kotaemon_grpc.app.reloading import Reloading, settings_of
from kotaemon_grpc.config import Config, Layers
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from kotaemon_grpc.auth.watched_files import WatchedFiles

RULE = {"pattern": "cn:.*", "roles": ["reader"]}
READER = {"roles": {"reader": {"methods": ["*"]}}}


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def test_what_can_be_taken_is_taken_and_the_rest_is_named() -> None:
    started = config(log={"format": "console"})
    wanted = config(
        policy=READER,
        limits={"max_waiting": 7},
        identity={"certificates": [RULE], "max_cached": 7},
        log={"level": "error", "sample_ok": 0.5, "slow_s": 7.0},
        tls={"key_passphrase": "secret"},
        traces={"sample_ratio": 0.7},
        client={"timeout_s": 7.0},
    )
    settings = settings_of(started, wanted)
    assert settings.need_restart == (
        "tls.key_passphrase",
        "identity.max_cached",
        "log.format",
        "traces.sample_ratio",
    )
    assert (settings.config.policy, settings.config.limits) == (wanted.policy, wanted.limits)
    assert settings.config.log == wanted.log.model_copy(update={"format": "console"})
    assert settings.config.identity.max_cached == started.identity.max_cached
    assert [rule.roles for rule in settings.rules] == [("reader",)]
    for section in ("tls", "traces", "client", "server"):
        assert getattr(settings.config, section) == getattr(started, section)


def test_settings_that_did_not_change_need_nothing() -> None:
    started = config(policy=READER)
    settings = settings_of(started, config(policy=READER))
    assert (settings.config, settings.need_restart) == (started, ())


def test_what_is_taken_has_to_fit_what_is_not() -> None:
    issuer = {"name": "a", "issuer": "https://a", "audiences": ["x"], "jwks": "a.json"}
    started = config(
        identity={"issuers": [issuer | {"roles_by_scope": {"s": ["reader"]}}]}, policy=READER
    )
    # The issuer is as it was until the server is started again, and gives the role.
    with pytest.raises(OperatorError, match='there is no role "reader"'):
        settings_of(started, config(identity={"issuers": [issuer]}))


async def test_settings_that_came_through_a_pipe_are_not_read_again(
    tmp_path: Path, report: ReloadReport
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parts: Any = None
    reloading = Reloading(report, parts, parts, parts, facts=parts, logger=parts, log=parts)
    await reloading.follow(Config(), Layers(pipe, {}, {}))  # else it waits for a writer
    await reloading.follow(Config(), Layers(None, {}, {}))
    assert report.watched == []


@pytest.fixture
def told() -> LogCapture:
    return LogCapture()


@pytest.fixture
def report(told: LogCapture) -> ReloadReport:
    logger: Any = structlog.wrap_logger(None, processors=[told])
    return ReloadReport(Metrics(CollectorRegistry()), logger)


def events(told: LogCapture) -> list[str]:
    return [
        f"{line['event']} {line['what']} {line['name']} {line.get('reason', '')}".strip()
        for line in told.entries
    ]


def test_a_change_has_a_line_and_a_reading_of_the_same_has_none(
    report: ReloadReport, told: LogCapture
) -> None:
    for has_changed in (True, False, True):
        report.attempted("jwks", "a", "")
        if has_changed:
            report.changed("jwks", "a")
    assert events(told) == ["reload.finished jwks a"] * 2


def test_a_problem_has_a_line_as_it_begins_and_as_it_ends(
    report: ReloadReport, told: LogCapture
) -> None:
    for problem in ("down", "down", "odd", ""):
        report.attempted("jwks", "a", problem)
    failures = ["reload.failed jwks a down", "reload.failed jwks a odd"]
    assert events(told) == [*failures, "reload.finished jwks a"]
    report.attempted("jwks", "a", "down")
    report.attempted("jwks", "a", "")
    report.changed("jwks", "a")  # which is the same news
    assert events(told)[3:] == ["reload.failed jwks a down", "reload.finished jwks a"]
    report.attempted("jwks", "a", "")
    report.changed("jwks", "a")
    assert len(told.entries) == 6


async def test_listeners_that_share_a_certificate_do_not_share_their_problems(
    tmp_path: Path, report: ReloadReport, told: LogCapture
) -> None:
    read: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def watch(name: str) -> WatchedFiles[str]:
        def load() -> str:
            loop.call_soon_threadsafe(read.put_nowait, name)
            said = (tmp_path / name).read_text()
            if said == "bad":
                raise OperatorError(said)
            return said

        return report.watch("certificates", [tmp_path / "cert", tmp_path / name], load)

    for name in ("one", "other"):
        (tmp_path / name).write_text("good")
    following = [asyncio.create_task(watch(name).refresh_forever()) for name in ("one", "other")]
    (tmp_path / "one").write_text("bad")
    while not told.entries:
        await read.get()
    (tmp_path / "other").write_text("better")
    while await read.get() != "other":
        pass
    for _ in range(3):  # the third has been told of the first, whatever was told meanwhile
        while await read.get() != "one":
            pass
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    name = tmp_path / "cert"
    assert events(told) == [
        f"reload.failed certificates {name} bad",
        f"reload.finished certificates {name}",
    ]
