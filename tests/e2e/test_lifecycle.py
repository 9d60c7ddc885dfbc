"""From the line that says where the server listens to the last call that it answers."""

from __future__ import annotations

import asyncio
import datetime as dt
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.client import AgentClient, ExhaustedError, TlsFiles, UnavailableError
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVING = health_pb2.HealthCheckResponse.SERVING
STEPS = "How many steps do the stairs of the tower have?"


def events(serving: Any) -> list[str]:
    return [line["event"] for line in serving.lines]


def readiness(serving: Any) -> int:
    """The HTTP status that a probe of readiness gets."""
    host, port = serving.operations_address.split(":")
    with closing(http.client.HTTPConnection(host, int(port))) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


async def until_health_is(serving: Any, status: int) -> None:
    async with grpc.aio.insecure_channel(serving.health_address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        async for response in watch:
            if response.status == status:
                return
        raise AssertionError("the watch ended before")


async def test_one_line_says_where_everything_is(start: Callable[..., Any]) -> None:
    serving = start()
    (line,) = [line for line in serving.lines if line["event"] == "server.serving"]
    addresses = [line[key] for key in ("address", "health_address", "operations_address")]
    ports = {int(address.removeprefix("127.0.0.1:")) for address in addresses}
    assert len(ports) == 3
    assert 0 not in ports
    await until_health_is(serving, SERVING)
    assert readiness(serving) == 200
    async with serving.client() as client:
        assert (await client.ask("anything?")).finish_reason == "nothing_found"


STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_it_with_status_0(start: Callable[..., Any], number: signal.Signals) -> None:
    serving = start()
    serving.process.send_signal(number)
    assert serving.wait() == 0
    assert serving.errors == []
    assert events(serving)[-2:] == ["server.draining", "server.stopped"]
    assert events(serving).count("server.serving") == 1
    assert serving.lines[-2]["signal"] == number.name


def issuer_at(port: int) -> str:
    return (
        f'[{{"name": "a", "issuer": "https://a", "audiences": ["a"],'
        f' "jwks": "http://127.0.0.1:{port}/keys"}}]'
    )


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("is_first", [False, True])
def test_a_signal_ends_a_start_at_once(
    tmp_path: Path, certs: Path, number: signal.Signals, *, is_first: bool
) -> None:
    unshare = [shutil.which("unshare"), "--pid", "--fork"] if is_first else []
    if is_first and (not unshare[0] or subprocess.run([*unshare, "true"], check=False).returncode):
        pytest.skip("cannot make a process the first of its namespace here")
    program = "from kotaemon_grpc.cli import main; main()"
    with socket.create_server(("127.0.0.1", 0)) as keys:
        process = subprocess.Popen(
            [
                *(*unshare, sys.executable, "-c", program, "serve", "--listen=127.0.0.1:0"),
                *("--health-listen=127.0.0.1:0", "--operations-listen=127.0.0.1:0"),
                *(f"--data-dir={tmp_path}/data", f"--certs={certs}"),
                f"--set=identity.issuers={issuer_at(keys.getsockname()[1])}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting, _ = keys.accept()  # for an answer, which does not come
        os.kill(child_of(process.pid) if is_first else process.pid, number)
        output, errors = process.communicate()
        waiting.close()
    assert process.returncode == 128 + number
    assert "server." not in output
    assert errors == ""


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


# A file system that hangs from the moment in which the pipe is there that is named.
HANGING = """
import pathlib, sys, threading
from kotaemon_grpc.auth import watched_files
stamp_of, hung = watched_files.stamp_of, pathlib.Path(sys.argv.pop())
def hang(path):
    if hung.exists():
        hung.write_text("hangs")
        threading.Event().wait()
    return stamp_of(path)
watched_files.stamp_of = hang
from kotaemon_grpc.cli import main
main()
"""


def test_a_thread_that_hangs_does_not_hold_up_the_end(
    serving_type: Any, tmp_path: Path, certs: Path
) -> None:
    hung = tmp_path / "hung"
    command = [sys.executable, "-c", HANGING]
    serving = serving_type(str(hung), data_dir=tmp_path / "data", certs=certs, command=command)
    os.mkfifo(hung)
    assert hung.read_text() == "hangs"
    serving.process.terminate()
    try:
        assert serving.process.wait(60) == 0
    finally:
        serving.kill()
    assert events(serving)[-1] == "server.stopped"


async def test_documents_and_conversations_outlive_a_restart(
    start: Callable[..., Any], corpus: Path, questions: dict[str, Any]
) -> None:
    case = questions["follow_ups"][0]
    serving = start(f"--import={corpus / 'en'}")
    async with serving.client() as client:
        documents = [document async for document in client.list_documents()]
        first = await client.ask(case["first"], conversation="conversations/-")
    assert serving.stop() == 0

    serving = start()
    async with serving.client() as client:
        assert [document async for document in client.list_documents()] == documents
        then = await client.ask(case["then"], conversation=first.conversation)
        assert case["contains"] in then.text
    async with serving.channel() as channel:
        turns = await stubs.ConversationServiceStub(channel).ListTurns(
            pb.ListTurnsRequest(parent=first.conversation)
        )
    assert [turn.question for turn in turns.turns] == [case["first"], case["then"]]
    assert turns.turns[0].answer.text == first.text


async def test_an_index_that_is_gone_is_made_anew_and_answers_the_same(
    start: Callable[..., Any], corpus: Path, questions: dict[str, Any]
) -> None:
    asked = [case["question"] for case in questions["answerable"][::4]]
    serving = start(f"--import={corpus / 'en'}", f"--import={corpus / 'zh'}")
    async with serving.client() as client:
        before = [await client.ask(question) for question in asked]
    assert serving.stop() == 0
    assert "index.rebuilt" not in events(serving)

    shutil.rmtree(serving.data_dir / "index")
    serving = start()
    async with serving.client() as client:
        after = [await client.ask(question) for question in asked]
    assert "index.rebuilt" in events(serving)
    assert [(answer.text, answer.finish_reason) for answer in after] == [
        (answer.text, answer.finish_reason) for answer in before
    ]


async def test_development_certificates_that_expired_are_renewed(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    directory = tmp_path / "pki"
    made = dt.datetime.now(dt.UTC) - dt.timedelta(days=30)
    pki.ensure(directory, clock=lambda: made)
    ca = (directory / "ca.pem").read_bytes()
    old = shutil.copytree(directory, tmp_path / "old")
    serving = start(certs=directory)
    issued = [line["path"] for line in serving.lines if line["event"] == "certificate.issued"]
    assert issued == [str(directory / "server.pem"), str(directory / "client.pem")]
    assert (directory / "ca.pem").read_bytes() == ca
    for path in issued:
        certificate = x509.load_pem_x509_certificate((tmp_path / path).read_bytes())
        assert certificate.not_valid_after_utc > dt.datetime.now(dt.UTC)
    async with serving.client() as client:
        assert (await client.ask("anything?")).finish_reason == "nothing_found"
    async with AgentClient(serving.address, tls=TlsFiles.in_directory(old)) as client:
        with pytest.raises(UnavailableError):
            await client.ask("anything?")


@pytest.fixture
def logging_to_us(certs: Path, tmp_path: Path, corpus: Path) -> Iterator[Any]:
    """A server whose log is a pipe of the test's: its process, and its first lines."""
    program = "from kotaemon_grpc.cli import main; main()"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", program, "serve", "--listen=127.0.0.1:0"),
            *("--health-listen=127.0.0.1:0", "--operations-listen=127.0.0.1:0"),
            *(f"--data-dir={tmp_path}/data", f"--certs={certs}", f"--import={corpus / 'en'}"),
            "--set=server.shutdown_delay_s=0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = (json.loads(line) for line in process.stdout)
    yield process, next(line for line in lines if line["event"] == "server.serving")
    process.kill()
    process.communicate()


def test_a_log_whose_reader_goes_away_costs_no_call(
    command: Callable[..., subprocess.CompletedProcess[str]], logging_to_us: Any, certs: Path
) -> None:
    process, serving = logging_to_us
    process.stdout.close()  # as "serve | head" does
    for _ in range(2):
        done = command("ask", STEPS, f"--target={serving['address']}", f"--certs={certs}")
        assert (done.returncode, done.stderr) == (0, "")
    process.terminate()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")


async def test_a_log_that_nobody_reads_holds_up_no_call_and_no_stop(
    logging_to_us: Any, certs: Path
) -> None:
    process, serving = logging_to_us
    tls = TlsFiles.in_directory(certs)
    async with AgentClient(serving["address"], tls=tls, timeout_s=20) as client:
        for _ in range(500):  # more lines than the pipe takes, as "serve | less" makes them
            await client.ask(STEPS)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, or the test is skipped and says so."""
    directory = tmp_path / "small-disk"
    directory.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done or done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr if done else 'no mount'}")
    yield directory
    subprocess.run([shutil.which("umount"), "--lazy", str(directory)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room at all."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_is_told_to_callers_and_recovers(
    small_disk: Path, start: Callable[..., Any], corpus: Path
) -> None:
    serving = start(f"--import={corpus / 'en'}", data_dir=small_disk)
    fill(small_disk / "ballast")
    text = ("# More\n\n" + "The tide turned and the quangleberry ripened. " * 2000).encode()
    async with serving.client() as client:
        with pytest.raises(ExhaustedError) as refused:
            await client.import_document(io.BytesIO(text), uri="file:///more.md")
        assert refused.value.reason == "STORAGE_FULL"
        # What there is can be read.
        assert "167 steps" in (await client.ask(STEPS)).text
        assert await client.search("anemometer")
        assert len([document async for document in client.list_documents()]) == 8

        (small_disk / "ballast").unlink()
        imported = await client.import_document(io.BytesIO(text), uri="file:///more.md")
        assert imported.document.state == "indexed"
        assert (await client.search("quangleberry"))[0].document == imported.document.name
    assert await asyncio.to_thread(serving.stop) == 0
    assert serving.errors == []
    calls = [line for line in serving.lines if line["event"] == "call"]
    (told,) = [line for line in calls if line.get("reason") == "STORAGE_FULL"]
    assert told["level"] in {"warning", "error"}


def test_a_data_directory_that_vanished_is_told_to_probes(start: Callable[..., Any]) -> None:
    server = start()
    host, _, port = server.operations_address.rpartition(":")
    shutil.rmtree(server.data_dir)
    with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        assert response.status == 503
        assert "vanished" in json.loads(response.read())["checks"]["store"]


def test_a_server_without_a_standard_output_serves(
    start: Callable[..., Any], certs: Path, tmp_path: Path
) -> None:
    del start
    program = "from kotaemon_grpc.cli import main; main()"
    flags = "--listen=127.0.0.1:0 --health-listen=127.0.0.1:0 --operations-listen=127.0.0.1:0"
    done = subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {flags} --data-dir=/dev/null/x >&-', "sh"),
            *(sys.executable, "-c", program, "serve", f"--certs={certs}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
