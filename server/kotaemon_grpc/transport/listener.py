"""Binds a gRPC server to an address, so that each way to fail says what to do."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address

if TYPE_CHECKING:
    import grpc

MAX_METADATA_BYTES = 16 * 1024
_HANDSHAKE_TIMEOUT_MS = 10_000
_KEEPALIVE_TIME_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_MIN_PING_INTERVAL_MS = 10_000
_MAX_PING_STRIKES = 2


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one listener takes.

    Args:
        max_message_bytes: the largest message that is received; a larger one ends
            its call with RESOURCE_EXHAUSTED before a handler sees it.
        max_concurrent_streams: the calls that one connection may have open. Without
            it a rapid reset (CVE-2023-44487) reaches the handlers.
        max_connections: the connections that may be open; a further one is closed.
        max_metadata_bytes: the most metadata that a call may bring along.
        max_idle_s: how long a connection may have no call open.
        max_age_s: after what time a connection is asked to go, give or take a tenth (gRFC A9).
        max_age_grace_s: how long its open calls may go on then, whether or not their
            clients take what is sent to them.
    """

    max_message_bytes: int
    max_concurrent_streams: int
    max_connections: int
    max_metadata_bytes: int = MAX_METADATA_BYTES
    max_idle_s: float = 300.0
    max_age_s: float = 3600.0
    max_age_grace_s: float = 3600.0


def server_options(bounds: Bounds) -> list[tuple[str, int]]:
    """Make the channel arguments of a server."""
    return [
        # A second server on the port must fail, not share its connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", bounds.max_message_bytes),
        ("grpc.max_concurrent_streams", bounds.max_concurrent_streams),
        ("grpc.max_allowed_incoming_connections", bounds.max_connections),
        # Between the two limits core drops calls at random: equal ones make it plain.
        ("grpc.max_metadata_size", bounds.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", bounds.max_metadata_bytes),
        # Who connects and then says nothing takes the place of another.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
        ("grpc.max_connection_idle_ms", _ms(bounds.max_idle_s)),
        ("grpc.max_connection_age_ms", _ms(bounds.max_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(bounds.max_age_grace_s)),
        # A peer that vanished is found by our pings (gRFC A8, A9) ...
        ("grpc.keepalive_time_ms", _KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # ... whose own timeout is a separate one, a minute if not set.
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # One that pings more often than this is sent away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", _MAX_PING_STRIKES),
    ]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def bind(
    server: grpc.aio.Server,
    address: Address,
    credentials: grpc.ServerCredentials | None,
    *,
    flag: str = "--listen",
) -> Address:
    """Bind a port that carries user data, before the server is started.

    Args:
        server: made with `server_options`.
        address: port 0 picks a free one.
        credentials: None serves plaintext, which only a loopback address may.
        flag: the setting that an error tells the operator to change.

    Returns:
        The address with the port that it has got.

    Raises:
        OperatorError: the address cannot be had, or it is plaintext for others to reach.
    """
    if credentials is None and not address.is_loopback:
        raise OperatorError(
            f"cannot listen on {address} without TLS: anybody on the network could read along; "
            f"choose a loopback address with {flag}, or leave out --insecure"
        )
    return _bind(server, address, credentials, flag)


def bind_plaintext(
    server: grpc.aio.Server | grpc.Server, address: Address, *, flag: str
) -> Address:
    """Bind a port that carries no user data in plaintext, on any address.

    Raises:
        OperatorError: the address cannot be had.
    """
    return _bind(server, address, None, flag)


def _bind(
    server: grpc.aio.Server | grpc.Server,
    address: Address,
    credentials: grpc.ServerCredentials | None,
    flag: str,
) -> Address:
    _probe(address, flag, loopback_only=credentials is None and address.is_loopback)
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials)
    except RuntimeError:  # core does not say why; the probe has told the usual reasons apart
        raise OperatorError(
            f"cannot listen on {address}; choose another address with {flag}"
        ) from None
    return Address(address.host, port)


def bind_error(address: Address, flag: str, error: OSError) -> OperatorError:
    """Say in one line why an address cannot be had and what to do about it."""
    why, advice = _REASONS.get(error.errno or 0, (os.strerror(error.errno or 0), "choose another"))
    if isinstance(error, socket.gaierror):
        why, advice = "the host name is not known", "choose another"
    return OperatorError(f"cannot listen on {address}: {why}; {advice} with {flag}")


_REASONS = {
    errno.EADDRINUSE: ("the port is in use", "stop the other program or choose another"),
    errno.EACCES: ("ports below 1024 need a privilege", "choose a higher one"),
    errno.EADDRNOTAVAIL: ("this machine does not have the address", "choose another"),
}


def _probe(address: Address, flag: str, *, loopback_only: bool) -> None:
    """Try the address with a plain socket, because core keeps the reason to itself."""
    errors: list[OSError] = []
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise bind_error(address, flag, error) from None
    for family, kind, protocol, _, target in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
                probe.listen(1)
        except OSError as error:
            errors.append(error)
        if loopback_only and not Address(str(target[0]), 0).is_loopback:
            raise OperatorError(
                f"cannot listen on {address} without TLS: the name means {target[0]}, which "
                f"others can reach; give a loopback IP address with {flag}"
            )
    taken = [error for error in errors if error.errno == errno.EADDRINUSE]
    if taken or len(errors) == len(found):
        # A name may stand for an IPv6 address that the machine lacks, beside one that it has.
        raise bind_error(address, flag, (taken or errors)[0]) from None
