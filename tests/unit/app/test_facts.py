from __future__ import annotations

from typing import Any

import pytest

from kotaemon_grpc.app.facts import ServerFacts
from kotaemon_grpc.config import Config
from kotaemon_grpc.config.limits import Limits


async def limits_shown(**limits: Any) -> dict[str, tuple[str, str]]:
    facts = await ServerFacts(Config.model_validate({"limits": limits}))()
    (section,) = (each for each in facts.sections if each.title == "Limits")
    return {row.cells[0]: (row.cells[1], row.cells[2]) for row in section.rows}


async def test_a_rate_of_0_is_any_number_and_a_queue_of_0_is_nobody() -> None:
    shown = await limits_shown(calls_per_second=0.0, max_waiting=0)
    assert shown["limits.calls_per_second"][0] == "any number"
    assert shown["limits.max_waiting"][0] == "0"


async def test_every_limit_of_a_call_is_shown_with_its_meaning() -> None:
    shown = await limits_shown()
    for key, field in Limits.model_fields.items():
        assert field.description
        assert shown[f"limits.{key}"][1] == field.description


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("limits.default_deadline_s", "60 s"),
        ("limits.calls_per_second", "0.5"),
        ("limits.engine_places", "16"),
        ("limits.max_waiting", "1000000"),
        ("server.max_message_bytes", "4194304 bytes"),
        ("server.max_connections", "1000"),
    ],
)
async def test_a_limit_has_its_unit(setting: str, value: str) -> None:
    shown = await limits_shown(calls_per_second=0.5, max_waiting=1_000_000)
    assert shown[setting][0] == value
