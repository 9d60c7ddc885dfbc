"""Asks an authorization server for a token, and reads what it says."""

from __future__ import annotations

import base64
import http.client
import json
import math
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import grpc

from kotaemon_grpc.client.credentials import is_showable
from kotaemon_grpc.client.errors import ConfigurationError, CredentialsError, failed

if TYPE_CHECKING:
    from pathlib import Path

    from kotaemon_grpc.client.errors import CallError

_TIMEOUT_S = 10.0  # for each step of the exchange
_MAX_ANSWER_BYTES = 64 * 1024
_DEFAULT_LIFE_S = 300.0  # RFC 6749, section 5.1, only recommends to say it
# RFC 6749, section 5.2. Other words may repeat what was sent, and are not passed on.
_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and for how many seconds from its request it is good."""

    value: str = field(repr=False)
    life_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What is asked for; empty for what the server gives by itself."""

    scope: str
    audience: str


class TokenEndpoint:
    """The token endpoint of an authorization server. Redirects are not followed.

    Args:
        url: https, or http on this machine.
        ca: PEM certificates that sign the server; None for the system's.

    Raises:
        ConfigurationError: the file of the CA cannot be used.
    """

    def __init__(self, url: str, ca: Path | None) -> None:
        self._url = url
        self._ca = ca
        self._open()

    def ask(self, grant: Grant, client_id: str, client_secret: str) -> Token:
        """Ask for a token by the client's own credentials. It blocks.

        Raises:
            CredentialsError: the server refuses, or what it says is no token.
            UnavailableError: it cannot be reached, or cannot answer now.
        """
        request = _request(self._url, grant, client_id, client_secret)
        try:
            with self._open().open(request, timeout=_TIMEOUT_S) as response:
                status: int = response.status
                body: bytes = response.read(_MAX_ANSWER_BYTES + 1)
        except ConfigurationError as error:
            raise _refused(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise _untrusted(reason) from None
            # The texts of these may repeat what was sent.
            raise unavailable(f"it cannot be reached ({type(reason).__name__})") from None
        if status >= _SERVER_ERRORS or status == _TOO_MANY_REQUESTS:
            raise unavailable(f"it answers with the status {status}")
        if len(body) > _MAX_ANSWER_BYTES:
            raise _refused(f"its answer has more than {_MAX_ANSWER_BYTES} bytes")
        answer = _object(body)
        if status != http.client.OK:
            raise _refused(f"it answers with the status {status}{_error_of(answer)}")
        return _token(answer)

    def _open(self) -> urllib.request.OpenerDirector:
        """Read the certificates, as they may have been replaced."""
        try:
            context = ssl.create_default_context(cafile=self._ca)
        except OSError as error:
            raise ConfigurationError(f"{self._ca} has no certificate that can be used") from error
        opener = urllib.request.OpenerDirector()
        # None that follows redirects, asks proxies or takes other schemes.
        opener.add_handler(urllib.request.HTTPHandler())
        opener.add_handler(urllib.request.HTTPSHandler(context=context))
        return opener


def _request(url: str, grant: Grant, client_id: str, client_secret: str) -> urllib.request.Request:
    wanted = {"grant_type": "client_credentials", "scope": grant.scope, "audience": grant.audience}
    # RFC 6749, section 2.3.1: both are encoded as forms are, and then as RFC 7617 wants.
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return urllib.request.Request(  # noqa: S310 - the scheme was checked
        url,
        data=urlencode({key: value for key, value in wanted.items() if value}).encode(),
        headers={
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
        },
        method="POST",
    )


def _token(answer: dict[str, Any]) -> Token:
    value = answer.get("access_token")
    if not is_showable(value):
        raise _refused("its answer has no access_token that can be sent")
    if str(answer.get("token_type", "")).lower() != "bearer":
        raise _refused('its token_type is not "Bearer"')
    try:
        life_s = float(answer.get("expires_in", _DEFAULT_LIFE_S))
    except (TypeError, ValueError):
        life_s = math.nan
    if not 0 < life_s < math.inf:
        raise _refused("its expires_in is not a number of seconds above 0")
    return Token(str(value), life_s)


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _error_of(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    return f": {error}" if isinstance(error, str) and error in _ERRORS else ""


def _refused(why: str) -> CredentialsError:
    return CredentialsError(f"the authorization server gives no token: {why}")


def _untrusted(error: ssl.SSLCertVerificationError) -> CredentialsError:
    return _refused(f"its certificate is not trusted: {error.verify_message.rstrip('.')}")


def unavailable(why: str) -> CallError:
    """Make the error of an authorization server that may answer later."""
    return failed(grpc.StatusCode.UNAVAILABLE, f"the authorization server gives no token: {why}")
