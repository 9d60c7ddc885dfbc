from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.telemetry.log_stream import LogStream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_lines_are_written_in_order_before_the_end(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with LogStream(writer) as stream:
        for number in range(100):
            stream.write(f"{number}\n")
    assert os.read(reader, 10_000).split() == [str(number).encode() for number in range(100)]
    assert stream.dropped == 0


def test_what_nobody_reads_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    line = "x" * 65_536  # what a pipe holds
    with LogStream(writer, max_waiting=3) as stream:
        for _ in range(10):
            assert stream.write(line) == len(line)
    # One is in the pipe, one on its way, three wait.
    assert stream.dropped >= 5


def test_what_cannot_be_written_is_counted() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with LogStream(full) as stream:
        stream.write("lost\n")
    os.close(full)
    assert stream.dropped == 1


def test_what_is_no_text_is_escaped(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with LogStream(writer) as stream:
        stream.write("caf\udce9.md\n")
    assert os.read(reader, 100) == b"caf\\udce9.md\n"
