"""Whatever bytes come as a message, of every method: the answer is a documented one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from kotaemon_grpc.app.catalog import DESCRIPTORS, methods

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

OURS = {
    f"{service}/{method.name}": method
    for service, descriptor in DESCRIPTORS.items()
    for method in descriptor.methods
}
NATIVE = (*sorted(methods() - OURS.keys()), "grpc.health.v1.Health/Check")
FUZZ = settings(settings.get_profile("fuzz"), max_examples=20)
MANY = settings(settings.get_profile("fuzz"), max_examples=40)

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    st.sampled_from(
        [
            "user",
            "en",
            "when does the ferry leave?",
            "collections/default",
            "collections/x",
            "collections/default/documents/x",
            "conversations/-",
            "conversations/x",
            "text/plain",
            "file:///x",
            "http://[",
            "\0",
            "\x1b[31m\r\n",
            "\u202e\ufeff\U0010ffff",
            " ",
            "x" * 20_000,
            "鮑" * 9_000,
        ]
    ),
)
INT32 = st.one_of(
    st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1)
)
INT64 = st.one_of(st.sampled_from([2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
VALUES = {
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.one_of(
        st.binary(max_size=100), st.sampled_from([b"# Title\n\ntext\n", b"\xff\xfe", b"x" * 20_000])
    ),
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_ENUM: INT32,
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
}


def messages(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Make messages of a type, with any fields of any values; of a `oneof` the last one stays."""
    fields = {field.name: values(field) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda chosen: GetMessageClass(descriptor)(**chosen)
    )


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        parts = (values(kind.fields_by_name[name]) for name in ("key", "value"))
        return st.dictionaries(*parts, max_size=3)
    value = messages(kind) if kind is not None else VALUES[field.type]
    return st.lists(value, max_size=3) if field.is_repeated else value


def is_ours(answer: Any) -> bool:
    """Tell whether an answer is OK, or a failure that the caller has made and can mend."""
    return answer.code == "OK" or (bool(answer.reason) and answer.reason != "INTERNAL")


@pytest.mark.parametrize("method", OURS)
def test_bytes_that_are_no_message_have_an_answer(
    method: str, watched: Any, documented: Any
) -> None:
    # A call that has to have a message waits for one without an end; see the test below.
    least = 0 if OURS[method].client_streaming else 1

    @FUZZ
    @given(st.lists(st.binary(max_size=300), min_size=least, max_size=3))
    def check(requests: list[bytes]) -> None:
        answer = watched.call(f"/{method}", *requests)
        documented(answer)
        assert is_ours(answer), answer

    check()


@pytest.mark.parametrize("method", NATIVE)
def test_bytes_that_are_no_message_harm_no_service_of_grpc_itself(
    method: str, watched: Any
) -> None:
    @FUZZ
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
    def check(requests: list[bytes]) -> None:
        answer = watched.call(f"/{method}", *requests)
        assert answer.code in {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}, answer

    check()


@pytest.mark.parametrize("method", OURS)
def test_messages_with_any_values_have_an_answer(
    method: str, watched: Any, documented: Any
) -> None:
    one = messages(OURS[method].input_type).map(lambda message: message.SerializeToString())

    @MANY
    @given(st.lists(one, min_size=1, max_size=3))
    def check(requests: list[bytes]) -> None:
        answer = watched.call(f"/{method}", *requests)
        documented(answer)
        assert is_ours(answer), answer

    check()


@pytest.mark.parametrize("method", ["AskQuestion", "StreamAnswer"])
def test_a_call_that_ends_without_its_message_is_refused(
    method: str, watched: Any, ask: Any
) -> None:
    """Core's own handlers of one message would never see it (grpcio 1.85.1)."""
    answer = watched.call(f"/kotaemon.v2.AgentService/{method}")
    assert answer.code == "INVALID_ARGUMENT"
    assert watched.call(*ask).code == "OK"


def test_bytes_that_are_no_message_harm_no_probe(watched: Any) -> None:
    with grpc.insecure_channel(watched.serving.health_address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\xff", timeout=60)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert check(b"", timeout=60)
