"""What clients show to say who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.client import ConfigurationError
from kotaemon_grpc.client.credentials import ApiKey, ApiKeyFile, StaticToken, TokenFile
from kotaemon_grpc.client.errors import CredentialsError

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = {
    StaticToken: ("authorization", "Bearer s3cret"),
    ApiKey: ("x-api-key", "s3cret"),
    TokenFile: ("authorization", "Bearer s3cret"),
    ApiKeyFile: ("x-api-key", "s3cret"),
}
FILES = (TokenFile, ApiKeyFile)


def write(path: Path, content: bytes) -> Path:
    """Put a file in its place at once, as operators are to do."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)
    return path


async def shown(credentials: TokenFile | ApiKeyFile) -> str:
    ((_, value),) = await credentials.metadata()
    return value.removeprefix("Bearer ")


@pytest.mark.parametrize("kind", HEADERS)
async def test_a_secret_is_shown_to_servers_and_to_nobody_else(kind: type, tmp_path: Path) -> None:
    path = write(tmp_path / "secret", b"s3cret\n")
    credentials = kind(path) if kind in FILES else kind("s3cret")
    assert await credentials.metadata() == (HEADERS[kind],)
    credentials.expired()
    assert await credentials.metadata() == (HEADERS[kind],)
    assert "s3cret" not in f"{credentials!r} {credentials}"


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("secret", ["", " ", "a b", "a\nb", "é", "a\x00"])
def test_what_cannot_be_shown_is_refused(kind: type, secret: str, tmp_path: Path) -> None:
    path = write(tmp_path / "secret", secret.encode())
    with pytest.raises(ConfigurationError) as raised:
        kind(path) if kind in FILES else kind(secret)
    assert not secret.strip() or secret not in str(raised.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_read_is_named(kind: type, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        kind(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="more than"):
        kind(write(tmp_path / "secret", b"x" * 100_000))


@pytest.mark.parametrize("kind", FILES)
async def test_a_file_is_read_again_when_it_is_replaced(kind: type, tmp_path: Path) -> None:
    path = write(tmp_path / "secret", b"first")
    credentials = kind(path)
    assert await shown(credentials) == "first"
    write(path, b"other")
    assert await shown(credentials) == "other"


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("harm", ["removed", "emptied", "spoilt"])
async def test_the_last_good_secret_is_used_until_a_server_says_that_it_expired(
    kind: type, harm: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "secret", b"first")
    credentials = kind(path)
    match harm:
        case "removed":
            path.unlink()
        case "emptied":
            write(path, b"")
        case "spoilt":
            write(path, b"not one but several words")
    assert await shown(credentials) == "first"
    credentials.expired()
    with pytest.raises(CredentialsError) as raised:
        await shown(credentials)
    assert str(path) in str(raised.value)
    assert "several" not in str(raised.value)
    write(path, b"second")
    assert await shown(credentials) == "second"
