"""Whatever comes as metadata: the answer is a documented one, and no label gets a new value."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FUZZ = settings(settings.get_profile("fuzz"), max_examples=60)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
CODES = {code.name for code in grpc.StatusCode}

# What HTTP/2 lets a field have (RFC 9113, section 8.2.1), but those of connections.
OURS = st.one_of(
    st.sampled_from(
        [
            b"authorization",
            b"x-api-key",
            b"x-request-id",
            b"traceparent",
            b"tracestate",
            b"accept-language",
            b"user-agent",
            b"cookie",
        ]
    ),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789_.", min_size=1, max_size=40)
    .filter(lambda name: name not in {"connection", "upgrade", "te", "host"})
    .map(str.encode),
)
# Core itself reads these, or takes no such names, and says so; docs/errors.md has it.
OF_CORE = st.sampled_from(
    [
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-accept-encoding",
        b"grpc-status",
        b"grpc-message",
        b"grpc-tags-bin",
        b"grpc-trace-bin",
        b"grpc-status-details-bin",
        b"grpc-retry-pushback-ms",
        b"grpc-previous-rpc-attempts",
        b"x-bin",
        b"content-length",
        b"host",
        b"|~+",  # HTTP/2 allows these characters, core does not
    ]
)
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=100)
    .map(str.strip)
    .map(str.encode),
    st.binary(max_size=60).map(lambda value: value.translate(None, b"\0\r\n").strip()),
    st.text(max_size=40)
    .map(lambda value: re.sub("[\0\r\n]", "", value))
    .map(lambda value: value.encode("utf-8", "replace").strip()),
    st.sampled_from(
        [
            b"",
            b"Bearer",
            b"Bearer a.b.c",
            b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
            b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-ff",
            b"k=v," * 100,
            b"zh-CN;q=0.9,*;q=0",
            b"en;q=" + b"9" * 300,
            b"0n",
            b"99999999H",
            b"-1S",
            b"1S",
            b"gzip",
            b"7",
            b"x" * 7_000,
            b"\xff" * 500,
        ]
    ),
)


def labels_of(server: Any, page: Any) -> set[tuple[str, str]]:
    """Return each label with each of its values."""
    text = page(server.serving, "/metrics")
    return {found for line in text.splitlines() if line[0] != "#" for found in LABEL.findall(line)}


@pytest.mark.parametrize("names", [OURS, OF_CORE], ids=["ours", "of core"])
def test_any_metadata_has_an_answer(
    names: st.SearchStrategy[bytes], watched: Any, documented: Any, page: Any, ask: Any
) -> None:
    path, request = ask
    for address in (watched.serving.address, watched.token_address):
        watched.call(path, request, address=address)  # what this makes is no new value below
    before = labels_of(watched, page)

    @FUZZ
    @given(st.lists(st.tuples(names, VALUES), max_size=6), st.booleans())
    def check(fields: list[tuple[bytes, bytes]], with_certificate: bool) -> None:  # noqa: FBT001 - as drawn
        address = watched.serving.address if with_certificate else watched.token_address
        answer = watched.call(path, request, fields=fields, address=address)
        documented(answer)
        assert answer.code != "UNKNOWN"
        if names is OURS:
            size = sum(len(name) + len(value) + 32 for name, value in fields)  # RFC 9113, 6.5.2
            codes = {"OK"} if with_certificate else {"UNAUTHENTICATED"}
            assert answer.code in (codes | {"RESOURCE_EXHAUSTED"} if size > 15_000 else codes)

    check()
    new = labels_of(watched, page) - before
    assert new <= {("grpc_code", code) for code in CODES}


def test_many_fields_have_an_answer(watched: Any, documented: Any, ask: Any) -> None:
    path, request = ask
    for count in (100, 400, 1_000, 5_000):
        fields = [(f"key-{number}".encode(), b"value") for number in range(count)]
        answer = watched.call(path, request, fields=fields)
        documented(answer)
        assert answer.code == ("OK" if count == 100 else "RESOURCE_EXHAUSTED"), count


def test_any_method_that_is_not_there_is_unimplemented(watched: Any, page: Any, ask: Any) -> None:
    """Paths are ASCII: another kind ends a server of grpc.aio (seen in grpcio 1.85.1)."""
    before = labels_of(watched, page)
    printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)

    @FUZZ
    @given(st.one_of(printable, st.sampled_from([ask[0] + "/", ask[0].lower(), "//", "/ /"])))
    def check(rest: str) -> None:
        answer = watched.call(f"/{rest}", ask[1])
        assert answer.code == "UNIMPLEMENTED", answer

    check()
    assert labels_of(watched, page) <= before | {("grpc_code", "OK")}
