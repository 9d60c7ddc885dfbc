"""What is written for those who audit."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog
from structlog.testing import LogCapture

from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.auth.policy import Binding, Policy, Role
from kotaemon_grpc.core.errors import (
    CredentialProblem,
    NotFound,
    PermissionDenied,
    RateLimited,
    ResourceType,
    TlsTooOld,
    Unauthenticated,
)
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pipeline.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTS = "kotaemon.v2.DocumentService"
CONVERSATIONS = "kotaemon.v2.ConversationService"
NAME = "collections/c/documents/d"
WRITES: list[tuple[str, Any, str]] = [
    (f"{DOCUMENTS}/DeleteDocument", pb.DeleteDocumentRequest(name=NAME), NAME),
    (
        f"{DOCUMENTS}/CreateDocument",
        pb.CreateDocumentRequest(parent="collections/c", document_id="d"),
        "collections/c/documents/d",
    ),
    (
        f"{DOCUMENTS}/ImportDocument",
        pb.ImportDocumentRequest(
            header=pb.ImportDocumentHeader(parent="collections/c", document_id="d")
        ),
        "collections/c/documents/d",
    ),
    (f"{DOCUMENTS}/ImportDocument", pb.ImportDocumentRequest(chunk=b"text"), ""),
    (
        f"{CONVERSATIONS}/CreateConversation",
        pb.CreateConversationRequest(conversation_id="x"),
        "conversations/x",
    ),
    (
        f"{CONVERSATIONS}/DeleteConversation",
        pb.DeleteConversationRequest(name="conversations/x"),
        "conversations/x",
    ),
    (f"{DOCUMENTS}/DeleteDocument", pb.DeleteDocumentRequest(name="n" * 999), "n" * 256),
]
READS: list[tuple[str, Any]] = [
    ("kotaemon.v2.AgentService/AskQuestion", pb.AskQuestionRequest(question="why?")),
    (f"{DOCUMENTS}/GetDocument", pb.GetDocumentRequest(name=NAME)),
    (f"{CONVERSATIONS}/ListConversations", pb.ListConversationsRequest()),
]
DENIALS: list[tuple[Exception, str, str]] = [
    (Unauthenticated(CredentialProblem.EXPIRED), "UNAUTHENTICATED", ""),
    (TlsTooOld("TLSv1.2", "TLSv1.3"), "FAILED_PRECONDITION", ""),
    (PermissionDenied(WRITES[0][0]), "PERMISSION_DENIED", ""),
    (PermissionDenied("", "collections/attic"), "PERMISSION_DENIED", "collections/attic"),
]
ROLES = {
    "admin": Role(("*",), audited=True),
    "reader": Role(("*",)),
}
POLICY = Policy(ROLES, (Binding(("key:bound",), ("admin", "undefined")),))


@pytest.fixture
def lines_of(beginning: Any) -> Callable[..., list[dict[str, Any]]]:
    """Tell the stage of a call of somebody, and return what it writes."""

    def run(
        path: str,
        *requests: Any,
        code: str = "OK",
        who: Identity | None = None,
        reason: str = "",
        error: Exception | None = None,
    ) -> list[dict[str, Any]]:
        capture = LogCapture()
        logger: Any = structlog.wrap_logger(None, processors=[capture])
        call = beginning(path, (("x-request-id", "r-1"),))
        observer: Any = Audit(logger, POLICY).observer(call.method)
        call.identity, call.reason, call.trace_id = who, reason, "t-1"
        call.error = error
        for request in requests:
            if hasattr(observer, "on_request"):
                observer.on_request(call, request)
        # As the seam tells of an end: of a failure first.
        if isinstance(error, Exception):
            observer.on_failed(call, grpc.StatusCode[code])
        if hasattr(observer, "on_end"):
            observer.on_end(call, grpc.StatusCode[code])
        return list(capture.entries)

    return run


def somebody(*roles: str, principal: str = "key:a") -> Identity:
    return Identity(principal, "acme", frozenset(roles), "api_key", math.inf)


@pytest.mark.parametrize("code", ["OK", "NOT_FOUND", "INTERNAL", "CANCELLED"])
@pytest.mark.parametrize(("path", "request_", "resource"), WRITES)
async def test_what_administrators_write(
    path: str, request_: Any, resource: str, code: str, lines_of: Any
) -> None:
    (line,) = lines_of(path, request_, code=code, who=somebody("admin"), reason="R")
    service, _, method = path.partition("/")
    assert line == {
        "log_level": "warning",
        "event": "audit.write",
        "grpc_service": service,
        "grpc_method": method,
        "grpc_code": code,
        "reason": "R",
        "resource": resource,
        "principal": "key:a",
        "tenant": "acme",
        "credential": "api_key",
        "request_id": "r-1",
        "trace_id": "t-1",
    }


async def test_a_stream_is_told_by_its_first_name(lines_of: Any) -> None:
    path, header, resource = WRITES[2]
    chunk = WRITES[3][1]
    other = pb.ImportDocumentRequest(header=pb.ImportDocumentHeader(document_id="other"))
    for requests in ((chunk, header), (header, chunk), (header, chunk, other)):
        (line,) = lines_of(path, *requests, who=somebody("admin"))
        assert line["resource"] == resource


@pytest.mark.parametrize(("path", "request_"), READS)
async def test_what_administrators_read_is_not_written_down(
    path: str, request_: Any, lines_of: Any
) -> None:
    assert lines_of(path, request_, who=somebody("admin")) == []


@pytest.mark.parametrize("who", [None, somebody(), somebody("reader"), somebody("undefined")])
@pytest.mark.parametrize(("path", "request_", "_resource"), WRITES)
async def test_what_others_write_is_not_written_down(
    path: str, request_: Any, _resource: str, who: Identity | None, lines_of: Any
) -> None:
    assert lines_of(path, request_, who=who) == []


async def test_a_role_that_is_bound_makes_an_administrator_too(lines_of: Any) -> None:
    path, request_, _ = WRITES[0]
    assert lines_of(path, request_, who=somebody(principal="key:bound"))
    assert not lines_of(path, request_, who=somebody(principal="key:other"))


@pytest.mark.parametrize(("error", "code", "resource"), DENIALS)
@pytest.mark.parametrize("who", [None, somebody("reader"), somebody("admin")])
@pytest.mark.parametrize("path", [WRITES[0][0], READS[0][0]])
async def test_every_denial(  # noqa: PLR0917 - a table
    path: str, who: Identity | None, error: Exception, code: str, resource: str, lines_of: Any
) -> None:
    (line,) = lines_of(path, code=code, who=who, reason="R", error=error)
    assert (line["event"], line["grpc_code"], line["reason"]) == ("audit.denied", code, "R")
    assert line["principal"] == ("key:a" if who else "")
    assert (line["request_id"], line["resource"]) == ("r-1", resource)


@pytest.mark.parametrize(
    ("error", "resource"),
    [(PermissionDenied(WRITES[0][0]), NAME), (DENIALS[-1][0], NAME)],
)
async def test_of_a_write_that_is_denied_it_is_told_what_was_meant(
    error: Exception, resource: str, lines_of: Any
) -> None:
    path, request_, _ = WRITES[0]
    (line,) = lines_of(path, request_, code="PERMISSION_DENIED", error=error)
    assert (line["event"], line["resource"]) == ("audit.denied", resource)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("1 call a second", 1), "RESOURCE_EXHAUSTED"),
        (ValueError("so"), "INTERNAL"),
        (NotFound(ResourceType.DOCUMENT, "x"), "NOT_FOUND"),
        (asyncio.CancelledError(), "CANCELLED"),
    ],
)
async def test_other_failures_are_no_denials(
    error: BaseException, code: str, lines_of: Any
) -> None:
    assert lines_of(READS[0][0], code=code, who=somebody("reader"), error=error) == []


async def test_no_word_of_a_question_or_document_is_written_down(lines_of: Any) -> None:
    document = pb.CreateDocumentRequest(parent="collections/c", document_id="d")
    document.document.title = "planted-1"
    document.content = b"planted-2"
    (line,) = lines_of(f"{DOCUMENTS}/CreateDocument", document, who=somebody("admin"))
    assert "planted" not in str(line)


@pytest.mark.parametrize("shape", ["client_stream", "unary"])
async def test_a_stage_among_others(shape: str, serving: Any) -> None:
    capture = LogCapture()
    logger: Any = structlog.wrap_logger(None, processors=[capture])

    class Known:
        def admission(self, _method: Any) -> Any:
            def admit(call: Any) -> None:
                call.identity = somebody("admin")

            return admit

    header = WRITES[2][1].SerializeToString()
    async with serving(stages=[Audit(logger, POLICY)], guards=[Known()]) as served:
        request = header if shape == "client_stream" else None
        assert (await served.run(shape, request)).code == "OK"
        await served.recorder.end()
    resources = [line["resource"] for line in capture.entries]
    assert resources == (["collections/c/documents/d"] if shape == "client_stream" else [])


async def test_the_operator_is_told_more_than_the_caller(lines_of: Any) -> None:
    error = Unauthenticated(CredentialProblem.NOT_TRUSTED, "audience")
    (line,) = lines_of(READS[0][0], code="UNAUTHENTICATED", error=error)
    assert (line["cause"], line["peer"]) == ("audience", "ipv4:192.0.2.1:4242")
    assert "audience" not in str(error)
