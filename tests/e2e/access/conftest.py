"""A server with a listener for each kind of credentials, and two tenants on it."""

from __future__ import annotations

import asyncio
import html
import re
import subprocess
import sys
import urllib.request
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as v2

from .calls import Reply, call_method
from .providers import Issuer, KeyServer
from .settings import LISTENERS, write_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

COMMAND = [sys.executable, "-c", "from kotaemon_grpc.cli import main; main()"]


class House:
    """The server, its identity providers and its keys."""

    def __init__(
        self,
        directory: Path,
        certs: Path,
        key_server: KeyServer,
        failure_of: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self.directory = directory
        self.certs = certs
        self.key_server = key_server
        self.key_file = directory / "api-keys.json"
        self.issuers = {
            name: Issuer(name, algorithm, (directory / f"{name}.json").write_bytes)
            for name, algorithm in {"rs": "RS256", "es": "ES256", "turning": "ES256"}.items()
        }
        self.issuers["ed"] = Issuer("ed", "EdDSA", lambda keys: key_server.sets.update(ed=keys))
        self.serving: Any = None
        self._failure_of = failure_of
        self.key = self.revoked_key = ""

    def run(self, *arguments: str) -> str:
        """Run the command line."""
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, check=True, cwd=self.directory
        )
        return done.stdout.strip()

    def create_key(self, principal: str, tenant: str, *roles: str) -> str:
        return self.run(
            *("keys", "create", f"--principal={principal}", f"--tenant={tenant}"),
            *(f"--role={role}" for role in roles),
            f"--file={self.key_file}",
        )

    def revoke_key(self, key: str) -> None:
        self.run("keys", "revoke", key.partition(".")[0], f"--file={self.key_file}")

    def address(self, listener: str) -> str:
        if listener == "certificate":
            return self.serving.address
        further = self.serving._serving["further_addresses"]  # noqa: SLF001 - the line it announced
        return dict(zip(LISTENERS, further, strict=True))[listener]

    def channel(self, listener: str = "jwt", certificate: str = "") -> grpc.Channel:
        """Open a channel; with a certificate, by its file's name."""
        shown = {}
        if certificate:
            shown = {
                "private_key": (self.certs / f"{certificate}-key.pem").read_bytes(),
                "certificate_chain": (self.certs / f"{certificate}.pem").read_bytes(),
            }
        credentials = grpc.ssl_channel_credentials((self.certs / "ca.pem").read_bytes(), **shown)
        return grpc.secure_channel(self.address(listener), credentials)

    def bearer(self, tenant: object, *roles: str, **claims: Any) -> dict[str, str]:
        """Make the metadata of a caller with a token."""
        return {"authorization": f"Bearer {self.issuers['rs'].token(tenant, *roles, **claims)}"}

    async def call(
        self,
        path: str,
        *requests: Message,
        shown: dict[str, str] | None = None,
        listener: str = "jwt",
        certificate: str = "",
        channel: grpc.Channel | None = None,
    ) -> Reply:
        """Call a method of any kind to its end, by a new channel if none is given."""
        if channel is not None:
            return await call_method(channel, path, list(requests), shown or {}, self._failure_of)
        with self.channel(listener, certificate) as opened:
            return await call_method(opened, path, list(requests), shown or {}, self._failure_of)

    def fetch(self, path: str) -> str:
        """Read a page of the operations port."""
        url = f"http://{self.serving.operations_address}{path}"
        with urllib.request.urlopen(url) as response:
            return response.read().decode()

    def page(self) -> str:
        """Read the page for people, without its markup."""
        return html.unescape(re.sub(r"<[^>]*>", "", self.fetch("/")))

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = re.findall(rf"^{name}(\S*) (\S+)$", self.fetch("/metrics"), re.MULTILINE)
        return sum(float(value) for shown, value in found if all(w in shown for w in wanted))

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Ask again and again until something holds; it fails if that takes too many times."""
        for _ in range(200):
            if await holds():
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it never came to hold")

    async def fill(self) -> None:
        """Give each tenant its documents and conversations."""
        for tenant, documents in DOCUMENTS.items():
            shown = self.bearer(tenant, "editor")
            with self.channel() as channel:
                for name, text in documents.items():
                    _, collection, _, document = name.split("/")
                    request = v2.CreateDocumentRequest(
                        parent=f"collections/{collection}",
                        document_id=document,
                        document=v2.Document(uri=f"file:///{tenant}/{document}.md"),
                        content=text.encode(),
                    )
                    await self._must("DocumentService/CreateDocument", request, shown, channel)
                for conversation in CONVERSATIONS[tenant]:
                    creation = v2.CreateConversationRequest(
                        conversation_id=conversation,
                        conversation=v2.Conversation(title=f"what {tenant} says"),
                    )
                    await self._must(
                        "ConversationService/CreateConversation", creation, shown, channel
                    )
                    for question in (
                        "When does the canteen open?",
                        "What is the colour of the rocket?",
                    ):
                        turn = v2.AskQuestionRequest(
                            question=question, conversation=f"conversations/{conversation}"
                        )
                        await self._must("AgentService/AskQuestion", turn, shown, channel)

    async def _must(
        self, method: str, request: Message, shown: dict[str, str], channel: grpc.Channel
    ) -> None:
        reply = await self.call(f"kotaemon.v2.{method}", request, shown=shown, channel=channel)
        assert reply.code == "OK", (method, request, reply.failure)


DOCUMENTS = {
    "acme": {
        "collections/default/documents/handbook": "# Handbook\n\nThe canteen opens at 11:42.",
        "collections/default/documents/rocket": "# R\n\nThe colour of the rocket is heliotrope.",
        "collections/plans/documents/plan": "# Plan\n\nThe rocket flies on a zephyrous Tuesday.",
        "collections/plans/documents/second": "# Second\n\nThe second rocket is vermilion.",
        "collections/made/documents/first": "# First\n\nThe first draft is quixotic.",
        "collections/plans/documents/doomed": "# Doomed\n\nNobody reads this.",
    },
    "globex": {
        "collections/default/documents/handbook": "# Handbook\n\nThe canteen opens at 07:15.",
        "collections/papers/documents/paper": "# Paper\n\nThe patent is about marmalade.",
        "collections/papers/documents/second": "# Second\n\nThe second patent is about toast.",
    },
}
CONVERSATIONS = {"acme": ("talk", "doomed", "third"), "globex": ("chatter", "gossip")}


@pytest.fixture(scope="session")
def make_house(failure_of: Any, issued: Path) -> Callable[..., House]:
    """Make a house, and start its server: `make_house(directory, key_server, serve)`."""

    def make(directory: Path, key_server: KeyServer, serve: Callable[[Path], Any]) -> House:
        house = House(directory, issued, key_server, failure_of)
        # Before the server starts, which needs the file, and would notice changes late.
        house.revoked_key = house.create_key("former", "acme", "admin")
        house.revoke_key(house.revoked_key)
        house.key = house.create_key("robot", "acme", "user")
        house.serving = serve(
            write_settings(directory, issued, house.issuers, house.key_file, key_server.url)
        )
        return house

    return make


@pytest.fixture(scope="session")
def issued(certs: Path) -> Path:
    """Have the development CA issue certificates for others than the developer."""

    def issue(name: str, *arguments: str) -> None:
        command = [*COMMAND, "certs", "issue", name, f"--dir={certs}", "--usage=client", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    issue("bound")
    issue("unbound")
    for tenant in DOCUMENTS:
        issue(tenant, f"--spiffe=spiffe://example.org/tenants/{tenant}/service")
    return certs


@pytest.fixture(scope="session")
def house(
    tmp_path_factory: pytest.TempPathFactory,
    make_house: Callable[..., House],
    serving_type: Any,
    issued: Path,
) -> Iterator[House]:
    """The server that most tests share. What they change has names of its own."""

    def serve(settings: Path) -> Any:
        return serving_type(
            f"--config={settings}", data_dir=tmp_path_factory.mktemp("data"), certs=issued
        )

    with closing(KeyServer(issued)) as key_server:
        house = make_house(tmp_path_factory.mktemp("access"), key_server, serve)
        try:
            asyncio.run(house.fill())
            yield house
        finally:
            status = house.serving.stop()
        assert status == 0


@pytest.fixture
def own_house(
    tmp_path: Path,
    make_house: Callable[..., House],
    certs: Path,
    start: Callable[..., Any],
) -> Iterator[House]:
    """A server of the test's own, that it may stop. It holds nothing."""

    def serve(settings: Path) -> Any:
        return start(f"--config={settings}", "--log-level=debug")

    with closing(KeyServer(certs)) as key_server:
        yield make_house(tmp_path, key_server, serve)


@pytest.fixture
def new_id() -> str:
    """An id that no other test uses."""
    return f"x{uuid.uuid4().hex}"
