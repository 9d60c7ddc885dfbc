"""A server that takes all credentials, and what its answers must be."""

from __future__ import annotations

import json
import re
import ssl
import sys
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, settings
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from kotaemon_grpc.auth.key_file import KeyFile
from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pipeline.errors import FAILURES, INTERNAL
from kotaemon_grpc.wire.reasons import DOMAIN

from .http2 import Http2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

settings.register_profile(
    "fuzz",
    deadline=None,
    derandomize=True,  # the same examples in every run
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

ISSUER, AUDIENCE, KID = "https://idp.example.org", "kotaemon-grpc", "one"
ASK = "/kotaemon.v1.AgentService/AskQuestion"
GOOD = v1.QuestionRequest(query="when does the ferry leave?").SerializeToString()
PATIENCE_S = 30  # only what fails takes as long

# What docs/errors.md has; tests/unit/test_docs.py holds it against the code.
CODES_BY_REASON = {each.reason.value: each.code.name for each in (*FAILURES.values(), INTERNAL)}
FROM_CORE = re.compile(r"[EW]\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\] ")  # what its own log looks like
CODES_OF_CORE = {
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
}


@dataclass(frozen=True)
class Issued:
    """Credentials, and the configuration of a server that takes them."""

    config: Path
    private_key: rsa.RSAPrivateKey
    api_key: str

    def token(self, *, subject: str = "alice", **header: Any) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": "admin",
            "exp": int(time.time()) + 3600,
        }
        return jwt.encode(claims, self.private_key, "RS256", {"kid": KID, **header})

    def bearer(self, subject: str = "alice") -> tuple[bytes, bytes]:
        """The field that shows a good token."""
        return b"authorization", f"Bearer {self.token(subject=subject)}".encode()


@pytest.fixture(scope="session")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Issued]:
    """Make credentials, and a configuration that trusts them: `issue(toml)`.

    The configuration begins with the section `[server]`, which the text goes on with.
    """
    private_key = rsa.generate_private_key(65537, 2048)

    def write(toml: str) -> Issued:
        directory = tmp_path_factory.mktemp("issued")
        public = jwt.algorithms.RSAAlgorithm.to_jwk(private_key.public_key(), as_dict=True)
        public |= {"kid": KID, "key_ops": ["verify"]}
        (directory / "jwks.json").write_text(json.dumps({"keys": [public]}))
        _, api_key = KeyFile(directory / "keys.json").create(
            "robot", tenant="default", roles=("admin",), life=None
        )
        (directory / "config.toml").write_text(f"""
[server]
{toml}
[identity]
api_keys_file = "{directory}/keys.json"
[[identity.issuers]]
name = "idp"
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
jwks = "{directory}/jwks.json"
roles_by_scope = {{ admin = ["admin"] }}
""")
        return Issued(directory / "config.toml", private_key, api_key)

    return write


def check_documented(answer: Any) -> None:
    """Check that an answer is one that the documentation has."""
    assert answer.code, f"no status came, but {answer.fields} and a reset: {answer.reset_with}"
    if answer.reason:
        assert CODES_BY_REASON[answer.reason] == answer.code
        assert answer.detail("ErrorInfo").domain == DOMAIN
        assert answer.detail("RequestInfo").request_id == answer.fields["x-request-id"].decode()
        assert answer.status.message
    else:
        assert answer.code in {"OK", *CODES_OF_CORE}
        assert not answer.status.details


@pytest.fixture(scope="session")
def documented() -> Callable[[Any], None]:
    """Check that an answer is one that the documentation has: `documented(answer)`."""
    return check_documented


@dataclass
class Fuzzed:
    """A server, and connections by hand to its two listeners."""

    serving: Any
    issued: Issued
    tls: ssl.SSLContext
    _open: dict[str, Http2]

    def connection(self, address: str = "") -> Any:
        """The connection that is open, or a new one."""
        address = address or self.serving.address
        if address not in self._open:
            self._open[address] = Http2(address, self.tls)
        return self._open[address]

    def call(self, path: str, *messages: bytes, address: str = "", **options: Any) -> Any:
        """Make a call; a connection that the server closes for it is opened anew.

        One that is open may have been closed before: nobody answers its pings while
        nothing is asked. Then the call is made once more, on a new one.
        """
        was_open = (address or self.serving.address) in self._open
        try:
            return self.connection(address).call(path, *messages, **options)
        except OSError:
            self.close()
            if not was_open:
                raise
            return self.connection(address).call(path, *messages, **options)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    @property
    def token_address(self) -> str:
        """Where tokens and API keys are taken, and no certificates."""
        started = next(line for line in self.serving.lines if line["event"] == "server.serving")
        return started["further_addresses"][0]

    def lines_since(self, count: int) -> list[dict[str, Any]]:
        """Return the lines after so many, of all calls that have ended by now."""
        return written(self.serving, lambda fields: self.call(ASK, GOOD, fields=fields))[count:]


def written(serving: Any, ask: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return all lines up to that of a good call, which is made here."""
    request_id = uuid.uuid4().hex
    answer = ask([(b"x-request-id", request_id.encode())])
    assert (answer.code, len(answer.messages)) == ("OK", 1)
    end_s = time.monotonic() + PATIENCE_S
    while not any(line.get("request_id") == request_id for line in list(serving.lines)):
        assert time.monotonic() < end_s, "the line of a call was not written"
        page(serving, "/healthz")  # meanwhile, the writer of lines and their reader work
    return list(serving.lines)


def page(serving: Any, path: str, accept: str = "*/*") -> str:
    """Return a page of the operations port."""
    request = urllib.request.Request(
        f"http://{serving.operations_address}{path}", headers={"accept": accept}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310 - our own address
        return response.read().decode()


@pytest.fixture(scope="session")
def tls_context(certs: Path) -> ssl.SSLContext:
    """TLS as the developer speaks it, for HTTP/2."""
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    context.load_cert_chain(certs / "client.pem", certs / "client-key.pem")
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture(scope="session")
def fuzzed(
    server: Any,
    issue: Any,
    tls_context: ssl.SSLContext,
    tmp_path_factory: pytest.TempPathFactory,
    corpus: Path,
) -> Iterator[Fuzzed]:
    """A server with a listener for certificates, and one for tokens and API keys."""
    issued = issue("""
listeners = [{ listen = "127.0.0.1:0", credentials = ["jwt", "api_key"] }]
[limits]
calls_per_second = 0.0
""")
    serving = type(server)(
        f"--config={issued.config}",
        f"--import={corpus / 'en' / 'ferry-timetable.md'}",
        data_dir=tmp_path_factory.mktemp("fuzzed"),
        certs=server.certs,
    )
    fuzzed = Fuzzed(serving, issued, tls_context, {})
    yield fuzzed
    fuzzed.close()
    assert serving.stop() == 0


@pytest.fixture(scope="session")
def tell(
    server: Any,
    issue: Any,
    tls_context: ssl.SSLContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Fuzzed]:
    """Start the server whose engine does as it is told: `tell(toml)`; stop it yourself."""

    def start(toml: str) -> Fuzzed:
        issued = issue(toml)
        serving = type(server)(
            f"--config={issued.config}",
            data_dir=tmp_path_factory.mktemp("told"),
            certs=server.certs,
            command=(sys.executable, str(Path(__file__).parent / "told_server.py")),
        )
        return Fuzzed(serving, issued, tls_context, {})

    return start


@pytest.fixture
def watched(fuzzed: Fuzzed) -> Iterator[Fuzzed]:
    """The server; afterwards it has to answer, and must have had no fault of its own."""
    count = len(fuzzed.serving.lines)
    yield fuzzed
    assert [line for line in fuzzed.lines_since(count) if line["level"] == "error"] == []
    assert not [line for line in fuzzed.serving.errors if not FROM_CORE.match(line)]


@pytest.fixture(name="page", scope="session")
def page_fixture() -> Callable[..., str]:
    """Return a page of the operations port: `page(serving, "/metrics")`."""
    return page


@pytest.fixture(scope="session")
def ask() -> tuple[str, bytes]:
    """The path of a method, and a good request of it."""
    return ASK, GOOD


@pytest.fixture(name="written", scope="session")
def written_fixture() -> Callable[..., list[dict[str, Any]]]:
    """Return all lines up to that of a good call: `written(serving, make_it_with_fields)`."""
    return written


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """A receiver of traces on loopback."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self._server = grpc.server(ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.address = f"localhost:{self._server.add_insecure_port('localhost:0')}"
        self._server.start()

    def Export(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name for it
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="session")
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver of traces, with the requests that it was sent."""
    receiver = OtlpReceiver()
    yield receiver
    receiver.stop()
