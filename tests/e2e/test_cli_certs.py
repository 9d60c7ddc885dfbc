"""`certs`: what it makes is what a real server and its clients take."""

from __future__ import annotations

import asyncio
import datetime as dt
import stat
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kotaemon_grpc.client import AgentClient, PermissionDeniedError, TlsFiles, UnavailableError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    Command = Callable[..., subprocess.CompletedProcess[str]]

FILES = {"ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"}


def test_init_makes_the_files_that_people_script_against(command: Command, tmp_path: Path) -> None:
    assert command("certs", "init").returncode == 0
    directory = tmp_path / "certs" / "dev"
    assert {path.name for path in directory.glob("*.pem")} == FILES | {"ca-key.pem"}
    for path in directory.glob("*.pem"):
        private = path.name.endswith("-key.pem")
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if private else 0o644)
    for name in ("server", "client"):
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
        assert isinstance(certificate.public_key().curve, ec.SECP256R1)
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert life < dt.timedelta(days=31)
    before = {path.name: path.read_bytes() for path in directory.glob("*.pem")}
    again = command("certs", "init")
    assert again.stdout == "the certificates in certs/dev are good\n"
    assert {path.name: path.read_bytes() for path in directory.glob("*.pem")} == before


async def test_issue_makes_a_certificate_that_may_do_what_a_binding_says(
    command: Command, start: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    binding = '{"principals": ["spiffe://example.org/*"], "roles": ["user"]}'
    server = start(f"--import={corpus / 'en'}", f"--set=policy.bindings=[{binding}]")
    done = command(
        *("certs", "issue", "--spiffe", "spiffe://example.org/agent", "--usage", "client"),
        *("--dir", str(server.certs), "--out", str(tmp_path)),
    )
    assert done.stdout == f"created {tmp_path}/agent.pem\ncreated {tmp_path}/agent-key.pem\n"
    own = TlsFiles(server.tls.ca, tmp_path / "agent.pem", tmp_path / "agent-key.pem")
    async with AgentClient(server.address, tls=own) as client:
        assert (await client.ask("When is a fire drill held?")).finish_reason == "answered"
        with pytest.raises(PermissionDeniedError, match="no role"):
            await client.delete_document("collections/default/documents/any")
    denied = await asyncio.to_thread(
        command,
        *("import", str(corpus / "en"), f"--target={server.address}", f"--ca={own.ca}"),
        *(f"--certificate={own.certificate}", f"--key={own.key}"),
    )
    assert (denied.returncode, denied.stdout) == (1, "")
    (line,) = denied.stderr.splitlines()  # not one for each file: none of them is at fault
    assert line.startswith("error: permission denied: ")


async def test_a_certificate_that_is_made_for_servers_is_no_client(
    command: Command, server: Any, tmp_path: Path
) -> None:
    command(
        *("certs", "issue", "--san", "other.example", "--usage", "server"),
        *("--dir", str(server.certs), "--out", str(tmp_path)),
    )
    own = TlsFiles(
        server.tls.ca, tmp_path / "other.example.pem", tmp_path / "other.example-key.pem"
    )
    async with AgentClient(server.address, tls=own) as client:
        with pytest.raises(UnavailableError):
            await client.ask("When is a fire drill held?")


def test_show_describes_what_is_there(command: Command, certs: Path) -> None:
    done = command("certs", "show", f"--dir={certs}")
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if line.startswith("/")] == [
        str(certs / name) for name in ("ca.pem", "server.pem", "client.pem")
    ]
    assert "PRIVATE" not in done.stdout


def test_failures_are_one_line(command: Command, certs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (
        ["init", "--dir=file/below"],
        ["show", "none.pem"],
        ["issue", "server", f"--dir={certs}"],
        ["issue", "--san=not a name", f"--dir={certs}"],
        ["issue", "--spiffe=http://example.org", f"--dir={certs}"],
    ):
        done = command("certs", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
