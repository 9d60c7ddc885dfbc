"""What callers and faults bring along is written nowhere that others can read."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pb.v2 import agent_pb2 as v2

if TYPE_CHECKING:
    from collections.abc import Iterator

ASK = "/kotaemon.v2.AgentService/AskQuestion"
STREAM = "/kotaemon.v2.AgentService/StreamAnswer"
CHAT = "/kotaemon.v2.AgentService/ChatStream"
IMPORT = "/kotaemon.v2.DocumentService/ImportDocument"
CREATE = "/kotaemon.v2.DocumentService/CreateDocument"
TITLE = "/kotaemon.v2.ConversationService/CreateConversation"
OPEN_METRICS = "application/openmetrics-text"


@dataclass
class Leaky:
    """A server, and the secrets that were planted in what it was sent."""

    told: Any
    written: Any
    secrets: list[str] = field(default_factory=list)

    def plant(self) -> str:
        self.secrets.append(f"secret{uuid.uuid4().hex}")
        return self.secrets[-1]

    def call(self, path: str, *messages: Any, **options: Any) -> Any:
        """Make a call; of its failure, its caller must not be told any secret either."""
        contents = [
            each if isinstance(each, bytes) else each.SerializeToString() for each in messages
        ]
        answer = self.told.call(path, *contents, **options)
        assert not holds(answer.fields, self.secrets)
        if answer.code != "OK":
            assert not holds(answer.data, self.secrets)
        return answer

    def lines(self) -> list[dict[str, Any]]:
        question = v2.AskQuestionRequest(question="well?").SerializeToString()
        return self.written(
            self.told.serving, lambda fields: self.told.call(ASK, question, fields=fields)
        )


def holds(what: object, secrets: list[str]) -> list[str]:
    text = repr(what)
    return [secret for secret in secrets if secret in text]


@pytest.fixture(scope="module")
def leaky(tell: Any, written: Any, otlp_receiver: Any, page: Any) -> Iterator[Leaky]:
    """The server; afterwards, nothing that it has written may hold anything of the secrets."""
    told = tell(f"""
listeners = [{{ listen = "127.0.0.1:0", credentials = ["jwt", "api_key"] }}]
[limits]
calls_per_second = 0.0
[traces]
endpoint = "{otlp_receiver.address}"
insecure = true
sample_ratio = 1.0
""")
    leaky = Leaky(told, written)
    yield leaky
    leaky.lines()
    pages = [
        *(page(told.serving, path) for path in ("/metrics", "/", "/readyz")),
        page(told.serving, "/metrics", OPEN_METRICS),
    ]
    told.close()
    assert told.serving.stop() == 0
    for what in (pages, told.serving.lines, told.serving.errors, otlp_receiver.requests):
        assert what is told.serving.errors or what
        assert not holds(what, leaky.secrets)


def of_request(lines: list[dict[str, Any]], request_id: str) -> dict[str, Any]:
    found = [
        line for line in lines if (line["event"], line.get("request_id")) == ("call", request_id)
    ]
    assert len(found) == 1
    return found[0]


def asked(verb: str, secret: str) -> Any:
    return v2.AskQuestionRequest(question=f"{verb} {secret}")


def fails(leaky: Leaky, path: str, request: Any, **options: Any) -> None:
    """Make a call that fails by a fault, and check what its caller and the operator see."""
    request_id = uuid.uuid4().hex
    fields = [(b"x-request-id", request_id.encode()), *options.pop("fields", ())]
    answer = leaky.call(path, request, fields=fields, **options)
    assert (answer.code, answer.reason) == ("INTERNAL", "INTERNAL")
    assert answer.fields["grpc-message"] == b"internal error"
    assert answer.detail("RequestInfo").request_id == request_id
    assert answer.fields["x-request-id"].decode() == request_id
    line = of_request(leaky.lines(), request_id)
    assert (line["level"], line["grpc_code"], line["reason"]) == ("error", "INTERNAL", "INTERNAL")
    types = [link["type"] for link in line["exception"]]
    assert types == ["builtins.RuntimeError", "builtins.ValueError"]
    assert "told_server.py" in line["exception"][0]["frames"][-1]
    assert line["exception"][0]["frames"][-1].endswith(" fail")


@pytest.mark.parametrize("path", [ASK, STREAM])
@pytest.mark.parametrize("at", ["on_start", "admission", "on_received", "on_request", "on_sent"])
def test_a_stage_that_fails_is_told_without_its_words(at: str, path: str, leaky: Leaky) -> None:
    fields = [(b"x-fail-at", at.encode()), (b"x-words", leaky.plant().encode())]
    fails(leaky, path, asked("answer", leaky.plant()), fields=fields)


def test_a_stage_that_fails_at_the_end_changes_no_answer(leaky: Leaky) -> None:
    fields = [(b"x-fail-at", b"on_end"), (b"x-words", leaky.plant().encode())]
    assert leaky.call(ASK, asked("answer", leaky.plant()), fields=fields).code == "OK"
    faults = [line for line in leaky.lines() if line["event"].startswith("an observer failed")]
    assert [fault["exception"][0]["type"] for fault in faults] == ["builtins.RuntimeError"]


@pytest.mark.parametrize("verb", ["fail", "begin"])
@pytest.mark.parametrize("path", [ASK, STREAM, CHAT, "/kotaemon.v1.AgentService/AskQuestion"])
def test_an_engine_that_fails_is_told_without_its_words(verb: str, path: str, leaky: Leaky) -> None:
    question = f"{verb} {leaky.plant()}"
    request = {
        ASK: v2.AskQuestionRequest(question=question),
        STREAM: v2.StreamAnswerRequest(question=question),
        CHAT: v2.ChatStreamRequest(message=v2.ChatMessage(question=question)),
    }.get(path, v1.QuestionRequest(query=question))
    fails(leaky, path, request)


def test_what_a_request_says_is_not_repeated(leaky: Leaky) -> None:
    plant = leaky.plant
    question = asked("well?", plant())
    header = v2.ImportDocumentHeader(
        parent="collections/leaks", document=v2.Document(title=plant()), expected_sha256="0" * 64
    )
    text = v2.ImportDocumentRequest(chunk=f"# {plant()}\n\n{plant()}\n".encode())
    answers = [
        leaky.call(ASK, question),
        leaky.call(ASK, v2.AskQuestionRequest(question=plant(), language_code=f"-{plant()}")),
        leaky.call(ASK, v2.AskQuestionRequest(question="x", context={"x": plant() * 9000})),
        leaky.call(ASK, v2.AskQuestionRequest(question=" ", context={"x": plant()})),
        leaky.call(IMPORT, v2.ImportDocumentRequest(header=header), text),
        leaky.call(IMPORT, text, text),
        leaky.call(
            CREATE,
            v2.CreateDocumentRequest(
                parent="collections/leaks",
                document=v2.Document(title=plant(), uri="file:///x", mime_type="text/plain"),
                content=f"{plant()}\n".encode(),
            ),
        ),
        leaky.call(
            CREATE,
            v2.CreateDocumentRequest(
                parent="collections/leaks",
                document=v2.Document(mime_type=plant()),
                content=b"\xff\xff" + plant().encode(),
            ),
        ),
        leaky.call(TITLE, v2.CreateConversationRequest(conversation={"title": plant()})),
        leaky.call(TITLE, v2.CreateConversationRequest(conversation={"title": f"{plant()}\0"})),
        leaky.call(ASK, b"\xff" + plant().encode()),
        leaky.call(CHAT, question, b"\xff" + plant().encode()),
    ]
    codes = [answer.code for answer in answers]
    bad = "INVALID_ARGUMENT"
    assert codes == ["OK", *[bad] * 5, "OK", bad, "OK", *[bad] * 3]


def test_what_metadata_says_is_not_repeated(leaky: Leaky) -> None:
    token = leaky.told.issued.token()
    api_key = leaky.told.issued.api_key
    leaky.secrets += [token.rpartition(".")[2], api_key.rpartition(".")[2]]
    shown = [
        (b"authorization", b"Bearer " + token.encode()),
        (b"authorization", b"Bearer x" + token.encode()),
        (b"authorization", b"Bearer " + leaky.plant().encode()),
        (b"authorization", leaky.plant().encode()),
        (b"x-api-key", api_key.encode()),
        (b"x-api-key", api_key[:-1].encode()),
        (b"x-api-key", leaky.plant().encode()),
        (b"x-request-id", b" " + leaky.plant().encode() + b" x"),
        (b"traceparent", leaky.plant().encode()),
        (b"tracestate", leaky.plant().encode()),
        (b"accept-language", leaky.plant().encode()),
        (b"grpc-timeout", leaky.plant().encode()),
        (b"grpc-encoding", leaky.plant().encode()),
        (b"x-bin", b"!" + leaky.plant().encode()),
        (leaky.plant().encode(), leaky.plant().encode()),
        (b"user-agent", leaky.plant().encode()),
        (b"cookie", leaky.plant().encode()),
    ]
    for address in (leaky.told.serving.address, leaky.told.token_address):
        for each in shown:
            leaky.call(ASK, asked("well?", leaky.plant()), fields=[each], address=address)


def test_what_is_not_utf_8_is_not_repeated(leaky: Leaky) -> None:
    secret = leaky.plant()
    fields = [(b"authorization", f"Bearer {secret}".encode() + b"\xff")]
    leaky.call(ASK, asked("well?", ""), fields=fields)
    lines = leaky.lines()
    assert not holds(lines, [secret])
    about = [line for line in lines if line["event"].startswith("Invalid encoding")]
    assert [(line["event"], line["level"]) for line in about] == [
        ("Invalid encoding on %s", "warning")
    ]
