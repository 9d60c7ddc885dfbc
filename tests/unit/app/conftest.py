from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += dt.timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pki_dir(tmp_path: Path) -> Path:
    pki.ensure(tmp_path / "pki")
    return tmp_path / "pki"
