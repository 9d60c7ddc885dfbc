"""`chat`, through a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    Command = Callable[..., subprocess.CompletedProcess[str]]

CTRL_C = b"\x03"
CTRL_D = b"\x04"
INTERRUPTED = 130


class Terminal:
    """A process on a terminal of its own; stderr is a pipe, or the same terminal."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.shown = b""
        self._master = master

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, text: str) -> None:
        """Read until this is on the screen; what came before it is forgotten."""
        while text.encode() not in self.shown:
            more = self._read()
            assert more, self.shown
            self.shown += more
        self.shown = self.shown.partition(text.encode())[2]

    def end(self) -> int:
        while more := self._read():
            self.shown += more
        return self.process.wait()

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:  # Linux says EIO when the last process has closed its end
            return b""


@contextmanager
def on_terminal(*arguments: str) -> Iterator[Terminal]:
    # Ctrl-C is a signal only on the terminal that controls the process. It takes control of it
    # itself: what runs between fork and exec meets the handlers of gRPC's threads here.
    program = (
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from kotaemon_grpc.cli import main; main()"
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_chat_answers_each_line_with_the_earlier_ones_in_mind(
    command: Command, server: Any, questions: dict[str, Any]
) -> None:
    case = questions["follow_ups"][0]
    unknown = questions["unanswerable"][0]["question"]
    talk = f"{case['first']}\n\n   \n{case['then']}\n{unknown}\n"
    done = command("chat", *server.flags, stdin=talk)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n> " not in f"\n{done.stdout}", "a prompt is for people"
    _, _, rest = done.stdout.partition("  [1] ")
    _, found, last = rest.partition(case["contains"])
    assert found
    assert "  [1] " in last
    assert "  [" not in last.rstrip().splitlines()[-1], "what was not found has no source"


def test_chat_takes_a_last_line_without_an_end(command: Command, server: Any) -> None:
    done = command("chat", *server.flags, stdin="How long are drill records kept?")
    assert (done.returncode, done.stderr) == (0, "")
    assert "in the grey cabinet for seven years" in done.stdout


def test_chat_that_ends_at_once_is_no_failure(command: Command, server: Any) -> None:
    done = command("chat", *server.flags, stdin="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("question", "flag", "said"),
    [
        ("why?", "--conversation=none", 'conversation "conversations/none" does not exist'),
        ("why?", "--collection=no-such", 'collection "collections/no-such" does not exist'),
    ],
)
def test_chat_that_fails_says_so_in_one_line(
    command: Command, server: Any, question: str, flag: str, said: str
) -> None:
    done = command("chat", flag, *server.flags, stdin=f"{question}\n")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_question_that_is_too_long_does_not_end_a_chat(command: Command, server: Any) -> None:
    done = command("chat", *server.flags, stdin=f"{'q' * 8193}\nWho founded the company?\n")
    assert done.returncode == 0
    assert done.stderr == "a question has at most 8192 characters\n"
    assert "founded" in done.stdout


def test_chat_on_a_terminal_prompts_and_ends_with_ctrl_d(
    server: Any, questions: dict[str, Any]
) -> None:
    chinese = next(case for case in questions["answerable"] if case["document"] == "zh/storage.txt")
    with on_terminal("chat", *server.flags) as terminal:
        terminal.wait_for("> ")
        terminal.type(b"How many steps do the stairs of the tower have?\n")
        terminal.wait_for("The stairs have 167 steps")
        terminal.wait_for("\n> ")
        terminal.type(f"{chinese['question']}\n".encode())
        terminal.wait_for(chinese["contains"])
        terminal.wait_for("\n> ")
        terminal.type(CTRL_D)
        terminal.wait_for("go on later with --conversation conversations/")
        assert terminal.end() == 0


def test_chat_at_its_prompt_ends_with_ctrl_c(server: Any) -> None:
    with on_terminal("chat", *server.flags) as terminal:
        terminal.wait_for("> ")
        terminal.type(CTRL_C)
        assert terminal.end() == INTERRUPTED
        assert b"Traceback" not in terminal.shown


def test_chat_ends_when_its_server_goes_while_nobody_types(start: Callable[..., Any]) -> None:
    serving = start()
    with on_terminal("chat", "--collection=default", *serving.flags) as terminal:
        terminal.wait_for("> ")
        terminal.type(b"anybody there?\n")
        terminal.wait_for("> ")
        serving.kill()
        terminal.wait_for("error: unavailable")
        assert terminal.end() == 1
        assert b"Traceback" not in terminal.shown


def test_chat_goes_on_at_another_server_when_its_own_stops(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    first = start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        later = f"127.0.0.1:{free.getsockname()[1]}"
    both = f"--target=ipv4:{first.address},{later}"
    with on_terminal("chat", both, f"--certs={first.certs}") as terminal:
        terminal.wait_for("> ")
        second = start(f"--listen={later}", "--import=tests/corpus/en", data_dir=tmp_path / "other")
        assert first.stop() == 0
        terminal.type(b"How many passengers may the Marigold carry?\n")
        terminal.wait_for("180 passengers")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    assert second.stop() == 0
