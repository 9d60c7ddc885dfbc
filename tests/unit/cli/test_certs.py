from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kotaemon_grpc.cli.certs import certs
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    environ = {"KOTAEMON_GRPC_TLS__DIR": str(tmp_path / "pki")}

    def invoke(*args: str, status: int = 0) -> str:
        result = CliRunner(env=environ).invoke(certs, args)
        if isinstance(result.exception, OperatorError):
            raise result.exception
        assert result.exit_code == status, result.output
        return result.output

    return invoke


def test_init_creates_then_finds_all_good(run: Callable[..., str], tmp_path: Path) -> None:
    assert run("init").splitlines() == [
        f"created {tmp_path}/pki/{name}.pem" for name in ("ca", "server", "client")
    ]
    assert run("init") == f"the certificates in {tmp_path}/pki are good\n"
    (tmp_path / "pki" / "client-key.pem").unlink()
    assert run("init") == f"renewed {tmp_path}/pki/client.pem\n"


def test_init_takes_a_directory(run: Callable[..., str], tmp_path: Path) -> None:
    run("init", "--dir", str(tmp_path / "other"))
    assert (tmp_path / "other" / "ca.pem").exists()
    assert not (tmp_path / "pki").exists()


def test_show_describes_the_development_pki(run: Callable[..., str], tmp_path: Path) -> None:
    run("init")
    ca, server, client = run("show").split("\n\n")
    assert ca.startswith(f"{tmp_path}/pki/ca.pem")
    assert "localhost, 127.0.0.1, ::1" in server
    assert "6 d 23 h" in server
    assert "spiffe://kotaemon-grpc.dev/developer" in client
    for text in (server, client):
        assert "from ca.pem: yes" in text
        assert "ECDSA secp256r1" in text


def test_show_of_what_is_not_there_is_an_error_for_the_operator(
    run: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(
        OperatorError, match=f"{tmp_path}/pki/ca.pem cannot be read: no such file"
    ) as said:
        run("show")
    assert "certs init" in str(said.value)
    with pytest.raises(OperatorError, match=r"; mend it or name another file$"):
        run("show", str(tmp_path / "none.pem"))


def test_issue_is_named_for_its_argument_its_san_or_its_spiffe_id(
    run: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run("issue", "a", "--days", "2", "--out", str(out))
    run("issue", "--san", "*.b.org", "--san", "10.0.0.1", "--out", str(out))
    run("issue", "--spiffe", "spiffe://b.org/ns/c", "--usage", "client", "--out", str(out))
    assert {path.name for path in out.glob("*.pem")} == {
        f"{name}{end}.pem" for name in ("a", "b.org", "c") for end in ("", "-key")
    }
    shown = run("show", str(out / "b.org.pem"))
    assert "*.b.org, 10.0.0.1" in shown
    assert "from ca.pem: yes" in shown


def test_issue_of_nothing_is_a_usage_error(run: Callable[..., str]) -> None:
    assert "give NAME, --san or --spiffe" in run("issue", status=2)
    run("issue", "a", "--days", "0", status=2)
