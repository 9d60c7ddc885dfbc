"""From the settings to a client, and from what it raises to one line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kotaemon_grpc.client import AgentClient, CallError, ClientError, TlsFiles, UnavailableError
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kotaemon_grpc.config import Config

NOTHING_FOUND = 3
"""The exit status when the documents do not have what was asked for."""

R = TypeVar("R")


def call(config: Config, use: Callable[[AgentClient], Awaitable[R]]) -> R:
    """Open a client, use it, and close it.

    Raises:
        OperatorError: the client cannot work, or a call failed.
    """

    async def run() -> R:
        async with _client(config) as client:
            return await use(client)

    try:
        return asyncio.run(run())
    except UnavailableError as error:
        if error.reason:
            raise OperatorError(explain(error)) from error
        raise OperatorError(
            f"{explain(error)}; is a server running at {config.client.target}, and do both sides "
            'use TLS? start one with "kotaemon-grpc serve", or name another with --target'
        ) from error
    except CallError as error:
        raise OperatorError(explain(error)) from error
    except ClientError as error:
        raise OperatorError(str(error)) from error
    except UnicodeEncodeError as error:
        raise OperatorError("what was given is not text in UTF-8; convert it first") from error


def explain(error: CallError) -> str:
    """Say in one line what failed, with the id to name to the server's operator."""
    line = " ".join(f"{error.code.name.lower().replace('_', ' ')}: {error.message}".split())
    return f"{line} (request {error.request_id})" if error.request_id else line


def _client(config: Config) -> AgentClient:
    settings = config.client
    tls = None
    if not settings.insecure:
        defaults = TlsFiles.in_directory(config.tls.dir)
        tls = TlsFiles(
            ca=Path(settings.ca or defaults.ca),
            certificate=Path(settings.certificate or defaults.certificate),
            key=Path(settings.key or defaults.key),
        )
    return AgentClient(settings.target, tls=tls, timeout_s=settings.timeout_s)
