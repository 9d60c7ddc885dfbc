"""`kotaemon-grpc health`."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.cli.settings import config_options, load_config
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address, parse_address

if TYPE_CHECKING:
    from pathlib import Path

_States = health_pb2.HealthCheckResponse
_HERE = [("grpc.enable_http_proxy", 0)]
"""A proxy for calls into the world has nothing to say about this server."""


class _Target(click.ParamType[Address]):
    name = "target"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(short_help="Tell whether the server takes calls.")
@click.argument("target", type=_Target(), required=False, metavar="[HOST:PORT]")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, max=86400, min_open=True),
    default=3.0,
    metavar="SECONDS",
    help="How long the answer may take. [3]",
)
@config_options
def health(
    target: Address | None,
    timeout_s: float,
    config_file: Path | None,
    assignments: tuple[str, ...],
) -> None:
    """Ask the health port how the server is, and print the state.

    HOST:PORT is by default the setting "server.health_listen". The exit status is 0 if
    the state is SERVING, and 1 in any other case.
    """
    configured = target or load_config(config_file, assignments, {}).server.health_listen
    address = _reachable(configured)
    state = _States.ServingStatus.Name(_ask(address, timeout_s))
    click.echo(state)
    if state != "SERVING":
        raise OperatorError(f"the server at {address} does not take calls")


def _ask(address: Address, timeout_s: float) -> int:
    """Make one check (the gRPC health checking protocol, v1) of the server as a whole.

    Raises:
        OperatorError: there is no answer.
    """
    with grpc.insecure_channel(str(address), options=_HERE) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise OperatorError(_reason(error, address, timeout_s)) from error
    status: int = response.status
    return status


def _reason(error: grpc.RpcError, address: Address, timeout_s: float) -> str:
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer from {address} within {timeout_s:g} s"
        case grpc.StatusCode.UNAVAILABLE:
            return f"no health port in plaintext can be reached at {address}"
        case code:
            # The words are a stranger's: a terminal must not obey them.
            words = "".join(c if c.isprintable() else " " for c in error.details())
            return f"{address} answered {code.name}: {' '.join(words.split())}"


def _reachable(address: Address) -> Address:
    """Give where to call what listens on an address: one that means all means this machine.

    Raises:
        OperatorError: the port is 0, of which nobody knows what became.
    """
    if address.port == 0:
        raise OperatorError("the health port is picked when the server starts; give HOST:PORT")
    try:
        host = ipaddress.ip_address(address.host)
    except ValueError:
        return address
    if not host.is_unspecified:
        return address
    return replace(address, host="127.0.0.1" if host.version == 4 else "::1")  # noqa: PLR2004 - IPv4
