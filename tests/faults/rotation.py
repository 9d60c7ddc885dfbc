"""Certificates and CAs that are replaced while calls go on."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import grpc
from authority import Authority, Secret

from kotaemon_grpc.client import Hooks
from kotaemon_grpc.transport.certificate import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lab import Lab
    from servers import Server

_ROUNDS = 10
_AGE_S = 5.0  # so that connections are made anew, with what is new
_AGE_JITTER = 1.1  # gRFC A9
_RELOAD_LIMIT_S = 20.0
_END_LIMIT_S = _AGE_S * _AGE_JITTER + 3.0
_SETTINGS = {"server.max_connection_age_s": _AGE_S}
_PROBE_S = 5.0


class Reloads(Hooks):
    """Counts how often a client has new files in use, and keeps what went wrong."""

    def __init__(self) -> None:
        self.count = 0
        self.problems: list[str] = []

    def on_reload(self, what: str, problem: str) -> None:
        if problem:
            self.problems.append(f"{what}: {problem}")
        else:
            self.count += 1


async def cert_rotation(lab: Lab) -> None:
    servers = await lab.start(3, _SETTINGS)
    reloads = Reloads()
    async with lab.steady_load(*(each.address for each in servers), hooks=(reloads,)):
        for _ in range(_ROUNDS):
            await _reissue(lab, servers, reloads)
    lab.expect(not reloads.problems, f"the client could not use new files: {reloads.problems[:1]}")
    lab.notes.append(f"{_ROUNDS} rotations, the client reloaded {reloads.count} times")


async def ca_rotation(lab: Lab) -> None:
    servers = await lab.start(3, _SETTINGS)
    reloads = Reloads()
    async with lab.steady_load(*(each.address for each in servers), hooks=(reloads,)):
        for number in range(_ROUNDS):
            old, lab.authority = lab.authority, Authority()
            by_old = _outsider(lab, f"old-{number}", old)
            by_new = _outsider(lab, f"new-{number}", lab.authority)
            await _trust(lab, servers, reloads, old.pem + lab.authority.pem, by_new, is_in=True)
            await _reissue(lab, servers, reloads)
            async with _held(servers[0], by_old) as held:
                await _trust(lab, servers, reloads, lab.authority.pem, by_old, is_in=False)
                await lab.until(
                    lambda held=held: _is_over(held),
                    "a connection of a CA that was removed stays",
                    _END_LIMIT_S,
                )
    lab.expect(not reloads.problems, f"the client could not use new files: {reloads.problems[:1]}")
    lab.notes.append(f"{_ROUNDS} CAs, the client reloaded {reloads.count} times")


async def _reissue(lab: Lab, servers: Sequence[Server], reloads: Reloads) -> None:
    """Replace the certificates and keys of servers and client, and wait until all use them."""
    before = reloads.count
    issued = lab.authority.issue("server", Usage.SERVER)
    lab.server_secret.replace(issued)
    lab.client_secret.replace(lab.authority.issue("client", Usage.CLIENT))
    wanted = ssl.PEM_cert_to_DER_cert(issued["tls.crt"].decode())
    for server in servers:
        await lab.until(
            lambda server=server: _presents(server, lab.client_secret, wanted),
            "a server goes on with its old certificate",
            _RELOAD_LIMIT_S,
        )
    await lab.until(lambda: reloads.count > before, "the client reads nothing", _RELOAD_LIMIT_S)


async def _trust(
    lab: Lab,
    servers: Sequence[Server],
    reloads: Reloads,
    bundle: bytes,
    probe: Secret,
    *,
    is_in: bool,
) -> None:
    """Replace the CAs, and wait until each server takes, or does not take, a certificate."""
    before = reloads.count
    lab.server_secret.replace({"ca.crt": bundle})
    lab.client_secret.replace({"ca.crt": bundle})
    probe.replace({"ca.crt": bundle})
    for server in servers:
        await lab.until(
            lambda server=server: _is_let(server, probe, is_in=is_in),
            "a server goes on with its old CAs",
            _RELOAD_LIMIT_S,
        )
    await lab.until(lambda: reloads.count > before, "the client reads nothing", _RELOAD_LIMIT_S)


def _outsider(lab: Lab, name: str, authority: Authority) -> Secret:
    secret = Secret(lab.directory / name)
    secret.replace({"ca.crt": lab.authority.pem, **authority.issue(name, Usage.CLIENT)})
    return secret


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(server: Server, secret: Secret) -> _Streams:
    context = ssl.create_default_context(cafile=secret.path("ca.crt"))
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(secret.path("tls.crt"), secret.path("tls.key"))
    host, _, port = server.address.rpartition(":")
    streams = await asyncio.open_connection(host, int(port), ssl=context)
    streams[1].write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    return streams


async def _presents(server: Server, secret: Secret, certificate: bytes) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_S):
            _, writer = await _connect(server, secret)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found == certificate
    return False


async def _is_let(server: Server, secret: Secret, *, is_in: bool) -> bool:
    """Tell whether a handshake with a certificate ends as it should."""
    was_in = False
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await _connect(server, secret)
            was_in = bool(await reader.read(1))  # TLS 1.3 tells of a refusal only here
            writer.close()
    return was_in == is_in


@asynccontextmanager
async def _held(server: Server, secret: Secret) -> AsyncIterator[grpc.aio.Channel]:
    """Hold a connection by certificates that stay as they are."""
    credentials = secret.tls.credentials()
    async with grpc.aio.secure_channel(server.address, credentials) as channel:
        async with asyncio.timeout(_PROBE_S):
            await channel.channel_ready()
        yield channel


def _is_over(channel: grpc.aio.Channel) -> bool:
    return channel.get_state() is not grpc.ChannelConnectivity.READY


ROWS = {each.__name__: each for each in (cert_rotation, ca_rotation)}
