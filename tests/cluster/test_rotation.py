"""A new certificate, brought to the pods while they run."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from tests.cluster.release import GRPC, server_certificate
from tests.cluster.waiting import until

from kotaemon_grpc.client import AgentClient

if TYPE_CHECKING:
    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster, Given
    from tests.cluster.issuer import Issuer

    from kotaemon_grpc.client import TlsFiles

TAKEN_LIMIT_S = 240  # a kubelet looks for new content once in a minute or two


def served_serial(address: str, tls: TlsFiles, name: str) -> int:
    """Tell which certificate a new connection gets."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port))) as connection,
        context.wrap_socket(connection, server_hostname=name) as encrypted,
    ):
        served = encrypted.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(served).serial_number


async def test_new_certificate_is_served_without_a_restart(  # noqa: PLR0917 - fixtures
    cluster: Cluster,
    manifests: list[Manifest],
    given: Given,
    issuer: Issuer,
    client_tls: TlsFiles,
    server_name: str,
) -> None:
    certificate = server_certificate(manifests)
    name = certificate["spec"]["secretName"]
    pods = cluster.pods()
    before = {pod: cluster.incarnation(pod) for pod in pods}
    addresses = [cluster.address(pod, GRPC) for pod in pods]
    old = x509.load_pem_x509_certificate(given.secrets[name]["tls.crt"]).serial_number
    assert {served_serial(each, client_tls, server_name) for each in addresses} == {old}

    async with AgentClient(addresses, tls=client_tls, server_name=server_name) as client:
        await client.ask("Where is the lighthouse?")
        content = issuer.secret(certificate)
        new = x509.load_pem_x509_certificate(content["tls.crt"]).serial_number
        assert new != old
        cluster.replace_secret(name, content)
        for each in addresses:
            until(
                "the new certificate is served",
                lambda address=each: served_serial(address, client_tls, server_name) == new,
                TAKEN_LIMIT_S,
            )
        await client.ask("Where is the lighthouse?")  # on connections of before
    assert {pod: cluster.incarnation(pod) for pod in pods} == before
