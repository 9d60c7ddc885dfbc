"""A server that cannot start says why, and what to do, in one line."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import socket
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

FREE_PORTS = (
    *("--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"),
    "--operations-listen=127.0.0.1:0",
)


@pytest.fixture
def refused(command: Command, certs: Path, tmp_path: Path) -> Callable[..., str]:
    """Start a server that cannot start, and return its one line."""

    def run(*arguments: str, **variables: str) -> str:
        done = command(
            *("serve", *FREE_PORTS, f"--data-dir={tmp_path}/data", f"--certs={certs}"),
            *arguments,
            **variables,
        )
        assert done.returncode == 1, done.stderr
        for line in done.stdout.splitlines():
            assert json.loads(line)["event"] != "server.serving"
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return run


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """Mount a file system for a while, or skip and say so."""
    at.mkdir(exist_ok=True)
    command = shutil.which("mount")
    done = command and subprocess.run(
        [command, *arguments, str(at)], capture_output=True, text=True, check=False
    )
    if not done or done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr if done else 'no mount'}")
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount"), "--lazy", str(at)], check=True)


@pytest.mark.parametrize("flag", ["--listen", "--health-listen", "--operations-listen"])
def test_a_port_that_is_taken(refused: Callable[..., str], flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(f"{flag}={address}")
    assert line == (
        f"error: cannot listen on {address}: the port is in use; "
        f"stop the other program or choose another with {flag}"
    )


def test_an_address_that_is_not_ours(refused: Callable[..., str]) -> None:
    # RFC 5737: 192.0.2.0/24 is for documentation, and nobody's.
    assert "this machine does not have the address" in refused("--listen=192.0.2.1:0")


def test_plaintext_for_others_to_reach(refused: Callable[..., str]) -> None:
    line = refused("--insecure", "--listen=[::]:0")
    assert "would let anybody on the network read along" in line
    assert "choose a loopback address or leave out" in line


def test_an_unknown_setting_names_the_nearest(refused: Callable[..., str]) -> None:
    assert 'did you mean "KOTAEMON_GRPC_STORAGE__DATA_DIR"?' in refused(
        KOTAEMON_GRPC_STORAGE__DATADIR="x"
    )


def test_a_certificate_or_key_that_is_missing(
    refused: Callable[..., str], certs: Path, tmp_path: Path
) -> None:
    for missing, key in (("certificate", "key"), ("key", "certificate")):
        line = refused(
            f"--set=tls.{missing}={tmp_path}/none.pem",
            f"--set=tls.{key}={certs}/server{'-key' * (key == 'key')}.pem",
        )
        assert f"{missing} {tmp_path}/none.pem cannot be read: no such file" in line
        assert line.endswith("; mend it or name another file")


def test_a_certificate_that_has_expired(refused: Callable[..., str], tmp_path: Path) -> None:
    made = dt.datetime.now(dt.UTC) - dt.timedelta(days=30)
    pki.ensure(tmp_path / "old", clock=lambda: made)
    line = refused(*named_files(tmp_path / "old"))
    assert f"{tmp_path}/old/server.pem expired on {(made + pki.LEAF_LIFE).date()}" in line


def test_a_certificate_of_the_future(refused: Callable[..., str], tmp_path: Path) -> None:
    coming = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    pki.ensure(tmp_path / "new", clock=lambda: coming)
    assert "is not valid before" in refused(*named_files(tmp_path / "new"))


def test_a_key_of_another_certificate(refused: Callable[..., str], certs: Path) -> None:
    line = refused(
        f"--set=tls.certificate={certs}/server.pem", f"--set=tls.key={certs}/client-key.pem"
    )
    assert f"key {certs}/client-key.pem does not match certificate {certs}/server.pem" in line


def test_a_certificate_for_clients(
    refused: Callable[..., str], certs: Path, tmp_path: Path
) -> None:
    subject = Subject("someone", usages=(Usage.CLIENT,))
    certificate, key = pki.issue(certs, "someone", subject, out=tmp_path)
    line = refused(f"--set=tls.certificate={certificate}", f"--set=tls.key={key}")
    assert "is not made for servers" in line


def test_a_ca_bundle_that_is_none(refused: Callable[..., str], certs: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("hello")
    for bundle, said in (
        (tmp_path / "bad.pem", "is not a PEM certificate"),
        (certs / "server.pem", "holds a certificate that is not of a CA"),
        (tmp_path / "none.pem", "cannot be read: no such file"),
    ):
        line = refused(f"--set=tls.client_ca={bundle}")
        assert f"CA bundle {bundle} {said}" in line


def test_a_development_pki_without_its_ca_key(refused: Callable[..., str], tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    pki.ensure(directory)
    (directory / "ca-key.pem").unlink()
    (directory / "server.pem").unlink()
    assert f"{directory}/ca.pem is there without ca-key.pem" in refused(f"--certs={directory}")


def test_a_data_directory_below_a_file(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refused(f"--data-dir={path}")
        assert f'data directory "{path}" is not a directory; choose another --data-dir' in line


def test_a_data_directory_of_another_server(
    refused: Callable[..., str], start: Callable[..., Any]
) -> None:
    serving = start()
    line = refused(f"--data-dir={serving.data_dir}")
    assert f"is used by another server (pid {serving.process.pid}); stop it or" in line
    assert serving.stop() == 0


def test_a_data_directory_of_a_newer_version_is_left_alone(
    refused: Callable[..., str], start: Callable[..., Any]
) -> None:
    serving = start()
    assert serving.stop() == 0
    database = serving.data_dir / "kotaemon.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version + 1}")
    before = database.read_bytes()
    line = refused(f"--data-dir={serving.data_dir}")
    assert f"version {version + 1}, and this server knows up to {version}; install" in line
    assert database.read_bytes() == before


def test_a_data_directory_with_something_else_in_it(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "kotaemon.sqlite3").write_bytes(b"this is not a database" * 1000)
    line = refused(f"--data-dir={data_dir}")
    assert "is damaged or no database of this server; restore it from a backup" in line


def test_a_data_directory_that_is_read_only(refused: Callable[..., str], tmp_path: Path) -> None:
    target = tmp_path / "read-only"
    with mounted("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", at=target):
        for path in (target, target / "below"):
            line = refused(f"--data-dir={path}")
            assert f'"{path}" cannot be written (read-only file system); give' in line


def test_a_data_directory_that_became_read_only(
    refused: Callable[..., str], start: Callable[..., Any], tmp_path: Path
) -> None:
    target = tmp_path / "data"
    with mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", at=target):
        assert start(data_dir=target).stop() == 0
        subprocess.run([shutil.which("mount"), "-o", "remount,ro", str(target)], check=True)
        assert "cannot be written (read-only file system)" in refused(f"--data-dir={target}")


def test_a_data_directory_that_is_full(refused: Callable[..., str], tmp_path: Path) -> None:
    target = tmp_path / "full"
    with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", at=target):
        line = refused(f"--data-dir={target}")
    assert f'the disk of data directory "{target}" is full; make room or choose another' in line


def named_files(directory: Path) -> list[str]:
    """Name the files one by one: they are not of the development PKI then."""
    return [
        f"--set=tls.certificate={directory}/server.pem",
        f"--set=tls.key={directory}/server-key.pem",
        f"--set=tls.client_ca={directory}/ca.pem",
    ]
