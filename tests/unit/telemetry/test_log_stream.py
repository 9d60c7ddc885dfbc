from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.telemetry.log_stream import AuditStream, LogStream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read_all(reader: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(reader, size)
    return found


def test_lines_are_written_in_order_before_the_end(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with LogStream(writer) as stream:
        for number in range(100):
            stream.write(f"{number}\n" if number % 2 else b"%d\n" % number)
    assert os.read(reader, 10_000).split() == [str(number).encode() for number in range(100)]
    assert not any(stream.dropped.values())


def test_lines_are_written_while_the_server_runs(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with LogStream(writer) as stream:
        for number in range(3):  # the writer wakes for each of them
            stream.write(f"{number}\n")
            assert os.read(reader, 100) == f"{number}\n".encode()


def test_lines_that_come_together_are_written_together(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = pipe
    sizes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    with LogStream(writer, collecting_s=3600) as stream:  # the end comes first
        for _ in range(1000):
            stream.write(b"x\n")
            os.sched_yield()  # the writer could take it now
    assert sizes == [2000]


def test_what_is_written_in_parts_is_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with LogStream(writer) as stream:
        for number in range(10):
            stream.write(f"line {number}\n")
    assert os.read(reader, 1000) == b"".join(b"line %d\n" % number for number in range(10))


def test_more_than_a_pipe_holds_comes_out_of_many_threads(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    line = b"y" * 999 + b"\n"
    with LogStream(writer) as stream:
        threads = [
            threading.Thread(target=lambda: [stream.write(line) for _ in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        found = read_all(reader, 400_000)
        for thread in threads:
            thread.join()
    assert found == line * 400
    assert not any(stream.dropped.values())


def test_what_nobody_reads_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    line = "x" * 65_536  # what a pipe holds
    with LogStream(writer, max_waiting=3) as stream:
        for _ in range(10):
            assert stream.write(line) == len(line)
    # One is in the pipe, one on its way, three wait.
    assert stream.dropped["other"] >= 5


def test_what_cannot_be_written_is_counted_line_by_line() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with LogStream(full) as stream:
        for _ in range(7):
            stream.write("lost\n")
    os.close(full)
    assert stream.dropped["other"] == 7


def test_of_a_write_that_fails_half_way_only_the_rest_is_lost(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    write, whole = os.write, [True]

    def fails_the_second_time(descriptor: int, data: bytes) -> int:
        if not whole:
            raise OSError
        whole.clear()
        return write(descriptor, data[:7])

    with LogStream(writer) as stream:
        monkeypatch.setattr(os, "write", fails_the_second_time)
        stream.write(b"1\n2\n")  # one line of the caller may be two of the reader
        stream.write(b"345\n")
        stream.write(b"6\n")
    assert os.read(reader, 100) == b"1\n2\n345"
    assert stream.dropped["other"] == 2


def test_what_comes_after_the_end_is_counted(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    with LogStream(writer) as stream:
        pass
    stream.write("late\n")
    assert stream.dropped["other"] == 1


def test_what_is_no_text_is_escaped(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with LogStream(writer) as stream:
        stream.write("caf\udce9.md\n")
    assert os.read(reader, 100) == b"caf\\udce9.md\n"


def test_a_line_may_be_made_when_it_is_written(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    makers = []

    def make() -> bytes:
        makers.append(threading.current_thread())
        return b"made\n"

    def fail() -> bytes:
        raise ValueError("secret")

    with LogStream(writer) as stream:
        stream.put(fail)
        stream.put(make)
    assert os.read(reader, 100) == b"made\n"
    assert makers != [threading.current_thread()]
    assert stream.dropped["other"] == 1


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "raise ValueError"])
def test_the_last_lines_are_out_however_the_process_ends(end: str) -> None:
    program = (
        "import sys\n"
        "from kotaemon_grpc.telemetry.log_stream import LogStream\n"
        "with LogStream(1) as stream:\n"
        "    for number in range(5000): stream.write(f'{number}\\n')\n"
        f"    {end}\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.stdout.split() == [str(number).encode() for number in range(5000)]
    assert (ended.returncode == 0) == (end == "pass")


def test_a_reader_that_stopped_does_not_keep_the_process() -> None:
    program = (
        "from kotaemon_grpc.telemetry.log_stream import LogStream\n"
        "with LogStream(1) as stream:\n"
        "    for _ in range(20_000): stream.write('x' * 100)\n"
        "import sys; sys.stderr.write(str(stream.dropped['other']))\n"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    _, told = process.communicate()  # nobody reads the pipe
    os.close(reader)
    assert process.returncode == 0
    assert int(told) > 0


def test_other_lines_leave_room_for_those_of_the_audit(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with LogStream(writer, max_waiting=20, collecting_s=3600) as stream:  # the end comes first
        audit = AuditStream(stream)
        for number in range(30):
            stream.write(f"other {number}\n")
        for number in range(5):
            audit.write(f"audit {number}\n")
    told = os.read(reader, 1000).decode().splitlines()
    assert told == [f"other {number}" for number in range(18)] + ["audit 0", "audit 1"]
    assert stream.dropped == {"other": 12, "audit": 3}


def test_of_what_cannot_be_written_each_kind_is_counted() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with LogStream(full, collecting_s=3600) as stream:
        for write in (stream.write, AuditStream(stream).write, stream.write):
            write("lost\n")
    os.close(full)
    assert stream.dropped == {"other": 2, "audit": 1}
