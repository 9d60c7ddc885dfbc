"""From the settings to a client, and from what it raises to one line."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, TypeVar

from kotaemon_grpc.client import (
    AgentClient,
    ApiKeyFile,
    CallError,
    ClientError,
    TlsFiles,
    TokenFile,
    UnavailableError,
)
from kotaemon_grpc.client.errors import LOST_REASON
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kotaemon_grpc.client import Credentials
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
        if "refused" not in error.message.lower():
            _refuse_expired(config)
        raise OperatorError(f"{explain(error)}; {_advice(error, config)}") from error
    except CallError as error:
        raise OperatorError(explain(error)) from error
    except ClientError as error:
        raise OperatorError(str(error)) from error
    except UnicodeEncodeError as error:
        raise OperatorError("what was given is not text in UTF-8; convert it first") from error


def explain(error: CallError) -> str:
    """Say in one line what failed, when to try again, and what to name to the operator."""
    line = " ".join(f"{error.code.name.lower().replace('_', ' ')}: {error.message}".split())
    if error.retry_after_s:
        line = f"{line}; try again in {math.ceil(error.retry_after_s)} s"
    return f"{line} (request {error.request_id})" if error.request_id else line


def _advice(error: CallError, config: Config) -> str:
    """Say what to do about a server that could not be reached, as far as gRPC tells why."""
    message = error.message.lower()
    if "certificate_verify_failed" in message:
        return (
            "the server's certificate is of another CA: give that CA with --certs or --ca, "
            "and restart the server if its certificates were made anew"
        )
    if "wrong_version_number" in message:
        return "the server does not use TLS: start it with TLS, or call it with --insecure"
    if error.message == LOST_REASON:
        return "try again; the server's log says whether it refused the call"
    if "refused" in message:
        return (
            f'no server listens at {config.client.target}: start one with "kotaemon-grpc serve", '
            "or name another with --target"
        )
    if "closed" in message or "reset" in message:
        return (
            "the server hung up: it is stopping, or does not accept this client's certificate, "
            "or one side uses TLS and the other does not"
        )
    return f"check --target, which is {config.client.target}"


def _client(config: Config) -> AgentClient:
    settings = config.client
    tls = _tls(config)
    if tls is not None:
        _refuse_missing(config, tls)
    return AgentClient(
        settings.target,
        tls=tls,
        credentials=_credentials(config),
        timeout_s=settings.timeout_s,
    )


def _credentials(config: Config) -> Credentials | None:
    settings = config.client
    if settings.token_file and settings.api_key_file:
        raise OperatorError(
            "there is a token and an API key; give one of --token-file and --api-key-file"
        )
    if settings.token_file:
        return TokenFile(settings.token_file)
    return ApiKeyFile(settings.api_key_file) if settings.api_key_file else None


def _tls(config: Config) -> TlsFiles | None:
    settings = config.client
    if settings.insecure:
        return None
    defaults = TlsFiles.in_directory(config.tls.dir)
    files = TlsFiles(
        ca=settings.ca or defaults.ca,
        certificate=settings.certificate or defaults.certificate,
        key=settings.key or defaults.key,
    )
    # Who shows a token or an API key may well have no certificate.
    shows_secret = settings.token_file or settings.api_key_file
    is_named = settings.certificate or settings.key
    if shows_secret and not is_named and files.certificate and _is_missing(files.certificate):
        return TlsFiles(ca=files.ca)
    return files


def _refuse_missing(config: Config, tls: TlsFiles) -> None:
    """Tell how to get the development certificates, of which the client knows nothing.

    Raises:
        OperatorError: one of their files is not there.
    """
    for path in (tls.ca, tls.certificate, tls.key):
        if path is not None and path.parent == config.tls.dir and _is_missing(path):
            raise OperatorError(
                f"there is no {path}; make development certificates with "
                '"kotaemon-grpc certs init" or name your own'
            )


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it may be there: the client tells what is wrong with it
    return False


def _refuse_expired(config: Config) -> None:
    """Look for the reason that a server does not give: it hangs up on an expired certificate.

    Raises:
        OperatorError: the client's certificate or a CA of its bundle has expired.
    """
    # Here, because it takes a tenth of a second, and only a failed call has to.
    from kotaemon_grpc.transport import certificate  # noqa: PLC0415 - see above

    tls = _tls(config)
    # Of a chain every certificate has to be valid, of a bundle of CAs any may be the one.
    for path, which in ((tls.certificate, min), (tls.ca, max)) if tls else ():
        if path is None:
            continue
        expires = which(each.not_valid_after_utc for each in certificate.load_all(path))
        if expires <= certificate.utc_now():
            is_development = path.parent == config.tls.dir
            advice = 'run "kotaemon-grpc certs init" or ' if is_development else ""
            raise OperatorError(
                f"certificate {path} expired on {expires.date()}; {advice}install a new one"
            )
