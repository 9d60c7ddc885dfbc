"""The settings of a server with a listener for each kind of credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .providers import AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .providers import Issuer

LISTENERS = {
    "certificate+jwt": '["certificate+jwt"]',
    "certificate+api_key": '["certificate+api_key"]',
    "jwt": '["jwt"]',
    "api_key": '["api_key"]',
    "jwt, api_key": '["jwt", "api_key"]',
    "jwt over 1.3": '["jwt"]\nmin_version = "1.3"',
}
_ROLES = ("user", "editor", "admin", "stranger", "elsewhere", "planner")
_ACCESS = r"""
[policy.roles.stranger]
methods = ["grpc.channelz.v1.Channelz/GetTopChannels"]
[policy.roles.elsewhere]
methods = ["*"]
collections = ["elsewhere"]
[policy.roles.planner]
methods = ["*"]
collections = ["plan*", "made"]
[[policy.bindings]]
principals = ["cn:bound"]
roles = ["user"]
[[policy.bindings]]
principals = ["rs:bound-*"]
tenants = ["acme"]
roles = ["user"]
[[identity.certificates]]
pattern = 'spiffe://example\.org/tenants/(?P<tenant>[a-z]+)/.+'
tenant = "{tenant}"
[[identity.certificates]]
pattern = '.*'
"""


def write_settings(
    directory: Path, certs: Path, issuers: Mapping[str, Issuer], key_file: Path, key_url: str
) -> Path:
    """Write the file. The keys of "ed" are behind a URL, those of the others in files."""
    scopes = ", ".join(f'{role} = ["{role}"]' for role in _ROLES)
    parts = ["[server]", 'credentials = ["certificate"]']
    for credentials in LISTENERS.values():
        parts += ["[[server.listeners]]", 'listen = "127.0.0.1:0"', f"credentials = {credentials}"]
    parts += ["[identity]", f'api_keys_file = "{key_file}"']
    for name, issuer in issuers.items():
        source = f"{key_url}/{name}" if name == "ed" else f"{directory}/{name}.json"
        parts += [
            "[[identity.issuers]]",
            f'name = "{name}"\nissuer = "{issuer.url}"\naudiences = ["{AUDIENCE}"]',
            f'jwks = "{source}"\njwks_ca = "{certs}/ca.pem"\nrefresh_s = 1.0',
            f'tenant_claim = "tenant"\nroles_by_scope = {{ {scopes} }}',
        ]
    file = directory / "settings.toml"
    file.write_text("\n".join(parts) + _ACCESS)
    return file
