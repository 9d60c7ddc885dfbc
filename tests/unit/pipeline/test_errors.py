"""Errors of the domain as `google.rpc.Status`."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from kotaemon_grpc.core.errors import (
    AgentError,
    AlreadyExists,
    ContentTooLarge,
    FieldViolation,
    InvalidArgument,
    NotFound,
    ResourceType,
    StorageFull,
    StorageUnavailable,
)
from kotaemon_grpc.pipeline.errors import MAX_DETAILS_BYTES, status_of
from kotaemon_grpc.wire.reasons import DOMAIN, Reason

ERRORS: list[tuple[Exception, str, Reason, str | None]] = [
    (
        InvalidArgument(FieldViolation("f", "is bad")),
        "INVALID_ARGUMENT",
        Reason.INVALID_FIELD,
        "BadRequest",
    ),
    *(
        (NotFound(kind, "x"), "NOT_FOUND", Reason[f"{kind.name}_NOT_FOUND"], "ResourceInfo")
        for kind in ResourceType
    ),
    *(
        (
            AlreadyExists(kind, "x"),
            "ALREADY_EXISTS",
            Reason[f"{kind.name}_ALREADY_EXISTS"],
            "ResourceInfo",
        )
        for kind in (ResourceType.DOCUMENT, ResourceType.CONVERSATION)
    ),
    (ContentTooLarge(7), "RESOURCE_EXHAUSTED", Reason.DOCUMENT_TOO_LARGE, "QuotaFailure"),
    (StorageFull(), "RESOURCE_EXHAUSTED", Reason.STORAGE_FULL, "QuotaFailure"),
    (StorageUnavailable(), "UNAVAILABLE", Reason.STORAGE_UNAVAILABLE, "RetryInfo"),
    (ValueError("secret"), "INTERNAL", Reason.INTERNAL, None),
]


def details_of(error: Exception) -> list[Any]:
    found = []
    for packed in status_of(error, "r-1").details:
        message = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
        assert packed.Unpack(message)
        found.append(message)
    return found


def kinds_of_agent_errors(root: type[AgentError] = AgentError) -> set[type[AgentError]]:
    """Return the classes that are raised: the leaves."""
    below = root.__subclasses__()
    return {root} if not below else set().union(*map(kinds_of_agent_errors, below))


@pytest.mark.parametrize(("error", "code", "reason", "kind"), ERRORS)
def test_an_error_has_its_code_its_reason_and_the_detail_that_fits(
    error: Exception, code: str, reason: Reason, kind: str | None
) -> None:
    assert status_of(error, "r-1").code == grpc.StatusCode[code].value[0]
    info, request, *rest = details_of(error)
    assert (info.reason, info.domain) == (reason, DOMAIN)
    assert request.request_id == "r-1"
    assert [type(detail).__name__ for detail in rest] == ([kind] if kind else [])


def test_every_error_and_every_reason_is_in_the_table_above() -> None:
    assert {type(error) for error, *_ in ERRORS} - {ValueError} == kinds_of_agent_errors()
    assert {reason for _, _, reason, _ in ERRORS} == set(Reason)


def test_violations_name_their_fields() -> None:
    error = InvalidArgument(FieldViolation("a", "is bad"), FieldViolation("b.c", "is worse"))
    violations = details_of(error)[2].field_violations
    assert [(v.field, v.description) for v in violations] == [("a", "is bad"), ("b.c", "is worse")]


@pytest.mark.parametrize("letter", ["x", "é", "鮑", "🦑"])
def test_details_stay_within_their_limit(letter: str) -> None:
    violations = [FieldViolation(f"f{n}" + letter * 500, letter * 500) for n in range(1000)]
    status = status_of(InvalidArgument(*violations), "r" * 128)
    assert status.ByteSize() <= MAX_DETAILS_BYTES
    assert len(status.message) == 256
    info, request, bad_request = details_of(InvalidArgument(*violations))
    assert info.reason == Reason.INVALID_FIELD
    assert request.request_id
    assert all(v.field.startswith(f"f{n}") for n, v in enumerate(bad_request.field_violations))


def test_an_error_whose_name_is_long_is_cut() -> None:
    status = status_of(NotFound(ResourceType.DOCUMENT, "x" * 5000), "r-1")
    assert len(status.message) == 256
    assert status.ByteSize() <= MAX_DETAILS_BYTES


def test_a_fault_has_no_words_of_its_own() -> None:
    for error in (ValueError("secret-123"), KeyError("secret-123"), AgentError("secret-123")):
        assert status_of(error, "r-1").message == "internal error"
        assert b"secret-123" not in status_of(error, "r-1").SerializeToString()
