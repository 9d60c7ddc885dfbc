"""Rules that cannot be meant are refused before they could mean something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

ISSUER = """
[[identity.issuers]]
name = "{name}"
issuer = "https://{name}.example.org"
audiences = ["agents"]
jwks = "{name}.json"
"""
CERTIFICATES = """
[[identity.certificates]]
pattern = '.*'
"""
LISTENER = """
[[server.listeners]]
listen = "127.0.0.1:1"
credentials = {credentials}
"""
MIXED = "a listener either asks every client for a certificate or none"
RESERVED = "the name of an issuer has lower-case letters"

# Settings, and what is said of them: of the place, and what is wrong there.
FAULTS: dict[str, tuple[str, str, str]] = {
    "a role without a method": (
        '[policy.roles.odd]\nmethods = ["kotaemon.v2.AgentService/*", "kotaemon.v3.*"]',
        "[policy] is not valid: ",
        'role "odd": no method matches "kotaemon.v3.*"',
    ),
    "a role that misspells a method": (
        '[policy.roles.odd]\nmethods = ["kotaemon.v2.agentservice/AskQuestion"]',
        "[policy] is not valid: ",
        'role "odd": no method matches "kotaemon.v2.agentservice/AskQuestion"',
    ),
    "a binding to no role": (
        '[[policy.bindings]]\nprincipals = ["*"]\nroles = ["user", "wizard"]',
        "[policy] is not valid: ",
        'a binding names the role "wizard", which is not defined',
    ),
    "a main listener that mixes": (
        '[server]\ncredentials = ["certificate", "jwt"]',
        'config file {file}: "server.credentials" is not valid: ',
        MIXED,
    ),
    "a further listener that mixes": (
        LISTENER.format(credentials='["jwt"]')
        + LISTENER.format(credentials='["certificate+jwt", "api_key"]'),
        'config file {file}: "server.listeners" is not valid at 1.credentials: ',
        MIXED,
    ),
    "an unknown credential": (
        '[server]\ncredentials = ["password"]',
        'config file {file}: "server.credentials" is not valid at 0: ',
        "should be 'certificate', 'jwt'",
    ),
    "no credential": (
        "[server]\ncredentials = []",
        'config file {file}: "server.credentials" is not valid: ',
        "should have at least one item",
    ),
    "two issuers of one name": (
        ISSUER.format(name="corporate") * 2,
        'config file {file}: "identity.issuers" is not valid: ',
        "two issuers have the same name",
    ),
    "two issuers of one claim": (
        ISSUER.format(name="one") + ISSUER.format(name="two").replace("//two", "//one"),
        'config file {file}: "identity.issuers" is not valid: ',
        "two issuers have the same claim iss",
    ),
    "an issuer without a tenant": (
        ISSUER.format(name="good") + 'tenant = ""',
        'config file {file}: "identity.issuers" is not valid at 0.tenant: ',
        "a tenant has lower-case letters",
    ),
    "a scope that grants no role that is there": (
        ISSUER.format(name="good") + 'roles_by_scope = { all = ["user", "wizard"] }',
        "identity.issuers, good: ",
        'there is no role "wizard"',
    ),
    "a certificate that grants no role that is there": (
        CERTIFICATES + 'roles = ["wizard"]',
        "identity.certificates, 0: ",
        'there is no role "wizard"',
    ),
    "an issuer named as API keys are": (
        ISSUER.format(name="key"),
        'config file {file}: "identity.issuers" is not valid at 0.name: ',
        RESERVED,
    ),
    "an issuer named as certificates are": (
        ISSUER.format(name="good") + ISSUER.format(name="spiffe"),
        'config file {file}: "identity.issuers" is not valid at 1.name: ',
        RESERVED,
    ),
    "an issuer with a tenant that is none": (
        ISSUER.format(name="good") + 'tenant = "Acme Inc."',
        'config file {file}: "identity.issuers" is not valid at 0.tenant: ',
        "a tenant has lower-case letters",
    ),
    "an algorithm with a shared secret": (
        ISSUER.format(name="good") + 'algorithms = ["HS256"]',
        'config file {file}: "identity.issuers" is not valid at 0.algorithms.0: ',
        "should be 'RS256', 'ES256' or 'EdDSA'",
    ),
    "an issuer without an algorithm": (
        ISSUER.format(name="good") + "algorithms = []",
        'config file {file}: "identity.issuers" is not valid at 0.algorithms: ',
        "the algorithms are one or more of RS256, ES256, EdDSA",
    ),
    "keys that are fetched all the time": (
        ISSUER.format(name="good") + "refresh_s = 0.9",
        'config file {file}: "identity.issuers" is not valid at 0.refresh_s: ',
        "greater than or equal to 1",
    ),
    "a pattern that is none": (
        "[[identity.certificates]]\npattern = 'spiffe://(?P<tenant'",
        'config file {file}: "identity.certificates" is not valid at 0.pattern: ',
        "it is no regular expression",
    ),
    "a certificate's tenant that is none": (
        CERTIFICATES + 'tenant = "Acme Inc."',
        "identity.certificates, 0: ",
        "a tenant has lower-case letters",
    ),
    "a group that the pattern has not": (
        CERTIFICATES + CERTIFICATES.replace(".*", "cn:(?P<who>.+)") + 'principal = "{whom}"',
        "identity.certificates, 1: ",
        'has no group "whom"',
    ),
    "keys from where anybody can change them": (
        ISSUER.format(name="good").replace("good.json", "http://good.example.org/keys"),
        "identity.issuers, good: ",
        '"http://good.example.org/keys" is not https',
    ),
    "API keys without a file": (
        '[server]\ncredentials = ["api_key"]',
        'a listener accepts "api_key", ',
        'and nothing verifies it; set "identity.api_keys_file"',
    ),
    "tokens without an issuer": (
        LISTENER.format(credentials='["certificate+jwt"]'),
        'a listener accepts "jwt", ',
        'and nothing verifies it; set "identity.issuers"',
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_says_what_is_wrong_and_where(command: Command, tmp_path: Path, fault: str) -> None:
    settings, place, problem = FAULTS[fault]
    file = tmp_path / "settings.toml"
    file.write_text(settings)
    done = command("config", "check", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: " + place.replace("{file}", str(file)))
    assert problem in line


def test_check_says_all_that_is_wrong(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[policy.roles.odd]\nmethods = ["nothing", "nowhere"]\n'
        '[[policy.bindings]]\nprincipals = ["*"]\nroles = ["wizard"]\n'
    )
    lines = command("config", "check", str(file)).stderr.splitlines()
    assert [word for word in ("nothing", "nowhere", "wizard") if word in "".join(lines)] == [
        "nothing",
        "nowhere",
        "wizard",
    ]
    assert len(lines) == 3


@pytest.mark.parametrize(
    "fault",
    ["a role without a method", "a further listener that mixes", "API keys without a file"],
)
def test_serve_refuses_the_same(command: Command, tmp_path: Path, certs: Path, fault: str) -> None:
    settings, place, problem = FAULTS[fault]
    file = tmp_path / "settings.toml"
    file.write_text(settings)
    done = command(
        *("serve", "--listen=127.0.0.1:0", "--health-listen=127.0.0.1:0"),
        *("--operations-listen=127.0.0.1:0", f"--certs={certs}", f"--config={file}"),
    )
    assert done.returncode == 1
    assert "server.serving" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: " + place.replace("{file}", str(file)))
    assert problem in line


def test_rules_that_can_be_meant_are_valid(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[server]\ncredentials = ["certificate", "certificate+jwt"]\n'
        + ISSUER.format(name="corporate")
        + '[policy.roles.asker]\nmethods = ["*/AskQuestion"]\ncollections = ["public-*"]\n'
        '[[policy.bindings]]\nprincipals = ["corporate:*"]\nroles = ["asker", "admin"]\n'
    )
    done = command("config", "check", str(file))
    assert (done.returncode, done.stderr) == (0, "")
