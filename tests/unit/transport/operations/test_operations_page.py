from __future__ import annotations

import base64
import hashlib
import os
import re
from html.parser import HTMLParser

import pytest

from kotaemon_grpc.transport.operations.page import (
    SECURITY_POLICY,
    Facts,
    Row,
    Section,
    State,
    duration,
    render,
)

EVIL = "<script>alert('x')</script>\"&"


class Reading(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(*sections: Section, reasons: dict[str, str] | None = None) -> bytes:
    return render(Facts("agent", "1.2.3", 90061.0, sections), reasons or {"serving": ""})


def test_whatever_is_shown_is_text() -> None:
    section = Section(EVIL, (EVIL, EVIL), (Row((EVIL, EVIL), State.OK),))
    shown = Reading(render(Facts(EVIL, EVIL, 0.0, (section,)), {EVIL: EVIL}))
    assert "script" not in shown.tags
    text = "".join(shown.texts)
    assert text.count(EVIL) == 10  # title, name, version, check and reason, caption, headers, cells
    assert ("data-column", EVIL) in shown.attributes


def test_a_page_refers_to_nothing_else_and_runs_nothing() -> None:
    shown = Reading(page(Section("Limits", ("Limit", "Value"), (Row(("streams", "100")),))))
    assert not {"script", "link", "img", "iframe", "form", "base"}.intersection(shown.tags)
    targets = {value for name, value in shown.attributes if name in {"href", "src", "action"}}
    assert targets == {"/metrics", "/readyz", "/healthz"}
    assert not any(name.startswith("on") or name == "style" for name, _ in shown.attributes)


def test_the_policy_allows_the_one_style_of_the_page() -> None:
    style = re.search(r"<style>(.*?)</style>", page().decode(), re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in SECURITY_POLICY
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_state_of_a_row_is_told_in_a_word() -> None:
    rows = (
        Row(("a", "1"), State.OK),
        Row(("b", "2"), State.WARN),
        Row(("c", "3"), State.BAD),
        Row(("d", "4")),
    )
    texts = Reading(page(Section("Engines", ("Engine", "Places"), rows))).texts
    table = texts[texts.index("Engines") :]
    expected = ["Engine", "Places", "State", "a", "1", "ok", "b", "2", "warning", "c", "3", "bad"]
    assert [text for text in table[1:] if text.strip()] == [*expected, "d", "4"]


def test_rows_without_state_make_no_column_of_it() -> None:
    assert "State" not in Reading(page(Section("Limits", ("Limit",), (Row(("x",)),)))).texts


def test_tables_are_tables_for_a_screen_reader() -> None:
    shown = Reading(page(Section("Limits", ("Limit", "Value"), (Row(("streams", "100")),))))
    assert shown.tags.count("caption") == 1
    scopes = [value for name, value in shown.attributes if name == "scope"]
    assert scopes == ["col", "col", "row"]
    assert ("lang", "en") in shown.attributes


def test_a_section_without_rows_says_so() -> None:
    assert "none" in Reading(page(Section("Plugins", ("Plugin", "Address"), ()))).texts


def test_a_path_that_is_no_text_does_not_fail_the_page() -> None:
    row = Row((os.fsdecode(b"/etc/\xff.pem"),))
    assert b"?.pem" in page(Section("Certificates", ("File",), (row,)))


def test_a_server_that_is_not_ready_says_why() -> None:
    texts = Reading(page(reasons={"serving": "draining", "store": ""})).texts
    assert "Not ready" in texts
    assert "serving: draining" in texts
    assert not any(text.startswith("store") for text in texts)
    assert "Ready: agent" in Reading(page()).texts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (86400 + 59, "1 d"),
        (90061, "1 d 1 h"),
        (-1, "0 s"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
