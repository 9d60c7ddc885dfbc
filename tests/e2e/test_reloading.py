"""Files that are replaced under a running server: certificates, and settings."""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import os
import re
import shutil
import ssl
import urllib.request
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs
from kotaemon_grpc.transport import certificate as certificates
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FILES = {"tls.crt": "server.pem", "tls.key": "server-key.pem", "ca.crt": "ca.pem"}
NONE: Mapping[str, bytes] = MappingProxyType({})
FAILURES = "kotaemon_grpc_reload_failures_total"


class Mounted:
    """A directory with the files of the server, as Kubernetes mounts a Secret."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions = 0
        directory.mkdir()
        for name in FILES:
            (directory / name).symlink_to(f"..data/{name}")

    def put(self, source: Path, others: Mapping[str, bytes] = NONE) -> None:
        """Replace all files at once; `others` are not to be those of the PKI."""
        self._versions += 1
        version = self.directory / f"..version_{self._versions}"
        version.mkdir()
        for name, of_pki in FILES.items():
            (version / name).write_bytes(others.get(name) or _read(source / of_pki))
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.directory / "..data")


class Written:
    """A directory with the files of the server, each of which is replaced by itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def put(self, source: Path) -> None:
        for name, of_pki in FILES.items():
            new = self.directory / f"{name}.new"
            shutil.copy(source / of_pki, new)
            new.replace(self.directory / name)


def _read(path: Path) -> bytes:
    return path.read_bytes()


class Watched:
    """A server, and what it tells of itself."""

    def __init__(self, serving: Any, pki_dir: Path) -> None:
        self.serving = serving
        self.pki = pki_dir

    def lines(self, event: str, what: str = "") -> list[dict[str, Any]]:
        return [
            line
            for line in self.serving.lines
            if line["event"] == event and what in {"", line.get("what")}
        ]

    def metric(self, name: str, **labels: str) -> float:
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = re.findall(rf"^{name}(\S*) (\S+)$", self.fetch("/metrics"), re.MULTILINE)
        return sum(float(value) for shown, value in found if all(w in shown for w in wanted))

    def fetch(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.serving.operations_address}{path}") as reply:
            return html.unescape(re.sub(r"<[^>]*>", "", reply.read().decode()))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Ask again and again until something holds; it fails if that takes too many times."""
        for _ in range(600):
            if holds():
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it never came to hold")

    async def until_told(self, event: str, what: str = "", count: int = 1) -> list[dict[str, Any]]:
        await self.until(lambda: len(self.lines(event, what)) >= count)
        return self.lines(event, what)

    def channel(self, pki_dir: Path, name: str = "client") -> grpc.aio.Channel:
        """Open a channel with a connection of its own."""
        files = (self.pki / "ca.pem", pki_dir / f"{name}-key.pem", pki_dir / f"{name}.pem")
        return grpc.aio.secure_channel(
            self.serving.address,
            grpc.ssl_channel_credentials(*map(_read, files)),
            (("grpc.use_local_subchannel_pool", 1),),
        )

    async def call(self, pki_dir: Path, name: str = "client") -> str:
        async with self.channel(pki_dir, name) as channel:
            return await outcome(channel)

    async def shown(self, address: str = "") -> bytes:
        """Return the certificate that a new connection is shown, DER."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        host, _, port = (address or self.serving.address).rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        try:
            return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()


class Chat:
    """A dialogue that goes on while other things happen."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = stubs.AgentServiceStub(channel).ChatStream()
        self._has_begun = False

    async def turn(self) -> str:
        """Ask, and return how the turn ended."""
        message = pb.ChatMessage(question="why?")
        await self._call.write(pb.ChatStreamRequest(message=message))
        while True:
            event = await self._call.read()
            if event is grpc.aio.EOF:
                return (await self._call.code()).name
            if event.WhichOneof("event") in {"turn_completed", "completed", "failed"}:
                return event.WhichOneof("event")


async def outcome(channel: grpc.aio.Channel) -> str:
    """Make a call, and return its code and reason."""
    stub = stubs.ConversationServiceStub(channel)
    try:
        await stub.ListConversations(pb.ListConversationsRequest(), timeout=60)
    except grpc.aio.AioRpcError as error:
        found = re.search(
            rb"[A-Z_]{8,}",
            dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b""),
        )
        return f"{error.code().name} {found[0].decode() if found else ''}".strip()
    return "OK"


def der_of(directory: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((directory / "server.pem").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    pki.ensure(tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    pki.ensure(tmp_path / "new")
    return tmp_path / "new"


def write_settings(file: Path, text: str) -> None:
    """Replace the file in one step."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


TLS = """
[tls]
certificate = "{0}/tls.crt"
key = "{0}/tls.key"
client_ca = "{0}/ca.crt"
[[policy.bindings]]
principals = ["spiffe://kotaemon-grpc.dev/developer"]
roles = ["user"]
"""


@pytest.fixture
def start_with(
    tmp_path: Path, start: Callable[..., Any], old: Path
) -> Callable[[Mounted | Written], Watched]:
    """Start a server with the files of a directory, which are those of the old PKI at first."""

    def begin(files: Mounted | Written) -> Watched:
        files.put(old)
        settings = tmp_path / "settings.toml"
        settings.write_text(TLS.format(files.directory))
        return Watched(start(f"--config={settings}"), old)

    return begin


@pytest.mark.parametrize("kind", [Mounted, Written])
async def test_all_files_of_tls_are_replaced(
    kind: type, tmp_path: Path, old: Path, new: Path, start_with: Any
) -> None:
    files = kind(tmp_path / "tls")
    watched = start_with(files)
    assert await watched.shown() == der_of(old)
    assert await watched.call(new) == "UNAVAILABLE"
    async with watched.channel(old) as channel:
        chat = Chat(channel)
        assert await chat.turn() == "turn_completed"
        assert await outcome(channel) == "OK"
        files.put(new)
        await watched.until_told("reload.finished", "certificates")
        assert await watched.shown() == der_of(new)

        # Of the old CA: no handshake, and no new call on a connection that is open ...
        watched.pki = new
        assert await watched.call(old) == "UNAVAILABLE"
        assert await outcome(channel) == "UNAUTHENTICATED CREDENTIALS_NOT_TRUSTED"
        # ... on which what was begun goes on.
        assert await chat.turn() == "turn_completed"
        assert await watched.call(new) == "OK"
    assert watched.metric(FAILURES, what="certificates") == 0
    assert watched.lines("reload.failed") == []
    (expiry,) = (
        each.not_valid_after_utc.timestamp() for each in certificates.load_all(new / "server.pem")
    )
    name = "kotaemon_grpc_certificate_expiry_timestamp_seconds"
    assert watched.metric(name, file=f"{files.directory}/tls.crt") == expiry
    assert watched.metric("kotaemon_grpc_last_reload_timestamp_seconds", what="certificates")


def expired(tmp_path: Path) -> dict[str, bytes]:
    pki.ensure(tmp_path / "expired", lambda: certificates.utc_now() - dt.timedelta(days=30))
    return {name: _read(tmp_path / "expired" / of_pki) for name, of_pki in FILES.items()}


BROKEN: dict[str, tuple[Callable[[Path, Path], dict[str, bytes]], str]] = {
    "another's key": (
        lambda _, new: {"tls.key": _read(new / "server-key.pem")},
        "does not match certificate",
    ),
    "half of a certificate": (
        lambda old, _: {"tls.crt": _read(old / "server.pem")[:300]},
        "is not a PEM certificate",
    ),
    "half of the CAs": (
        lambda old, _: {"ca.crt": _read(old / "ca.pem")[:300]},
        "is not a PEM certificate",
    ),
    "expired": (lambda old, _: expired(old.parent), "expired on"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_files_that_are_no_good_change_nothing(
    fault: str, tmp_path: Path, old: Path, new: Path, start_with: Any
) -> None:
    files, (make, problem) = Mounted(tmp_path / "tls"), BROKEN[fault]
    watched = start_with(files)
    files.put(old, make(old, new))
    await watched.until(lambda: watched.metric(FAILURES, what="certificates") >= 2)
    (line,) = watched.lines("reload.failed")
    assert (line["level"], line["what"]) == ("warning", "certificates")
    assert line["name"] == f"{files.directory}/tls.crt"
    assert problem in line["reason"]
    assert "PRIVATE" not in line["reason"]
    assert "certs init" not in line["reason"]  # these files are not what it makes
    assert problem in watched.fetch("/")
    assert await watched.shown() == der_of(old)
    assert await watched.call(old) == "OK"
    files.put(new)
    await watched.until_told("reload.finished", "certificates")
    watched.pki = new
    assert await watched.call(new) == "OK"
    assert len(watched.lines("reload.failed")) == 1


@pytest.mark.parametrize("name", FILES)
async def test_a_file_that_turns_into_a_pipe_holds_up_neither_the_others_nor_the_end(
    name: str, tmp_path: Path, old: Path, new: Path, start_with: Any
) -> None:
    files = Written(tmp_path / "tls")
    watched = start_with(files)
    pipe = files.directory / "pipe"
    os.mkfifo(pipe)
    pipe.replace(files.directory / name)
    (line,) = await watched.until_told("reload.failed", "certificates")
    assert "it is not a regular file" in line["reason"]
    assert await watched.call(old) == "OK"
    files.put(new)
    await watched.until_told("reload.finished", "certificates")
    os.mkfifo(pipe)
    pipe.replace(files.directory / name)
    await watched.until_told("reload.failed", "certificates", 2)
    assert watched.serving.stop() == 0


async def test_the_operations_port_has_its_certificate_replaced(
    tmp_path: Path, old: Path, new: Path, start: Callable[..., Any]
) -> None:
    files = Mounted(tmp_path / "tls")
    files.put(old)
    flags = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
    serving = start(
        *(f"--set=operations.{key}={files.directory}/{name}" for key, name in flags.items())
    )
    watched = Watched(serving, old)

    def fetch(directory: Path) -> str:
        context = ssl.create_default_context(cafile=directory / "ca.pem")
        context.load_cert_chain(directory / "client.pem", directory / "client-key.pem")
        url = f"https://{serving.operations_address}/"
        with urllib.request.urlopen(url, context=context) as reply:
            return re.sub(r"<[^>]*>", "", reply.read().decode())

    def fails(directory: Path) -> bool:
        try:
            fetch(directory)
        except OSError:
            return True
        return False

    assert str(files.directory) in await asyncio.to_thread(fetch, old)
    assert await asyncio.to_thread(fails, new)
    files.put(new)
    await watched.until_told("reload.finished", "certificates")
    assert str(files.directory) in await asyncio.to_thread(fetch, new)
    assert await asyncio.to_thread(fails, old)


# --- settings --------------------------------------------------------------------

BOUND = """
[[policy.bindings]]
principals = ["cn:guest"]
roles = ["{}"]
"""


NO_BINDING = "policy.bindings = []"


class Configured(Watched):
    """A server with a file of settings, and a client that has the roles that it says."""

    def __init__(self, serving: Any, certs: Path, file: Path) -> None:
        super().__init__(serving, certs)
        self.file = file
        self._changes = 0

    async def change(self, text: str) -> None:
        """Replace the settings, and wait until they are taken."""
        self._changes += 1
        write_settings(self.file, text)
        await self.until_told("reload.finished", "settings", self._changes)

    async def guest(self) -> str:
        return await self.call(self.pki, "guest")


@pytest.fixture
def configured(tmp_path: Path, old: Path, start: Callable[..., Any]) -> Configured:
    pki.issue(old, "guest", Subject("guest", usages=(Usage.CLIENT,)))
    file = tmp_path / "settings.toml"
    file.write_text(BOUND.format("user"))
    return Configured(start(f"--config={file}", certs=old), old, file)


async def test_development_files_that_vanish_are_to_be_made_anew(configured: Configured) -> None:
    key = configured.pki / "server-key.pem"
    key.unlink()
    (line,) = await configured.until_told("reload.failed", "certificates")
    assert line["reason"] == (
        f"key {key} cannot be read: no such file or directory; "
        'run "kotaemon-grpc certs init" or name another file'
    )


async def test_another_policy_holds_from_the_next_call_on(configured: Configured) -> None:
    async with configured.channel(configured.pki, "guest") as channel:
        chat = Chat(channel)
        assert await chat.turn() == "turn_completed"
        assert await outcome(channel) == "OK"
        await configured.change(NO_BINDING)
        assert await outcome(channel) == "PERMISSION_DENIED METHOD_NOT_ALLOWED"
        assert await Chat(channel).turn() in {"failed", "PERMISSION_DENIED"}
        assert await chat.turn() == "turn_completed"  # as it was let in
        await configured.change(BOUND.format("editor"))
        assert await outcome(channel) == "OK"
    assert await configured.call(configured.pki) == "OK"  # the developer, all the time


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOUND.format("wizard"), 'a binding names the role "wizard", which is not defined'),
        (
            '[policy.roles.odd]\nmethods = ["kotaemon.v3.*"]',
            'role "odd": no method matches "kotaemon.v3.*"',
        ),
        ("[limits]\nmax_waiting = -1", '"limits.max_waiting" is not valid'),
        ("[limits]\nmax_wating = 1", 'unknown key "limits.max_wating"'),
        ("[limits", "is not TOML"),
        ("", "has no key any more"),
        ("# nothing but words", "has no key any more"),
        (
            "[[identity.certificates]]\npattern = '.*'\nroles = [\"wizard\"]",
            'identity.certificates, 0: there is no role "wizard"',
        ),
    ],
)
async def test_settings_that_are_no_good_change_nothing(
    configured: Configured, text: str, problem: str
) -> None:
    write_settings(configured.file, text)
    (line,) = await configured.until_told("reload.failed", "settings")
    assert problem in line["reason"]
    assert line["name"] == str(configured.file)
    assert configured.metric(FAILURES, what="settings") >= 1
    assert await configured.guest() == "OK"
    await configured.change(NO_BINDING)
    assert await configured.guest() == "PERMISSION_DENIED METHOD_NOT_ALLOWED"


async def test_other_limits_hold_and_what_needs_a_restart_is_said(configured: Configured) -> None:
    limits = "[limits]\ncalls_per_second = 0.001\nengine_places = 3\n"
    write_settings(
        configured.file,
        f"{limits}[server]\nmax_connections = 7\n[conversations]\nretention_days = 1\n"
        f'[client]\ntimeout_s = 1.0\n[log]\nlevel = "warning"\nformat = "console"\n'
        + BOUND.format("user"),
    )
    (line,) = await configured.until_told("settings.need_restart")
    assert await configured.guest() == "OK"
    assert await configured.guest() == "RESOURCE_EXHAUSTED RATE_LIMITED"
    assert "limits.engine_places3" in re.sub(r"\s", "", configured.fetch("/"))
    assert line["settings"] == [
        "server.max_connections",
        "conversations.retention_days",
        "log.format",
    ]
    ended = [each for each in configured.lines("call") if each["principal"] == "cn:guest"]
    assert ended == []  # they are written at the level info


async def test_rules_for_certificates_are_replaced(configured: Configured) -> None:
    rule = "[[identity.certificates]]\npattern = 'cn:guest'\nprincipal = \"visitor\"\n"
    await configured.change(rule + BOUND.format("user"))
    assert await configured.guest() == "PERMISSION_DENIED METHOD_NOT_ALLOWED"
    await configured.change(rule + BOUND.format("user").replace("cn:guest", "visitor"))
    assert await configured.guest() == "OK"
