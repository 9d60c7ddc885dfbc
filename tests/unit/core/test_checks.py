from __future__ import annotations

import unicodedata

import pytest

from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.errors import InvalidArgument


def fields_of(checks: Checks) -> list[str]:
    try:
        checks.done()
    except InvalidArgument as error:
        return [violation.field for violation in error.violations]
    return []


def test_checks_without_a_violation_are_done() -> None:
    checks = Checks()
    assert checks.question("q", " why? ") == " why? "
    assert checks.collection("c", "") == "default"
    assert checks.collection("c", "collections/x") == "x"
    assert checks.optional_id("i", "") == ""
    assert checks.name("n", "collections/a/documents/b.c", "collections", "documents") == (
        "a",
        "b.c",
    )
    assert checks.context("m", {"k": "v"}) == {"k": "v"}
    assert fields_of(checks) == []


def test_violations_are_gathered_in_order() -> None:
    checks = Checks()
    checks.question("q", "")
    checks.required_id("i", "")
    checks.context("m", {"": "", "k": "x" * 4097})
    assert fields_of(checks) == ["q", "i", "m", 'm["k"]']


def test_a_name_that_is_no_name_has_as_many_ids() -> None:
    checks = Checks()
    assert checks.name("n", "x", "collections", "documents") == ("", "")
    assert fields_of(checks) == ["n"]


@pytest.mark.parametrize(
    ("given", "size"), [(0, 50), (1, 1), (999, 999), (1000, 1000), (1001, 1000)]
)
def test_a_page_has_a_default_size_and_a_most(given: int, size: int) -> None:
    assert Checks().page_size("s", given) == size


@pytest.mark.parametrize(("given", "size"), [(0, 3), (1, 1), (7, 7), (8, 7)])
def test_a_list_may_have_a_default_and_a_most_of_its_own(given: int, size: int) -> None:
    assert Checks().page_size("s", given, most=7, default=3) == size


def test_a_line_of_text_has_no_control_characters() -> None:
    checks = Checks()
    for number in range(0x110000):
        checks.text(f"{number:x}", chr(number), 1)
    cc = [number for number in range(0x110000) if unicodedata.category(chr(number)) == "Cc"]
    assert fields_of(checks) == [f"{number:x}" for number in cc]


@pytest.mark.parametrize("tag", ["", "en", "zh-Hans", "de-CH-1996", "sr-Latn-RS", "x" * 8])
def test_language_tags_are_taken(tag: str) -> None:
    checks = Checks()
    assert checks.language("l", tag) == tag
    assert fields_of(checks) == []


@pytest.mark.parametrize("uri", ["", "file:///a%20b", "urn:x", "https://例え.example/ページ"])
def test_uris_are_taken(uri: str) -> None:
    checks = Checks()
    assert checks.uri("u", uri) == uri
    assert fields_of(checks) == []


def test_a_hash_comes_out_in_lower_case() -> None:
    assert Checks().sha256("h", "AB" * 32) == "ab" * 32


@pytest.mark.parametrize("mime_type", ["", "text/markdown", "text/plain"])
def test_media_types_are_taken(mime_type: str) -> None:
    checks = Checks()
    assert checks.mime_type("t", mime_type) == mime_type
    assert fields_of(checks) == []


@pytest.mark.parametrize("given", ["", "r", '~!"', "x" * 128])
def test_ids_of_requests_are_taken(given: str) -> None:
    checks = Checks()
    assert checks.request_id("r", given) == given
    assert fields_of(checks) == []


@pytest.mark.parametrize("given", [" ", "a b", "a\n", "\x7f", "ä", "\0", "x" * 129])
def test_what_is_no_id_of_a_request_is_refused(given: str) -> None:
    checks = Checks()
    checks.request_id("r", given)
    assert fields_of(checks) == ["r"]
