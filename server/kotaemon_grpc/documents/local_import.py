"""Import files of the server's own machine, as it starts."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from kotaemon_grpc.core.documents import DocumentHeader
from kotaemon_grpc.core.errors import AgentError
from kotaemon_grpc.documents.walk import FoundFile, find_documents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from kotaemon_grpc.core.documents import Documents
    from kotaemon_grpc.core.model import ImportOutcome, Scope

_CONCURRENT = 16  # the store commits what is waiting together
_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class ImportReport:
    """What came of an import: how many of each outcome, and the paths that failed with why."""

    outcomes: Counter[ImportOutcome] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)


async def import_paths(documents: Documents, scope: Scope, paths: Iterable[Path]) -> ImportReport:
    """Import all documents at and below some paths; one that fails does not stop the rest."""
    report = ImportReport()
    places = asyncio.Semaphore(_CONCURRENT)

    async def take(found: FoundFile) -> None:
        async with places:
            try:
                outcome = await _import_file(documents, scope, found)
            except AgentError as error:
                report.failures.append((str(found.path), str(error)))
            except OSError as error:
                report.failures.append((str(found.path), str(error.strerror).lower()))
            else:
                report.outcomes[outcome] += 1

    async with asyncio.TaskGroup() as tasks:
        for found in await asyncio.to_thread(lambda: list(find_documents(paths))):
            if isinstance(found, FoundFile):
                tasks.create_task(take(found))
            else:
                report.failures.append((str(found.path), found.reason))
    return report


async def _import_file(documents: Documents, scope: Scope, found: FoundFile) -> ImportOutcome:
    file = await asyncio.to_thread(found.path.open, "rb")
    try:
        digest = await asyncio.to_thread(_sha256, file)
        header = DocumentHeader(scope, uri=found.uri, mime_type=found.mime_type, sha256=digest)
        _, outcome = await documents.ingest(header, _chunks(file), replace=True)
    finally:
        await asyncio.to_thread(file.close)
    return outcome


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type] # it wants a raw file
    file.seek(0)
    return digest.hexdigest()


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk
