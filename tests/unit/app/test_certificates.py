from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.app.certificates import certificate_section
from kotaemon_grpc.transport import certificate as certificates
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject
from kotaemon_grpc.transport.operations import Row, State

if TYPE_CHECKING:
    from pathlib import Path


def row_of(path: Path, clock: Any) -> Row:
    (row,) = certificate_section({path: certificates.load_all(path)}, clock()).rows
    return row


@pytest.mark.parametrize(
    ("days", "left", "state"),
    [
        (0.01, "6", State.OK),
        (4.5, "2", State.OK),
        (4.8, "2", State.WARN),
        (6.9, "0", State.WARN),
        (7.01, "expired", State.BAD),
        (-0.1, "not valid yet", State.BAD),
    ],
)
def test_a_certificate_is_due_below_a_third_of_its_life(
    tmp_path: Path, clock: Any, days: float, left: str, state: State
) -> None:
    pki.ensure(tmp_path, clock)
    clock.forward(days=days)
    row = row_of(tmp_path / "server.pem", clock)
    assert (row.cells[-1], row.state) == (left, state)


def test_names_are_those_that_peers_look_at(pki_dir: Path, clock: Any) -> None:
    subject = Subject("c", sans=("a.example", "10.0.0.1"), spiffe="spiffe://example.org/a")
    pki.issue(pki_dir, "c", subject)
    cells = row_of(pki_dir / "c.pem", clock).cells
    assert cells[:2] == (str(pki_dir / "c.pem"), "a.example, 10.0.0.1, spiffe://example.org/a")


def test_a_certificate_without_names_shows_its_subject(pki_dir: Path, clock: Any) -> None:
    assert row_of(pki_dir / "ca.pem", clock).cells[1].startswith("CN=")


def test_a_file_lasts_as_long_as_its_first_to_expire(pki_dir: Path, clock: Any) -> None:
    both = pki_dir / "both.pem"
    both.write_bytes((pki_dir / "ca.pem").read_bytes() + (pki_dir / "server.pem").read_bytes())
    assert row_of(both, clock).cells[2:] == row_of(pki_dir / "server.pem", clock).cells[2:]
