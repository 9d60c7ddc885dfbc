"""Where servers are: the names that a client is given, checked and put in one form."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kotaemon_grpc.client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

_LISTS = ("ipv4:", "ipv6:")
_LOCAL = ("unix:", "unix-abstract:")
_NAMED = "dns:"
_MAX_PORT = 65_535


def targets_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Check targets, and give each address of a list as a target of its own.

    Each is then checked by its own name under TLS: core checks a whole list as one.

    Args:
        given: one or several of `host:port`, `dns:///host:port`, `ipv4:` and `ipv6:`
            with one or several addresses, `unix:` with a path.

    Returns:
        Them in their order, each once.

    Raises:
        ConfigurationError: there are none, or one cannot work.
    """
    try:
        asked = (given,) if isinstance(given, str) else tuple(given)
    except TypeError:
        raise ConfigurationError("the target must be text, or several of it") from None
    targets = dict.fromkeys(target for each in asked for target in _split(each))
    if not targets:
        raise ConfigurationError("there must be at least one target")
    for target in targets:
        _check(target)
    return tuple(targets)


def is_local(target: str) -> bool:
    """Tell whether what is sent to a target stays on this machine."""
    if target.startswith(_LOCAL):
        return True
    host = host_of(target)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(target: str) -> str:
    """Return the host of a target that has one, without brackets."""
    return _host_and_port(target)[0]


def _split(target: str) -> list[str]:
    if not isinstance(target, str):
        raise ConfigurationError(f"a target must be text, not {target!r}")
    for scheme in _LISTS:
        if target.startswith(scheme):
            return [scheme + each for each in target.removeprefix(scheme).split(",")]
    return [target]


def _check(target: str) -> None:
    if not target:
        raise ConfigurationError("the target must not be empty")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ConfigurationError(f"{target!r} is no target; name a host and its port")
    if target.startswith(_LOCAL):
        if not target.partition(":")[2].strip("/"):
            raise ConfigurationError(f'"{target}" names no socket')
        return
    host, port = _host_and_port(target)
    if not host or "," in host or "/" in host:
        raise ConfigurationError(f'"{target}" names no host; write it as host:port')
    if port is None or not (port.isdecimal() and 1 <= int(port) <= _MAX_PORT):
        raise ConfigurationError(f'"{target}" has no port from 1 to {_MAX_PORT}')
    if target.startswith(_LISTS) or "[" in target:
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise ConfigurationError(f'"{target}" is not an address and its port') from error


def _host_and_port(target: str) -> tuple[str, str | None]:
    for scheme in (*_LISTS, _NAMED):
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            if target.startswith("//"):
                # An authority may stand before the path: the server of names to ask.
                target = target.removeprefix("//").partition("/")[2]
            break
    if target.startswith("["):
        host, _, port = target.removeprefix("[").partition("]")
        return host, port.removeprefix(":") if port else None
    if target.count(":") > 1:
        return target, None
    host, colon, port = target.partition(":")
    return host, port if colon else None
