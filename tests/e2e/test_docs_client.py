"""The examples of `docs/client.md`, run from top to bottom against a real server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


async def test_the_examples_run(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "dev").symlink_to(server.certs)
    (tmp_path / "handbook.md").write_text("# The handbook\n\nPort 9464 serves the metrics.\n")
    for secret in ("token", "key", "secret"):
        (tmp_path / secret).write_text("s3cret\n")
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    port = server.address.rpartition(":")[2]
    assert len(EXAMPLES) > 10
    for example in EXAMPLES:
        code = compile(
            example.replace(":50051", f":{port}"),
            str(PAGE),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, known)  # noqa: S307 - of our own page
        elif "asyncio.run(" in example or "SyncAgentClient" in example:
            await asyncio.to_thread(exec, code, known)  # it brings a loop of its own
        else:
            exec(code, known)  # noqa: S102 - of our own page
    assert known["imported"].outcome in {"created", "unchanged"}
    await known["client"].delete_document(known["imported"].document.name)
    await known["client"].close()
