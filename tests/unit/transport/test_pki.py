from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject, Usage, issued_by
from kotaemon_grpc.transport.description import describe

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"}


def _certificate(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind)


def _contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in FILES}


def _names(changes: list[pki.Change]) -> list[tuple[str, bool]]:
    return [(change.path.name, change.renewed) for change in changes]


def test_a_new_directory_gets_all_files_and_a_good_one_is_left_alone(
    tmp_path: Path, clock: Any
) -> None:
    directory = tmp_path / "certs" / "dev"
    made = _names(pki.ensure(directory, clock))
    assert made == [("ca.pem", False), ("server.pem", False), ("client.pem", False)]
    before = _contents(directory)
    assert pki.ensure(directory, clock) == []
    assert _contents(directory) == before


def test_keys_and_directory_are_private(pki_dir: Path) -> None:
    assert stat.S_IMODE(pki_dir.stat().st_mode) == 0o700
    for name in ("ca", "server", "client"):
        assert stat.S_IMODE((pki_dir / f"{name}-key.pem").stat().st_mode) == 0o600
    assert {path.name for path in pki_dir.iterdir()} == FILES | {".lock"}


def test_the_certificates_have_the_extensions_of_rfc_5280(pki_dir: Path) -> None:
    ca, server, client = (_certificate(pki_dir, name) for name in ("ca", "server", "client"))
    for certificate, is_ca in ((ca, True), (server, False), (client, False)):
        constraints = _extension(certificate, x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value.ca is is_ca
        usage = _extension(certificate, x509.KeyUsage)
        assert usage.critical
        assert (usage.value.key_cert_sign, usage.value.digital_signature) == (is_ca, not is_ca)
        assert _extension(certificate, x509.SubjectKeyIdentifier)
    assert len({c.serial_number for c in (ca, server, client)}) == 3
    identifier = _extension(ca, x509.SubjectKeyIdentifier).value.digest
    for leaf, usage in (
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
        (client, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        assert list(_extension(leaf, x509.ExtendedKeyUsage).value) == [usage]
        authority = _extension(leaf, x509.AuthorityKeyIdentifier).value
        assert authority.key_identifier == identifier
        assert issued_by(leaf, ca)


def test_the_certificates_are_valid_for_the_times_named_and_from_a_little_before(
    tmp_path: Path, clock: Any
) -> None:
    pki.ensure(tmp_path, clock)
    for name, days in (("ca", 90), ("server", 7), ("client", 7)):
        certificate = _certificate(tmp_path, name)
        assert (certificate.not_valid_after_utc - clock()).days == days
        assert 0 < (clock() - certificate.not_valid_before_utc).total_seconds() <= 600


def test_the_leaves_name_server_and_developer(pki_dir: Path) -> None:
    server = describe(pki_dir / "server.pem", pki_dir / "ca.pem")
    assert {"localhost", "127.0.0.1", "::1"} <= set(server.sans)
    client = describe(pki_dir / "client.pem", pki_dir / "ca.pem")
    assert client.subject == "CN=developer"
    assert client.spiffe == "spiffe://kotaemon-grpc.dev/developer"
    assert client.sans == ()
    assert client.chains
    assert client.key_type == "ECDSA secp256r1"


def test_leaves_are_renewed_in_the_last_third_of_their_life(tmp_path: Path, clock: Any) -> None:
    pki.ensure(tmp_path, clock)
    clock.forward(days=4, hours=14)
    assert pki.ensure(tmp_path, clock) == []
    ca = (tmp_path / "ca.pem").read_bytes()
    clock.forward(hours=4)
    assert _names(pki.ensure(tmp_path, clock)) == [("server.pem", True), ("client.pem", True)]
    assert (tmp_path / "ca.pem").read_bytes() == ca
    clock.forward(days=30)
    assert len(pki.ensure(tmp_path, clock)) == 2


def test_one_leaf_that_is_missing_is_made_and_the_other_left_alone(pki_dir: Path) -> None:
    server = (pki_dir / "server.pem").read_bytes()
    (pki_dir / "client-key.pem").unlink()
    assert _names(pki.ensure(pki_dir)) == [("client.pem", True)]
    assert (pki_dir / "server.pem").read_bytes() == server


@pytest.mark.parametrize("days", [65, 200])
def test_the_ca_is_renewed_before_or_after_its_end_and_all_leaves_with_it(
    tmp_path: Path, clock: Any, days: int
) -> None:
    pki.ensure(tmp_path, clock)
    old = _certificate(tmp_path, "ca")
    clock.forward(days=days)
    renewed = _names(pki.ensure(tmp_path, clock))
    assert renewed == [("ca.pem", True), ("server.pem", True), ("client.pem", True)]
    new = _certificate(tmp_path, "ca")
    assert (new.not_valid_after_utc - clock()).days == 90
    assert issued_by(_certificate(tmp_path, "server"), new)
    # Its key stays: who trusts the old one until its end can go on.
    assert issued_by(_certificate(tmp_path, "server"), old)


def test_a_leaf_never_outlives_its_ca(tmp_path: Path, clock: Any) -> None:
    for _ in range(50):
        pki.ensure(tmp_path, clock)
        ca = _certificate(tmp_path, "ca")
        for name in ("server", "client"):
            assert _certificate(tmp_path, name).not_valid_after_utc <= ca.not_valid_after_utc
        clock.forward(days=3)


def test_leaves_of_another_ca_are_renewed(tmp_path: Path, pki_dir: Path) -> None:
    pki.ensure(tmp_path / "other")
    for name in ("ca.pem", "ca-key.pem"):
        (pki_dir / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert _names(pki.ensure(pki_dir)) == [("server.pem", True), ("client.pem", True)]


def test_a_foreign_ca_without_its_key_is_used_but_not_issued_from(pki_dir: Path) -> None:
    (pki_dir / "ca-key.pem").unlink()
    assert pki.ensure(pki_dir) == []
    before = (pki_dir / "ca.pem").read_bytes()
    (pki_dir / "server.pem").unlink()
    with pytest.raises(OperatorError, match=r"without ca-key\.pem; add the key, name your own"):
        pki.ensure(pki_dir)
    assert (pki_dir / "ca.pem").read_bytes() == before


def test_a_ca_with_the_key_of_another_is_refused(tmp_path: Path, pki_dir: Path) -> None:
    pki.ensure(tmp_path / "other")
    (pki_dir / "ca-key.pem").write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
    (pki_dir / "client.pem").unlink()
    with pytest.raises(OperatorError, match="is not the key of"):
        pki.ensure(pki_dir)


def test_an_expired_ca_of_others_is_not_written_over(tmp_path: Path, clock: Any) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    pki.ensure(mine, clock)
    pki.ensure(other, clock)
    foreign = (other / "ca.pem").read_bytes()
    (mine / "ca.pem").write_bytes(foreign)
    clock.forward(days=91)
    with pytest.raises(OperatorError, match="is not the key of"):
        pki.ensure(mine, clock)
    assert (mine / "ca.pem").read_bytes() == foreign


def test_a_leaf_in_the_place_of_the_ca_is_refused(pki_dir: Path) -> None:
    (pki_dir / "ca.pem").write_bytes((pki_dir / "server.pem").read_bytes())
    with pytest.raises(OperatorError, match="is not the certificate of a CA"):
        pki.ensure(pki_dir)


def test_a_start_that_died_between_key_and_certificate_is_completed(pki_dir: Path) -> None:
    (pki_dir / "ca.pem").unlink()
    key = (pki_dir / "ca-key.pem").read_bytes()
    assert ("ca.pem", False) in _names(pki.ensure(pki_dir))
    assert (pki_dir / "ca-key.pem").read_bytes() == key
    assert pki.ensure(pki_dir) == []


def test_a_directory_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"cannot write certificates to .*; make it writable"):
        pki.ensure(tmp_path / "file" / "pki")


def test_two_starts_at_once_agree(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from kotaemon_grpc.transport import pki; "
        "print(len(pki.ensure(pathlib.Path(sys.argv[1]))))"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "pki")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    made = sorted(start.communicate()[0].strip() for start in starts)
    assert made == ["0", "0", "3"]
    assert pki.ensure(tmp_path / "pki") == []


def test_issue_names_what_it_is_told_to(tmp_path: Path, pki_dir: Path, clock: Any) -> None:
    subject = Subject(
        "edge",
        sans=("edge.example.org", "*.edge.example.org", "10.0.0.7"),
        spiffe="spiffe://example.org/ns/a/sa/edge",
        usages=(Usage.CLIENT,),
    )
    out = tmp_path / "out"
    certificate, key = pki.issue(pki_dir, "edge", subject, days=3, out=out, clock=clock)
    assert (certificate, key) == (out / "edge.pem", out / "edge-key.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    found = describe(certificate, pki_dir / "ca.pem", clock)
    assert found.sans == subject.sans
    assert found.spiffe == subject.spiffe
    assert found.remaining.days == 3
    assert found.chains
    usages = _extension(_certificate(out, "edge"), x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize(
    ("name", "subject", "days", "expected"),
    [
        ("server", Subject("server"), 1, "cannot name a certificate"),
        ("../x", Subject("x"), 1, "cannot name a certificate"),
        ("x", Subject("x", sans=("not a name",)), 1, "neither a DNS name nor an IP address"),
        ("x", Subject("x", spiffe="http://example.org"), 1, "is no SPIFFE ID"),
        ("x", Subject("x", spiffe="spiffe://example.org/../b"), 1, "is no SPIFFE ID"),
        ("x", Subject("x"), 91, "choose 1 to 9?[089]"),
        ("x", Subject("x"), 0, "0 days are not possible"),
    ],
)
def test_issue_refuses_what_makes_no_good_certificate(
    pki_dir: Path, name: str, subject: Subject, days: int, expected: str
) -> None:
    with pytest.raises(OperatorError, match=expected):
        pki.issue(pki_dir, name, subject, days=days)
    assert {path.name for path in pki_dir.iterdir()} == FILES | {".lock"}


def test_issue_overwrites_nothing(pki_dir: Path) -> None:
    certificate, _ = pki.issue(pki_dir, "a", Subject("a"))
    before = certificate.read_bytes()
    with pytest.raises(OperatorError, match=r"a\.pem exists"):
        pki.issue(pki_dir, "a", Subject("a"))
    assert certificate.read_bytes() == before


def test_describe_tells_an_expired_stranger(tmp_path: Path, pki_dir: Path, clock: Any) -> None:
    pki.ensure(tmp_path / "other", clock)
    clock.forward(days=8)
    found = describe(tmp_path / "other" / "server.pem", pki_dir / "ca.pem", clock)
    assert found.chains is False
    assert found.remaining.total_seconds() < 0
    assert len(found.sha256.split(":")) == 32
