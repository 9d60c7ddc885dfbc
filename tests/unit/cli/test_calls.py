"""What a verb says of a server that could not serve it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.cli.calls import call
from kotaemon_grpc.client.errors import error_from_rpc
from kotaemon_grpc.config import load
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_without_tls_is_told_as_such(tmp_path: Path) -> None:
    pki.ensure(tmp_path)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = {"client.target": f"127.0.0.1:{port}", "tls.dir": str(tmp_path)}
    config = load(file=None, environ={}, flags=settings)
    try:
        with pytest.raises(OperatorError, match=r"does not use TLS: .* --insecure$"):
            call(config, lambda client: client.ask("why?"))
    finally:
        server.stop(None).wait()


def test_development_certificates_that_may_not_be_read_are_not_made_anew(
    tmp_path: Path, nobody: Any
) -> None:
    pki.ensure(tmp_path)
    (tmp_path / "ca.pem").chmod(0)
    config = load(file=None, environ={}, flags={"tls.dir": str(tmp_path)})
    with nobody(), pytest.raises(OperatorError) as said:
        call(config, lambda client: client.ask("why?"))
    assert str(said.value) == (
        f"cannot read {tmp_path}/ca.pem (Permission denied); make it readable or name another file"
    )


def test_a_lost_reason_does_not_blame_the_target(tmp_path: Path) -> None:
    pki.ensure(tmp_path)
    config = load(file=None, environ={}, flags={"tls.dir": str(tmp_path)})

    async def lost(_: object) -> Any:
        raise error_from_rpc(
            grpc.aio.AioRpcError(
                grpc.StatusCode.INTERNAL,
                grpc.aio.Metadata(),
                grpc.aio.Metadata(),
                details="Internal error from Core",
            )
        )

    with pytest.raises(OperatorError, match=r"was lost; try again; the server's log says") as said:
        call(config, lost)
    assert "--target" not in str(said.value)
