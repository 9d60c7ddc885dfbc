"""Real servers over real TLS on loopback, for every test that needs one."""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from kotaemon_grpc.client import AgentClient, TlsFiles
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

CORPUS = Path(__file__).parent / "corpus"
COMMAND = [sys.executable, "-c", "from kotaemon_grpc.cli import main; main()"]
START_LIMIT_S = 60


class Serving:
    """A server in a process of its own, with everything that it wrote."""

    def __init__(
        self,
        *arguments: str,
        data_dir: Path,
        certs: Path,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.data_dir = data_dir
        self.certs = certs
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [
                *command,
                "serve",
                "--listen=127.0.0.1:0",
                "--health-listen=127.0.0.1:0",
                "--operations-listen=127.0.0.1:0",
                f"--data-dir={data_dir}",
                f"--certs={certs}",
                "--set=server.shutdown_delay_s=0",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        self.errors: list[str] = []
        self._watchdog = threading.Timer(START_LIMIT_S, self.process.kill)
        self._watchdog.start()
        self._error_reader = threading.Thread(target=self._read_errors)
        self._error_reader.start()
        self._serving: dict[str, Any] = {}
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == "server.serving":
                self._serving = self.lines[-1]
                break
        self._watchdog.cancel()
        self._reader = threading.Thread(target=self._read_lines)
        self._reader.start()
        if not self._serving:
            self.wait()
            raise AssertionError(f"the server did not start: {self.errors} {self.lines}")

    @property
    def address(self) -> str:
        return self._serving["address"]

    @property
    def health_address(self) -> str:
        return self._serving["health_address"]

    @property
    def operations_address(self) -> str:
        return self._serving["operations_address"]

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles.in_directory(self.certs)

    @property
    def flags(self) -> list[str]:
        """What a verb of the command line needs to call this server."""
        return [f"--target={self.address}", f"--certs={self.certs}"]

    def client(self) -> AgentClient:
        return AgentClient(self.address, tls=self.tls)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(self.address, self.tls.credentials())

    def kill(self) -> None:
        """End it with no chance to clean up."""
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """End it as an orchestrator does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(START_LIMIT_S)
        self._reader.join()
        self._error_reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def _read_lines(self) -> None:
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def _read_errors(self) -> None:
        self.errors.extend(self.process.stderr)


def clean_environment() -> dict[str, str]:
    """Return the environment without settings that the developer's shell may have."""
    return {k: v for k, v in os.environ.items() if not k.startswith("KOTAEMON_GRPC_")}


@pytest.fixture(scope="session", autouse=True)
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where Python may not keep bytecode, let our many processes share it for this run.

    Each would compile all that it imports, which takes longer than all else it does.
    """
    with pytest.MonkeyPatch.context() as environ:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            environ.delenv("PYTHONDONTWRITEBYTECODE")
            environ.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development PKI that all servers and clients of the run share."""
    directory = tmp_path_factory.mktemp("certs")
    pki.ensure(directory)
    return directory


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, certs: Path) -> Iterator[Serving]:
    """A server that holds the corpus. Tests that change something use names of their own."""
    serving = Serving(
        f"--import={CORPUS / 'en'}",
        f"--import={CORPUS / 'zh'}",
        data_dir=tmp_path_factory.mktemp("data"),
        certs=certs,
    )
    yield serving
    assert serving.stop() == 0


@pytest.fixture(scope="session")
def serving_type() -> type[Serving]:
    """What starts a server, for fixtures that share one among their tests."""
    return Serving


@pytest.fixture
def start(tmp_path: Path, certs: Path) -> Iterator[Callable[..., Serving]]:
    """Start a server of the test's own: `start(*arguments, data_dir=…, certs=…)`."""
    started: list[Serving] = []

    def start_server(
        *arguments: str, data_dir: Path = tmp_path / "data", certs: Path = certs
    ) -> Serving:
        started.append(Serving(*arguments, data_dir=data_dir, certs=certs))
        return started[-1]

    yield start_server
    for serving in started:
        if serving.process.poll() is None:
            serving.kill()


@pytest.fixture
async def client(server: Serving) -> AsyncIterator[AgentClient]:
    """A client of the server that holds the corpus."""
    async with server.client() as client:
        yield client


@pytest.fixture
async def channel(server: Serving) -> AsyncIterator[grpc.aio.Channel]:
    """A raw channel to the server that holds the corpus."""
    async with server.channel() as channel:
        yield channel


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `kotaemon-grpc` to its end: `command("ask", "why?", stdin="")`."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=START_LIMIT_S,
            env={**clean_environment(), **variables},
        )

    return run


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Where the corpus and its questions are."""
    return CORPUS


@pytest.fixture(scope="session")
def questions(corpus: Path) -> dict[str, list[dict[str, str]]]:
    """The corpus's questions: answerable, unanswerable, follow_ups."""
    return json.loads((corpus / "questions.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Failure:
    """All that a caller is told of a call that failed."""

    error: grpc.aio.AioRpcError
    status: status_pb2.Status

    @property
    def code(self) -> str:
        return self.error.code().name

    @property
    def reason(self) -> str:
        return self.detail("ErrorInfo").reason

    @property
    def violations(self) -> dict[str, str]:
        """Descriptions by field; empty if the fields are all right."""
        found = self.detail("BadRequest")
        return {v.field: v.description for v in found.field_violations} if found else {}

    @property
    def kinds(self) -> list[str]:
        return [detail.TypeName().rpartition(".")[2] for detail in self.status.details]

    def detail(self, kind: str) -> Any:
        """Return the detail of a kind, as `ErrorInfo`; None if there is none."""
        for packed in self.status.details:
            if packed.TypeName() == f"google.rpc.{kind}":
                message = getattr(error_details_pb2, kind)()
                packed.Unpack(message)
                return message
        return None


@pytest.fixture(scope="session")
def failure_of() -> Callable[[Any], Awaitable[Failure]]:
    """Run a call that is to fail to its end: `failure = await failure_of(call)`."""

    async def run(call: Any) -> Failure:
        try:
            if hasattr(call, "read"):
                while await call.read() is not grpc.aio.EOF:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            status = status_pb2.Status()
            for key, value in error.trailing_metadata() or ():
                if key == "grpc-status-details-bin":
                    status.ParseFromString(value)
            return Failure(error, status)
        raise AssertionError("the call did not fail")

    return run


@pytest.fixture(scope="session")
def text_at() -> Callable[[str], str]:
    """Read the text that a document's offsets count in, by its file URI."""

    def read(uri: str) -> str:
        content = Path(unquote(urlsplit(uri).path)).read_bytes()
        wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return content.decode("utf-16" if wide else "utf-8-sig")

    return read


@pytest.fixture(scope="session")
def squeezed() -> Callable[[str], str]:
    """Take all white space out of a text, to compare it with one that was folded."""
    return lambda text: "".join(text.split())
