"""Each listener accepts what it is told to accept, and keys change while the server runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from grpc_channelz.v1 import channelz_pb2

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import Callable

LIST = "kotaemon.v2.ConversationService/ListConversations"
REQUEST = pb.ListConversationsRequest()
MISSING, MALFORMED, NOT_TRUSTED = (
    f"CREDENTIALS_{problem}" for problem in ("MISSING", "MALFORMED", "NOT_TRUSTED")
)
HANDSHAKE = "UNAVAILABLE"  # it failed: no call was made that could be answered

# Per listener: what is shown, and the answer. A certificate is named by its file's name.
ACCEPTED: dict[str, dict[tuple[str, ...], str]] = {
    "certificate": {
        (): HANDSHAKE,
        ("token",): HANDSHAKE,
        ("client",): "OK",
        ("client", "bad token"): "OK",
        ("client", "bad key"): "OK",
        ("client", "token", "key"): "OK",
        ("unbound", "token"): "METHOD_NOT_ALLOWED",
    },
    "certificate+jwt": {
        ("token",): HANDSHAKE,
        ("client",): MISSING,
        ("client", "key"): MISSING,
        ("client", "token"): "OK",
        ("client", "bad token"): NOT_TRUSTED,
        ("acme", "token"): "OK",
        ("globex", "token"): NOT_TRUSTED,
    },
    "certificate+api_key": {
        ("key",): HANDSHAKE,
        ("client",): MISSING,
        ("client", "token"): MISSING,
        ("client", "key"): "OK",
        ("client", "bad key"): NOT_TRUSTED,
        ("acme", "key"): "OK",
        ("globex", "key"): NOT_TRUSTED,
    },
    "jwt": {
        (): MISSING,
        ("client",): MISSING,
        ("key",): MISSING,
        ("token",): "OK",
        ("client", "token"): "OK",
        ("token", "bad key"): "OK",
    },
    "api_key": {
        (): MISSING,
        ("client",): MISSING,
        ("token",): MISSING,
        ("key",): "OK",
        ("key", "bad token"): "OK",
    },
    "jwt, api_key": {
        (): MISSING,
        ("client",): MISSING,
        ("token",): "OK",
        ("key",): "OK",
        ("token", "key"): MALFORMED,
        ("bad token",): NOT_TRUSTED,
        ("bad key",): NOT_TRUSTED,
    },
    "jwt over 1.3": {(): MISSING, ("key",): MISSING, ("token",): "OK"},
}


@pytest.mark.parametrize(
    ("listener", "shown"), [(name, shown) for name, rows in ACCEPTED.items() for shown in rows]
)
async def test_a_listener_accepts_its_credentials_alone(
    house: Any, listener: str, shown: tuple[str, ...]
) -> None:
    idp = house.issuers["rs"]
    metadata = {
        "token": {"authorization": f"Bearer {idp.token('acme', 'user')}"},
        "bad token": {"authorization": f"Bearer {idp.forged('acme', 'admin')}"},
        "key": {"x-api-key": house.key},
        "bad key": {"x-api-key": f"{house.key[:-3]}AAA"},
    }
    sent = {key: value for each in shown for key, value in metadata.get(each, {}).items()}
    certificate = next((each for each in shown if each not in metadata), "")
    reply = await house.call(LIST, REQUEST, listener=listener, certificate=certificate, shown=sent)
    expected = ACCEPTED[listener][shown]
    if expected == HANDSHAKE:
        assert (reply.code, reply.reason) == (HANDSHAKE, "")
    else:
        assert (reply.reason or reply.code) == expected


@pytest.mark.parametrize("issuer", ["rs", "es", "ed"])
async def test_tokens_of_every_algorithm_are_accepted(house: Any, issuer: str) -> None:
    """The keys of "ed" come from a web server, those of the others from files."""
    token = house.issuers[issuer].token("acme", "user")
    shown = {"authorization": f"Bearer {token}"}
    assert (await house.call(LIST, REQUEST, shown=shown)).code == "OK"


def forged(house: Any) -> dict[str, str]:
    rs, es = house.issuers["rs"], house.issuers["es"]
    claims = {"iss": rs.url, "aud": "agents", "sub": "mallory", "exp": time.time() + 600}
    claims |= {"tenant": "acme", "scope": "admin"}
    header = {"kid": rs.kid}
    return {
        "of an issuer that nobody knows": rs.token("acme", "admin", iss="https://evil.example"),
        "of one issuer in the name of another": es.token("acme", "admin", iss=rs.url),
        "for others": rs.token("acme", "admin", aud="somebody-else"),
        "without a tenant": rs.token(None, "admin"),
        "with a tenant that is none": rs.token("../globex", "admin"),
        "signed by nobody": jwt.encode(claims, None, "none", header),
        "signed with what is public": jwt.encode(claims, rs.public["n"], "HS256", header),
        "bound to a certificate that is not shown": rs.token(
            "acme", "admin", cnf={"x5t#S256": "A" * 43}
        ),
    }


async def test_forged_tokens_are_refused(house: Any) -> None:
    for kind, token in forged(house).items():
        reply = await house.call(LIST, REQUEST, shown={"authorization": f"Bearer {token}"})
        assert reply.code == "UNAUTHENTICATED", kind
        # One that nobody has signed is not even in the form of a token.
        expected = MALFORMED if kind == "signed by nobody" else NOT_TRUSTED
        assert reply.reason == expected, kind


async def test_a_binding_can_be_for_one_tenant(house: Any) -> None:
    for tenant, code in (("acme", "OK"), ("globex", "PERMISSION_DENIED")):
        shown = house.bearer(tenant, sub="bound-subject")
        assert (await house.call(LIST, REQUEST, shown=shown)).code == code


async def test_a_scope_grants_no_role_that_is_not_configured_for_it(house: Any) -> None:
    reply = await house.call(LIST, REQUEST, shown=house.bearer("acme", "root", "*"))
    assert reply.reason == "METHOD_NOT_ALLOWED"


async def test_the_developer_may_do_all_and_others_of_the_ca_nothing_until_bound(
    house: Any,
) -> None:
    channelz = "grpc.channelz.v1.Channelz/GetServers"
    request = channelz_pb2.GetServersRequest()
    for certificate, listed, looked in (
        ("client", "OK", "OK"),
        ("bound", "OK", "PERMISSION_DENIED"),
        ("unbound", "PERMISSION_DENIED", "PERMISSION_DENIED"),
    ):
        with house.channel("certificate", certificate) as channel:
            assert (await house.call(LIST, REQUEST, channel=channel)).code == listed
            assert (await house.call(channelz, request, channel=channel)).code == looked


async def test_plaintext_has_anonymous_administrators_on_this_machine_alone(
    start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    server = start("--insecure")
    async with grpc.aio.insecure_channel(server.address) as channel:
        documents = stubs.DocumentServiceStub(channel)
        request = pb.CreateDocumentRequest(
            parent="collections/c", document=pb.Document(uri="file:///a.md"), content=b"# A\n\nB."
        )
        await documents.CreateDocument(request, metadata=(("authorization", "Bearer nonsense"),))
    assert server.stop() == 0
    (line,) = [line for line in server.lines if line["event"] == "audit.write"]
    assert (line["principal"], line["tenant"]) == ("anonymous", "default")
    for address in ("0.0.0.0:0", "[::]:0"):
        done = command("serve", "--insecure", f"--listen={address}")
        assert done.returncode == 1
        assert "choose a loopback address" in done.stderr


@pytest.mark.parametrize("name", ["turning", "ed"])
async def test_new_keys_of_an_issuer_take_the_place_of_the_old(house: Any, name: str) -> None:
    issuer = house.issuers[name]

    async def answer(token: str) -> str:
        reply = await house.call(LIST, REQUEST, shown={"authorization": f"Bearer {token}"})
        return reply.reason or reply.code

    used, unused = (issuer.token("acme", "user", sub=sub) for sub in ("used", "unused"))
    assert await answer(used) == "OK"
    issuer.rotate()
    new = issuer.token("acme", "user")

    async def new_is_good() -> bool:
        return await answer(new) == "OK"

    await house.until(new_is_good)
    assert await answer(used) == NOT_TRUSTED
    assert await answer(unused) == NOT_TRUSTED


async def test_keys_that_are_made_and_revoked_are_noticed(house: Any) -> None:
    key = house.create_key("passing", "acme", "user")

    async def is_answered(reason: str) -> bool:
        reply = await house.call(LIST, REQUEST, listener="api_key", shown={"x-api-key": key})
        return reply.reason == reason

    await house.until(lambda: is_answered(""))
    house.revoke_key(key)
    await house.until(lambda: is_answered("CREDENTIALS_REVOKED"))


async def test_while_keys_cannot_be_read_the_last_good_ones_are_used(house: Any) -> None:
    token = house.issuers["turning"].token("acme", "user")
    jwks = house.directory / "turning.json"
    for file, what, listener, shown in (
        (jwks, "jwks", "jwt", {"authorization": f"Bearer {token}"}),
        (house.key_file, "api_keys", "api_key", {"x-api-key": house.key}),
    ):
        await check_reload(house, file, what, listener, shown)


async def check_reload(
    house: Any, file: Any, what: str, listener: str, shown: dict[str, str]
) -> None:
    def failures() -> float:
        return house.metric("kotaemon_grpc_reload_failures_total", what=what)

    before, good = failures(), file.read_bytes()
    assert f"{file}up to date" in house.page()
    file.write_bytes(b"{ this is no JSON")

    async def is_counted() -> bool:
        return failures() > before

    async def is_mended() -> bool:
        return f"{file}up to date" in house.page()

    try:
        await house.until(is_counted)
        assert f"{file}it is " in house.page()
        reply = await house.call(LIST, REQUEST, listener=listener, shown=shown)
        assert reply.code == "OK"
    finally:
        file.write_bytes(good)
    await house.until(is_mended)
    reply = await house.call(LIST, REQUEST, listener=listener, shown=shown)
    assert reply.code == "OK"
