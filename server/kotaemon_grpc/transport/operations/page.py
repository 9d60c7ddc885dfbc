"""The page of the operations port for people: plain values in, HTML that needs nothing else out."""

from __future__ import annotations

import base64
import enum
import hashlib
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "text/html; charset=utf-8"
_PAGES = {"/metrics": "Metrics", "/readyz": "Readiness", "/healthz": "Liveness"}
_STATE = "State"
_UNITS_S = {"d": 86400, "h": 3600, "min": 60, "s": 1}


class State(enum.Enum):
    """How well a row is; its value is the word that the page shows."""

    OK = "ok"
    WARN = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a section.

    Args:
        cells: one text a column; the first names the row.
        state: None where a row is neither good nor bad.
    """

    cells: tuple[str, ...]
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the page.

    Args:
        title: its caption.
        columns: their headers.
        rows: none are shown as the word `none`.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page shows, beside whether the server is ready. No user data, no secrets.

    Args:
        name: of the server.
        version: of the server.
        uptime_s: seconds since it was started.
        sections: in the order in which they are shown.
    """

    name: str
    version: str
    uptime_s: float
    sections: tuple[Section, ...]


def render(facts: Facts, reasons: Mapping[str, str]) -> bytes:
    """Make the page.

    Args:
        facts: what it shows.
        reasons: for each check of readiness why it fails, or an empty string.
    """
    unready = {name: reason for name, reason in reasons.items() if reason}
    state = "Not ready" if unready else "Ready"
    why = "".join(f"<li>{escape(name)}: {escape(unready[name])}</li>" for name in unready)
    links = "".join(f'<li><a href="{path}">{what}</a></li>' for path, what in _PAGES.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{state}: {escape(facts.name)}</title><style>{_STYLE}</style></head>\n<body>"
        f"<header><h1>{escape(facts.name)}</h1>"
        f"<p>Version {escape(facts.version)}, up for {duration(facts.uptime_s)}</p>"
        f'<nav aria-label="Other pages"><ul>{links}</ul></nav></header>\n'
        f'<main><div class="state {"bad" if unready else "ok"}"><p>{state}</p>'
        f"{why and f'<ul>{why}</ul>'}</div>\n"
        f"{''.join(map(_table, facts.sections))}</main></body></html>\n"
    ).encode(errors="replace")  # a path may hold bytes that are no text


def duration(seconds: float) -> str:
    """Say how long something took in its two largest units: `3 d 4 h`, `25 min`, `0 s`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length_s in _UNITS_S.items():
        count, left = divmod(left, length_s)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def _table(section: Section) -> str:
    # On a phone the style shows rows as blocks; without roles they would be no table any more.
    stated = any(row.state for row in section.rows)
    columns = (*section.columns, _STATE) if stated else section.columns
    header = "".join(
        f'<th scope="col" role="columnheader">{escape(column)}</th>' for column in columns
    )
    if not section.rows:
        body = f'<tr role="row"><td role="cell" colspan="{len(columns)}">none</td></tr>'
    else:
        body = "".join(_row(row, section.columns, stated=stated) for row in section.rows)
    return (
        f'<table role="table"><caption><h2>{escape(section.title)}</h2></caption>'
        f'<thead role="rowgroup"><tr role="row">{header}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>\n'
    )


def _row(row: Row, columns: tuple[str, ...], *, stated: bool) -> str:
    first, *others = row.cells
    name = f'<th scope="row" role="rowheader">{_text(first)}</th>'
    cells = "".join(
        f'<td role="cell" data-column="{escape(column)}">{_text(cell)}</td>'
        for column, cell in zip(columns[1:], others, strict=True)
    )
    if stated:
        cells += f'<td role="cell" data-column="{_STATE}">{_badge(row.state)}</td>'
    return f'<tr role="row">{name}{cells}</tr>'


def _text(cell: str) -> str:
    return escape(cell).replace("/", "/<wbr>")  # paths break there first


def _badge(state: State | None) -> str:
    if state is None:
        return ""
    return f'<span class="badge {state.name.lower()}">{state.value}</span>'


_STYLE = """
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--text:#1c2128;--dim:#57606a;
--line:#d8dee4;--link:#0757b8;--ok:#12682f;--ok-back:#dcf5e3;--warn:#7a4d00;--warn-back:#fff0c7;
--bad:#a11120;--bad-back:#ffe3e4}
@media(prefers-color-scheme:dark){:root{--back:#0f1318;--card:#181d24;--text:#e3e8ee;--dim:#9aa5b1;
--line:#2d343d;--link:#79b8ff;--ok:#7ee2a0;--ok-back:#12331f;--warn:#f5c869;--warn-back:#3b2c0a;
--bad:#ff9ba1;--bad-back:#451a1e}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1.5rem 1rem 3rem;background:var(--back);
color:var(--text);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1,h2,p,ul{margin:0}
h1{font-size:1.6rem;line-height:1.25}
h2{font-size:1.05rem}
header p{color:var(--dim)}
a{color:var(--link)}
.state{margin:1rem 0 1.5rem;padding:.7rem 1rem;border-left:.35rem solid;border-radius:.4rem}
.state p{font-size:1.15rem;font-weight:600}
.state ul{padding-left:1.2rem}
.ok{color:var(--ok);background:var(--ok-back)}
.warn{color:var(--warn);background:var(--warn-back)}
.bad{color:var(--bad);background:var(--bad-back)}
table{width:100%;margin:0 0 1.5rem;border-collapse:separate;border-spacing:0;
background:var(--card);border:1px solid var(--line);border-radius:.5rem;
font-variant-numeric:tabular-nums}
caption{padding:0 0 .4rem;text-align:left}
th,td{padding:.45rem .9rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--dim);font-size:.85rem;font-weight:600;
white-space:nowrap}
tbody th{font-weight:600}
.badge{padding:.1rem .5rem;border-radius:1rem;font-size:.85rem;font-weight:600;white-space:nowrap}
nav ul{display:flex;gap:1.25rem;padding:.4rem 0 0;list-style:none}
@media(max-width:40rem){
table,caption,tbody,tr,th,td{display:block}
table{background:none;border:0}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tbody{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
tr{padding:.5rem .9rem}
tr+tr{border-top:1px solid var(--line)}
th,td{padding:.1rem 0;border:0}
td[data-column]{display:grid;grid-template-columns:8rem 1fr;gap:.75rem}
td[data-column]::before{content:attr(data-column);color:var(--dim)}
td:empty,td[data-column="State"]:not(:has(span)){display:none}
td .badge{justify-self:start}
tr:has(td:nth-child(2):last-child){display:grid;grid-template-columns:1fr 1fr;gap:.75rem}
td:nth-child(2):last-child{display:block}
td:nth-child(2):last-child::before{content:none}
}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
