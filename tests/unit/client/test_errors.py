from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from kotaemon_grpc.client.errors import (
    AlreadyExistsError,
    AuthenticationError,
    CallError,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnavailableError,
    error_from_rpc,
    error_from_status,
)

CLASSES = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "UNAUTHENTICATED": AuthenticationError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "FAILED_PRECONDITION": PreconditionError,
    "RESOURCE_EXHAUSTED": ExhaustedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
}


def status(code: grpc.StatusCode) -> status_pb2.Status:
    made = status_pb2.Status(code=code.value[0], message="why")
    for detail in (
        error_details_pb2.ErrorInfo(reason="SOME_REASON", domain="kotaemon-grpc"),
        error_details_pb2.RequestInfo(request_id="r-1"),
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="f", description="is bad")
            ]
        ),
        error_details_pb2.RetryInfo(retry_delay={"seconds": 2, "nanos": 500_000_000}),
        error_details_pb2.Help(),
    ):
        made.details.add().Pack(detail)
    return made


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_each_code_has_its_class(code: grpc.StatusCode) -> None:
    error = error_from_status(status(code))
    assert type(error) is CLASSES.get(code.name, CallError)
    assert (error.code, error.message) == (code, "why")
    assert str(error) == f"{code.name}: why"
    assert (error.reason, error.request_id) == ("SOME_REASON", "r-1")
    assert error.field_violations == (FieldViolation("f", "is bad"),)
    assert error.retry_after_s == 2.5


def rpc_error(*trailers: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*trailers),
        details="what the transport says",
    )


def test_the_details_of_the_trailers_are_read() -> None:
    packed = status(grpc.StatusCode.NOT_FOUND).SerializeToString()
    error = error_from_rpc(rpc_error(("other", "x"), ("grpc-status-details-bin", packed)))
    assert (error.reason, error.message) == ("SOME_REASON", "why")


def test_an_error_without_details_says_what_the_transport_says() -> None:
    error = error_from_rpc(rpc_error())
    assert type(error) is NotFoundError
    assert (error.message, error.reason, error.request_id) == ("what the transport says", "", "")
    assert error.field_violations == ()
    assert error.retry_after_s is None
    assert (error.retry_pushback_ms, error.sequence_number) == (None, 0)


@pytest.mark.parametrize(
    ("sent", "milliseconds"),
    [
        ("250", 250),
        ("0", 0),
        ("-1", -1),
        ("soon", -1),
        ("", -1),
        ("2147483647", 2147483647),
        ("2147483648", -1),
        ("-2147483649", -1),
    ],
)
def test_a_pushback_is_read_and_forbids_when_it_is_no_number(sent: str, milliseconds: int) -> None:
    error = error_from_rpc(rpc_error(("grpc-retry-pushback-ms", sent)))
    assert error.retry_pushback_ms == milliseconds


def test_what_core_says_of_a_lost_status_means_that_the_server_is_unavailable() -> None:
    error = error_from_rpc(
        grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(),
            details="Internal error from Core",
        )
    )
    assert type(error) is UnavailableError
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    assert "what the server said of it was lost" in error.message


def test_an_internal_error_of_a_server_stays_one() -> None:
    packed = status(grpc.StatusCode.INTERNAL).SerializeToString()
    error = error_from_rpc(
        grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(("grpc-status-details-bin", packed)),
            details="Internal error from Core",
        )
    )
    assert type(error) is CallError
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "SOME_REASON")


def test_a_code_that_is_none_is_unknown() -> None:
    error = error_from_status(status_pb2.Status(code=99, message="why"))
    assert type(error) is CallError
    assert (error.code, str(error)) == (grpc.StatusCode.UNKNOWN, "UNKNOWN: why")


def test_trailers_that_are_no_status_leave_the_code_and_the_message() -> None:
    error = error_from_rpc(rpc_error(("grpc-status-details-bin", b"\xff\xff")))
    assert type(error) is NotFoundError
    assert (error.message, error.reason) == ("what the transport says", "")


def test_a_detail_that_cannot_be_read_leaves_the_others() -> None:
    made = status(grpc.StatusCode.NOT_FOUND)
    made.details[0].value = b"\xff\xff"
    error = error_from_status(made)
    assert type(error) is NotFoundError
    assert (error.reason, error.request_id) == ("", "r-1")
