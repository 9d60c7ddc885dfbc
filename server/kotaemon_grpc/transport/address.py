"""Where a listener listens: `host:port`, an IPv6 host in brackets (RFC 3986, section 3.2.2)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_PORT = 65535  # RFC 9293, section 3.1: a port is 16 bits
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}", re.ASCII)  # RFC 1123, section 2.1


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen on.

    Args:
        host: an IP address without brackets, or a name.
        port: 0 to 65535; 0 lets the system pick a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Of all names only `localhost` is believed."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:50051`, `localhost:0` or `[::1]:50051`.

    Raises:
        ValueError: it is not an address; the message says what is expected.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError('an address is "host:port", as "127.0.0.1:50051" or "[::1]:50051"')
    if not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise ValueError(f"the port is a number from 0 to {MAX_PORT}")
    return Address(_parse_host(host), int(port))


def _parse_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError("what stands in brackets is an IPv6 address") from None
    if ":" in host:
        raise ValueError('an IPv6 address stands in brackets, as "[::1]:50051"')
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("the host is an IP address or a host name")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("an IPv4 address is four numbers from 0 to 255") from None
    return host
