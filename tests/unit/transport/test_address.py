from __future__ import annotations

import pytest

from kotaemon_grpc.transport.address import Address, parse_address


@pytest.mark.parametrize(
    "text", ["127.0.0.1:0", "localhost:65535", "[::1]:50051", "0.0.0.0:1", "a-b.example.org:80"]
)
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", ":1", "localhost:", "localhost:x", "localhost:-1", "localhost:65536"),
        *("::1:1", "[::1]", "[127.0.0.1]:1", "[::1:1", "a b:1", "1.2.3:1", "http://a:1", "a:٣"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|port|host|brackets"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_only_this_machine_reaches_loopback(host: str, loopback: object) -> None:
    assert Address(host, 1).is_loopback is loopback
