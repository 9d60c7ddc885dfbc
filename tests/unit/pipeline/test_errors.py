"""Errors of the domain as `google.rpc.Status`."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from kotaemon_grpc.core import errors as core_errors
from kotaemon_grpc.core.errors import (
    AgentError,
    AlreadyExists,
    ContentTooLarge,
    CredentialProblem,
    CredentialsSourceUnavailable,
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ReaderTooSlow,
    Refused,
    RequestIdReused,
    ResourceType,
    ShuttingDown,
    StorageFull,
    StorageUnavailable,
    StreamIdle,
    TlsTooOld,
    Unauthenticated,
)
from kotaemon_grpc.pipeline.errors import (
    FAILURES,
    INTERNAL,
    MAX_DETAILS_BYTES,
    MAX_MESSAGE_BYTES,
    classify,
    status_of,
    trailers_of,
)
from kotaemon_grpc.wire.reasons import DOMAIN, Reason

METHOD = "kotaemon.v2.DocumentService/DeleteDocument"
ERRORS: list[tuple[Exception, str, Reason, list[str]]] = [
    (
        InvalidArgument(FieldViolation("f", "is bad")),
        "INVALID_ARGUMENT",
        Reason.INVALID_FIELD,
        ["BadRequest"],
    ),
    (RequestIdReused("f"), "INVALID_ARGUMENT", Reason.REQUEST_ID_REUSED, ["BadRequest"]),
    *(
        (NotFound(kind, "x"), "NOT_FOUND", Reason[f"{kind.name}_NOT_FOUND"], ["ResourceInfo"])
        for kind in ResourceType
    ),
    *(
        (
            AlreadyExists(kind, "x"),
            "ALREADY_EXISTS",
            Reason[f"{kind.name}_ALREADY_EXISTS"],
            ["ResourceInfo"],
        )
        for kind in (ResourceType.DOCUMENT, ResourceType.CONVERSATION)
    ),
    (ContentTooLarge(7), "RESOURCE_EXHAUSTED", Reason.DOCUMENT_TOO_LARGE, ["QuotaFailure"]),
    (StorageFull(), "RESOURCE_EXHAUSTED", Reason.STORAGE_FULL, ["QuotaFailure"]),
    (StorageUnavailable(), "UNAVAILABLE", Reason.STORAGE_UNAVAILABLE, ["RetryInfo"]),
    *(
        (Unauthenticated(problem), "UNAUTHENTICATED", Reason[f"CREDENTIALS_{problem.name}"], [])
        for problem in CredentialProblem
    ),
    (
        TlsTooOld("TLSv1.2", "TLSv1.3"),
        "FAILED_PRECONDITION",
        Reason.TLS_VERSION_TOO_OLD,
        ["PreconditionFailure"],
    ),
    (PermissionDenied(METHOD), "PERMISSION_DENIED", Reason.METHOD_NOT_ALLOWED, []),
    (
        PermissionDenied("", "collections/attic"),
        "PERMISSION_DENIED",
        Reason.COLLECTION_NOT_ALLOWED,
        ["ResourceInfo"],
    ),
    (DeadlineExceeded(), "DEADLINE_EXCEEDED", Reason.DEADLINE_EXCEEDED, []),
    (StreamIdle(60), "DEADLINE_EXCEEDED", Reason.STREAM_IDLE, []),
    (ReaderTooSlow(60), "DEADLINE_EXCEEDED", Reason.READER_TOO_SLOW, []),
    (ShuttingDown(), "UNAVAILABLE", Reason.SHUTTING_DOWN, ["RetryInfo"]),
    (Overloaded(1.5), "UNAVAILABLE", Reason.OVERLOADED, ["RetryInfo"]),
    (
        CredentialsSourceUnavailable(1.5),
        "UNAVAILABLE",
        Reason.CREDENTIALS_SOURCE_UNAVAILABLE,
        ["RetryInfo"],
    ),
    (
        RateLimited("5 calls a second", 0.25),
        "RESOURCE_EXHAUSTED",
        Reason.RATE_LIMITED,
        ["RetryInfo", "QuotaFailure"],
    ),
    (ValueError("secret"), "INTERNAL", Reason.INTERNAL, []),
]
NEVER_RAISED = {AgentError, Refused}  # names for their subclasses
TEXTS = st.text(st.characters(), max_size=300) | st.text("鮑🦑%\x00\ud800x", max_size=2000)
REQUEST_IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=128)
PROBLEMS = st.one_of(
    st.lists(st.builds(FieldViolation, TEXTS, TEXTS), max_size=50).map(
        lambda violations: InvalidArgument(*violations)
    ),
    st.builds(NotFound, st.sampled_from(ResourceType), TEXTS),
    st.builds(PermissionDenied, TEXTS, TEXTS),
    st.builds(TlsTooOld, TEXTS, TEXTS),
    st.builds(RateLimited, TEXTS, st.floats()),
    st.builds(Overloaded, st.floats()),
)


def told(error: Exception, request_id: str = "r-1", languages: str = "") -> status_pb2.Status:
    return status_of(classify(error), error, request_id, languages)


def details_in(status: status_pb2.Status) -> list[Any]:
    found = []
    for packed in status.details:
        message = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
        assert packed.Unpack(message)
        found.append(message)
    return found


def details_of(error: Exception) -> dict[str, Any]:
    return {type(detail).__name__: detail for detail in details_in(told(error))}


def pushback_of(error: Exception) -> str | bytes | None:
    return dict(trailers_of(told(error), error, "r-1")).get("grpc-retry-pushback-ms")


@pytest.mark.parametrize(("error", "code", "reason", "kinds"), ERRORS)
def test_an_error_has_its_code_its_reason_and_the_details_that_fit(
    error: Exception, code: str, reason: Reason, kinds: list[str]
) -> None:
    failure = classify(error)
    assert (failure.code.name, failure.reason) == (code, reason)
    status = told(error)
    assert status.code == failure.code.value[0]
    info, request, *rest = details_in(status)
    assert (info.reason, info.domain) == (reason, DOMAIN)
    assert request.request_id == "r-1"
    assert [type(detail).__name__ for detail in rest] == [*kinds, "LocalizedMessage"]


def test_every_error_and_every_reason_is_in_the_table_above() -> None:
    raised = {
        kind
        for name, kind in inspect.getmembers(core_errors, inspect.isclass)
        if issubclass(kind, AgentError) and not name.startswith("_")
    }
    assert {type(error) for error, *_ in ERRORS} - {ValueError} == raised - NEVER_RAISED
    assert {reason for _, _, reason, _ in ERRORS} == set(Reason)
    assert {failure.reason for failure in FAILURES.values()} | {INTERNAL.reason} == set(Reason)


def test_violations_name_their_fields() -> None:
    error = InvalidArgument(FieldViolation("a", "is bad"), FieldViolation("b.c", "is worse"))
    violations = details_of(error)["BadRequest"].field_violations
    assert [(v.field, v.description) for v in violations] == [("a", "is bad"), ("b.c", "is worse")]


def test_a_denial_says_what_may_not_be_done() -> None:
    assert details_of(PermissionDenied(METHOD))["ErrorInfo"].metadata == {"method": METHOD}
    resource = details_of(PermissionDenied("", "collections/attic"))["ResourceInfo"]
    assert resource.resource_type == "kotaemon/Collection"
    assert resource.resource_name == "collections/attic"


def test_a_limit_is_named() -> None:
    assert details_of(ContentTooLarge(7))["ErrorInfo"].metadata == {"max_bytes": "7"}
    (violation,) = details_of(RateLimited("5 calls a second", 1))["QuotaFailure"].violations
    assert violation.subject == "caller"
    assert "5 calls a second" in violation.description
    (unmet,) = details_of(TlsTooOld("TLSv1.2", "TLSv1.3"))["PreconditionFailure"].violations
    assert (unmet.type, unmet.subject) == ("TLS_VERSION", "connection")
    assert "TLSv1.3" in unmet.description


@pytest.mark.parametrize(
    ("retry_after_s", "delay_ms"),
    [
        (1.5, 1500),
        (0.0101, 11),  # never earlier than was said
        (0, 1),
        (-3, 1),
        (math.nan, 1),
        (math.inf, 3_600_000),
        (1e300, 3_600_000),
    ],
)
def test_a_refusal_says_when_to_come_back_to_programs_and_to_grpc_libraries(
    retry_after_s: float, delay_ms: int
) -> None:
    for error in (Overloaded(retry_after_s), RateLimited("1 call a day", retry_after_s)):
        assert details_of(error)["RetryInfo"].retry_delay.ToMilliseconds() == delay_ms
        assert pushback_of(error) == str(delay_ms)


def test_what_was_begun_is_not_sent_again_by_a_library() -> None:
    assert details_of(StorageUnavailable())["RetryInfo"].retry_delay.ToMilliseconds() == 1000
    for error, *_ in ERRORS:
        assert (pushback_of(error) is not None) == isinstance(error, Refused)


@pytest.mark.parametrize(("languages", "locale"), [("", "en"), ("zh-TW, en;q=0.5", "zh-CN")])
def test_people_are_told_in_their_language(languages: str, locale: str) -> None:
    *_, localized = details_in(told(Overloaded(1), languages=languages))
    assert localized.locale == locale


@pytest.mark.parametrize("letter", ["x", "é", "鮑", "🦑"])
def test_violations_are_cut_to_the_room_that_the_other_details_leave(letter: str) -> None:
    violations = [FieldViolation(f"f{n}" + letter * 500, letter * 500) for n in range(1000)]
    status = told(InvalidArgument(*violations), "r" * 128, "zh")
    assert MAX_DETAILS_BYTES * 3 // 4 < status.ByteSize() <= MAX_DETAILS_BYTES
    info, request, bad_request, localized = details_in(status)
    assert info.reason == Reason.INVALID_FIELD
    assert request.request_id == "r" * 128
    assert bad_request.field_violations
    assert all(v.field.startswith(f"f{n}") for n, v in enumerate(bad_request.field_violations))
    assert localized.locale == "zh-CN"


def test_where_there_is_no_room_the_last_details_are_dropped_one_by_one() -> None:
    error = RateLimited("5 calls a second", 1)
    kinds = []
    for request_id_bytes in range(0, MAX_DETAILS_BYTES, 16):
        status = told(error, "r" * request_id_bytes)
        assert status.ByteSize() <= MAX_DETAILS_BYTES
        found = [type(detail).__name__ for detail in details_in(status)]
        if found not in kinds:
            kinds.append(found)
    order = ["ErrorInfo", "RequestInfo", "RetryInfo", "QuotaFailure", "LocalizedMessage"]
    assert kinds == [order, order[:4], order[:3], order[:2], order[:1]]


def test_a_long_text_is_cut_between_characters() -> None:
    status = told(NotFound(ResourceType.DOCUMENT, "鮑" * 5000))
    assert MAX_MESSAGE_BYTES - 3 < len(status.message.encode()) <= MAX_MESSAGE_BYTES
    assert status.message.endswith("鮑…")


def percent_encoded_bytes(message: str) -> int:
    """The length of `grpc-message` ("Responses" in gRPC's PROTOCOL-HTTP2)."""
    return sum(1 if 0x20 <= b <= 0x7E and b != 0x25 else 3 for b in message.encode())


def bytes_of_trailers(status: status_pb2.Status, error: Exception, request_id: str) -> int:
    """Count as a peer does (RFC 9113, section 10.5.1), at the most that an encoding needs."""
    fields: dict[str, int] = {
        ":status": 3,
        "content-type": len("application/grpc"),
        "grpc-accept-encoding": len("identity, deflate, gzip"),
        "grpc-status": 2,
        "grpc-message": percent_encoded_bytes(status.message),
    }
    for key, value in trailers_of(status, error, request_id):
        binary = isinstance(value, bytes)
        fields[key] = math.ceil(len(value) / 3) * 4 if binary else len(value)
    return sum(len(key) + length + 32 for key, length in fields.items())


@settings(deadline=None)
@given(error=PROBLEMS, request_id=REQUEST_IDS, languages=TEXTS)
def test_whatever_an_error_says_its_trailers_stay_below_the_limit_of_core(
    error: AgentError, request_id: str, languages: str
) -> None:
    status = told(error, request_id, languages)
    assert status.ByteSize() <= MAX_DETAILS_BYTES
    assert status_pb2.Status.FromString(status.SerializeToString()) == status
    kinds = [type(detail).__name__ for detail in details_in(status)]
    assert kinds[:2] == ["ErrorInfo", "RequestInfo"]
    assert kinds[-1] == "LocalizedMessage"
    assert bytes_of_trailers(status, error, request_id) < 8192


def test_the_largest_trailers_stay_below_the_limit_of_core() -> None:
    error = RateLimited("\x01" * 5000, math.inf)  # each byte is three in grpc-message
    status = told(error)
    room_bytes = MAX_DETAILS_BYTES - status.ByteSize() - 4
    status.details.add(value=b"x" * room_bytes)
    assert status.ByteSize() > MAX_DETAILS_BYTES - 4
    assert 7000 < bytes_of_trailers(status, error, "r" * 128) < 8192


class Undocumented(Refused):
    """An error that nobody gave a reason."""


@settings(deadline=None)
@given(
    secret=st.text(min_size=8).map(lambda text: f"secret-{text}"),
    make=st.sampled_from(
        [
            ValueError,
            KeyError,
            AgentError,
            lambda secret: OSError(2, secret, secret),
            lambda secret: ExceptionGroup(secret, [ValueError(secret)]),
            lambda secret: Undocumented(secret, 1.0),
            lambda secret: AlreadyExists(ResourceType.COLLECTION, secret),  # has no reason
        ]
    ),
)
def test_a_fault_has_no_words_of_its_own(secret: str, make: Any) -> None:
    error = make(secret)
    status = told(error)
    assert (status.code, status.message) == (13, "internal error")
    kinds = [type(detail).__name__ for detail in details_in(status)]
    assert kinds == ["ErrorInfo", "RequestInfo", "LocalizedMessage"]
    assert b"secret" not in repr(trailers_of(status, error, "r-1")).encode()
    assert b"secret" not in status.SerializeToString()
