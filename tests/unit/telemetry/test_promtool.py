from __future__ import annotations

import datetime as dt
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kotaemon_grpc.core.model import FinishReason
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics


def everything() -> bytes:
    """Have a value for every metric."""
    metrics = Metrics(CollectorRegistry())
    counts = metrics.calls.for_method(names.TYPE_UNARY, "a.B", "C")
    counts.fail("NOT_FOUND")
    metrics.calls.keep_exemplar(counts, counts.took(0.2), 0.2, "0" * 32)
    engine = metrics.for_engine("local")
    engine.count_tokens(1, 2)
    engine.observe_first_token(0.1)
    engine.observe_answer(0.2)
    metrics.set_build_info("1.2.3")
    metrics.set_certificate_expiry("server.pem", dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    metrics.count_answer(FinishReason.ANSWERED)
    metrics.count_verified("TLSv1.3", "X25519")
    metrics.on_reload(names.RELOAD_JWKS)(succeeded=True)
    metrics.ask_store(documents=float, passages=float, index_lag=float)
    metrics.ask_index_size(float)
    metrics.ask_requests(float)
    metrics.ask_log(lambda: {"audit": 0, "other": 0})
    metrics.ask_traces(int)
    return generate_latest(metrics.registry)


def test_promtool_finds_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: install Debian's package prometheus")
    text = everything()
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_every_metric_has_a_value_and_none_says_when_it_was_made() -> None:
    text = everything().decode()
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    for family in families:
        assert f"\n{family}" in text
        assert f"# HELP {family} " in text
    assert "_created" not in text
