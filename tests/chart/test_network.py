"""Who reaches the server, and whom it reaches."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import pytest
from tests.chart.helm import (
    FILES,
    of_kind,
    only,
    pods,
    server,
    settings_text,
    volumes,
    workload,
)

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest


# Where an empty `to` leads: not to what hands out the credentials of a node.
ANYWHERE = [
    {"namespaceSelector": {}},
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16", "100.100.100.200/32"]}},
    {
        "ipBlock": {
            "cidr": "::/0",
            "except": ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"],
        }
    },
]


def policy(manifests: list[Manifest]) -> Manifest:
    return only(manifests, "NetworkPolicy", "agents-kotaemon-grpc")["spec"]


def test_further_listener_is_reached(helm_4: Helm) -> None:
    issuer = {"name": "a", "issuer": "b", "audiences": ["c"], "jwks": "https://d.example:8443/jwks"}
    listener = {
        "name": "tokens",
        "port": 50061,
        "credentials": ["jwt"],
        "minVersion": "1.3",
        "secretName": "tokens-tls",
    }
    manifests = helm_4.render(
        {
            "listeners": [listener],
            "config": {"identity": {"issuers": [issuer]}},
            "ingress": {"enabled": True, "hosts": ["a.example"], "listener": "tokens"},
        }
    )
    assert {"name": "tokens", "containerPort": 50061, "protocol": "TCP"} in server(manifests)[
        "ports"
    ]
    for suffix in ("agents-kotaemon-grpc", "-headless"):
        ports = only(manifests, "Service", suffix)["spec"]["ports"]
        assert [each["port"] for each in ports] == [50051, 50061]
    assert {"port": 50061, "protocol": "TCP"} in policy(manifests)["ingress"][0]["ports"]
    assert f"{FILES}/tls-tokens/tls.crt" in settings_text(manifests)
    assert volumes(manifests)["files-tls-tokens"]["secret"]["secretName"] == "tokens-tls"
    path = only(manifests, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]
    assert path["backend"]["service"]["port"] == {"number": 50061}
    # The key set is fetched, so its port is let out to.
    rule = {"ports": [{"port": 8443, "protocol": "TCP"}], "to": ANYWHERE}
    assert rule in policy(manifests)["egress"]


def test_headless_service_has_the_ports_of_the_pods(helm_4: Helm) -> None:
    manifests = helm_4.render({"service": {"port": 443}})
    headless = only(manifests, "Service", "-headless")["spec"]
    assert headless["clusterIP"] == "None"
    (port,) = headless["ports"]
    assert port["port"] == 50051
    (port,) = only(manifests, "Service", "agents-kotaemon-grpc")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "grpc")
    assert (
        "agents-kotaemon-grpc.agents.svc:443"
        in only(manifests, "Pod")["spec"]["containers"][0]["args"]
    )


def test_network_is_closed_but_for_what_is_configured(helm_4: Helm) -> None:
    closed = policy(helm_4.render())
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    calls, operations = closed["ingress"]
    assert calls == {"ports": [{"port": 50051, "protocol": "TCP"}]}
    assert operations["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    (names,) = closed["egress"]
    assert {each["port"] for each in names["ports"]} == {53}
    peer = {"ipBlock": {"cidr": "192.0.2.0/24"}}
    opened = policy(
        helm_4.render(
            {
                "config": {"traces": {"endpoint": "collector.example:4317"}},
                "networkPolicy": {
                    "grpc": {"from": [peer]},
                    "egress": {
                        "llm": {"ports": [443]},
                        "database": {"ports": [5432], "to": [peer]},
                    },
                },
            }
        )
    )
    assert opened["egress"][1:] == [
        {"ports": [{"port": 4317, "protocol": "TCP"}], "to": ANYWHERE},
        {"ports": [{"port": 443, "protocol": "TCP"}], "to": ANYWHERE},
        {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [peer]},
    ]
    # No port is none, and not all of them.
    shut = {"networkPolicy": {"egress": {"dns": {"ports": []}}}}
    assert policy(helm_4.render(shut))["egress"] == []
    # The test still gets in.
    assert len(opened["ingress"][0]["from"]) == 2
    assert of_kind(helm_4.render({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


def test_no_rule_without_peers_leads_to_what_has_credentials_of_the_node(helm_4: Helm) -> None:
    everywhere: list[Any] = []
    ports = {"ports": [80], "to": everywhere}
    names = ("dns", "otlp", "jwks", "llm", "database")
    values = {
        "networkPolicy": {"egress": dict.fromkeys(names, ports)},
        "test": {"host": "agents.example"},
    }
    manifests = helm_4.render(values)
    rules = policy(manifests)["egress"]
    assert len(rules) == len(names)
    to_others = only(manifests, "NetworkPolicy", "-test")["spec"]["egress"][:2]
    metadata = [
        *("169.254.169.254", "169.254.170.2", "100.100.100.200"),
        *("fe80::a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254"),
    ]
    blocks = [each["ipBlock"] for rule in [*rules, *to_others] for each in rule["to"][1:]]
    assert len(blocks) == 2 * (len(names) + 2)
    for address in map(ipaddress.ip_address, metadata):
        for block in blocks:
            if address in ipaddress.ip_network(block["cidr"]):
                assert any(address in ipaddress.ip_network(each) for each in block["except"])
    # By default the DNS cache on the node is listed by itself.
    (dns,) = policy(helm_4.render())["egress"]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns["to"]


def test_service_monitor_follows_the_port(helm_4: Helm) -> None:
    plain = only(helm_4.render({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]
    assert plain["endpoints"][0]["scheme"] == "http"
    assert "tlsConfig" not in plain["endpoints"][0]
    manifests = helm_4.render(
        {"serviceMonitor": {"enabled": True}, "operations": {"tls": {"enabled": True}}}
    )
    spec = only(manifests, "ServiceMonitor")["spec"]
    assert spec["endpoints"][0]["scheme"] == "https"
    assert spec["endpoints"][0]["tlsConfig"] == {
        "serverName": "agents-kotaemon-grpc-operations.agents.svc",
        "ca": {"secret": {"name": "agents-kotaemon-grpc-tls", "key": "ca.crt"}},
    }
    assert f'certificate = "{FILES}/tls/tls.crt"' in settings_text(manifests).split("[server]")[0]
    # It finds one Service, so that nothing is scraped twice.
    chosen = spec["selector"]["matchLabels"].items()
    found = [
        each
        for each in of_kind(manifests, "Service")
        if chosen <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in found] == ["agents-kotaemon-grpc-operations"]


def test_tls_route_takes_the_version_that_the_cluster_has(helm_4: Helm) -> None:
    values = {
        "tlsRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["a.example"]}
    }

    def version(*known: str, **more: str) -> str:
        merged = {"tlsRoute": values["tlsRoute"] | more}
        api_versions = tuple(f"gateway.networking.k8s.io/{each}/TLSRoute" for each in known)
        route = only(helm_4.render(merged, api_versions=api_versions), "TLSRoute")
        return route["apiVersion"].rpartition("/")[2]

    assert version() == "v1"
    assert version("v1alpha2") == "v1alpha2"
    assert version("v1alpha2", "v1alpha3") == "v1alpha3"
    assert version("v1alpha3", "v1") == "v1"
    assert version("v1", apiVersion="gateway.networking.k8s.io/v1alpha2") == "v1alpha2"


def test_gateway_checks_the_server(helm_4: Helm) -> None:
    route: dict[str, Any] = {
        "enabled": True,
        "parentRefs": [{"name": "g"}],
        "hostnames": ["a.example"],
    }
    manifests = helm_4.render({"grpcRoute": route})
    assert only(manifests, "GRPCRoute")["spec"]["rules"] == [
        {"backendRefs": [{"name": "agents-kotaemon-grpc", "port": 50051}]}
    ]
    validation = only(manifests, "BackendTLSPolicy")["spec"]["validation"]
    assert validation == {
        "hostname": "agents-kotaemon-grpc.agents.svc",
        "wellKnownCACertificates": "System",
    }

    def version(*known: str, given: str = "") -> str:
        values = {"grpcRoute": route | {"backendTLS": {"apiVersion": given}}}
        apis = tuple(f"gateway.networking.k8s.io/{each}/BackendTLSPolicy" for each in known)
        policy = only(helm_4.render(values, api_versions=apis), "BackendTLSPolicy")
        return policy["apiVersion"].rpartition("/")[2]

    assert version() == "v1"
    assert version("v1alpha3") == "v1alpha3"
    assert version("v1alpha3", "v1") == "v1"
    assert version("v1", given="gateway.networking.k8s.io/v1alpha3") == "v1alpha3"


def test_test_calls_over_mutual_tls(helm_4: Helm) -> None:
    manifests = helm_4.render({"test": {"secretName": "mine"}})
    pod = only(manifests, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    arguments = pod["spec"]["containers"][0]["args"]
    assert arguments[:2] == ["documents", "list"]
    assert arguments[arguments.index("--target") + 1] == "agents-kotaemon-grpc.agents.svc:50051"
    assert {"--ca", "--certificate", "--key"} < set(arguments)
    # It is no pod of the Service.
    selector = only(manifests, "Service", "agents-kotaemon-grpc")["spec"]["selector"]
    assert not selector.items() <= pod["metadata"]["labels"].items()
    assert of_kind(helm_4.render({"test": {"enabled": False}}), "Pod", "Certificate") == []


@pytest.mark.parametrize(
    ("credentials", "shown"),
    [
        (["certificate"], ["--certificate", "--key"]),
        (["certificate+jwt", "certificate"], ["--certificate", "--key"]),
        (["certificate+jwt"], ["--certificate", "--key", "--token-file"]),
        (["certificate+api_key"], ["--certificate", "--key", "--api-key-file"]),
        (["jwt", "api_key"], ["--token-file"]),
        (["api_key"], ["--api-key-file"]),
    ],
)
def test_test_shows_what_the_listener_takes(
    helm_4: Helm, credentials: list[str], shown: list[str]
) -> None:
    issuer = {"name": "a", "issuer": "b", "audiences": ["c"], "jwks": "https://d.example/jwks"}
    values = {
        "credentials": credentials,
        "apiKeys": {"existingSecret": "keys"},
        "config": {"identity": {"issuers": [issuer]}},
        "test": {"secretName": "mine"},
    }
    pod = only(helm_4.render(values), "Pod")["spec"]
    options = [each for each in pod["containers"][0]["args"] if each.startswith("--")]
    assert options == ["--target", "--ca", *shown, "--timeout"]
    # Helm's notes say how to make that Secret, and how to call from elsewhere, with the same.
    notes = helm_4.notes(values)
    files = {
        "--certificate": "--from-file=tls.crt=client.pem",
        "--key": "--from-file=tls.key=client-key.pem",
        "--token-file": "--from-file=token",
        "--api-key-file": "--from-file=api-key",
    }
    command = next(line for line in notes.splitlines() if "documents list" in line)
    secret = notes.partition("create secret generic mine")[2].partition("helm -n")[0]
    for option, file in files.items():
        assert (option in command) == (option in shown)
        assert (file in secret.split()) == (option in shown)


def test_notes_make_no_secret_that_cert_manager_makes(helm_4: Helm) -> None:
    manager = {"enabled": True, "issuerRef": {"name": "ca"}, "client": {"enabled": True}}
    notes = helm_4.notes({"tls": {"certManager": manager}})
    assert "create secret" not in notes
    assert "helm -n agents test agents --logs" in notes
    assert "NOBODY HAS A ROLE" not in notes
    assert "NOBODY HAS A ROLE" in helm_4.notes({})


def test_test_goes_where_the_pods_go(helm_4: Helm) -> None:
    placement = {
        "nodeSelector": {"pool": "a"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "schedulerName": "other",
        "dnsPolicy": "Default",
        "dnsConfig": {"nameservers": ["192.0.2.1"]},
        "hostAliases": [{"ip": "192.0.2.2", "hostnames": ["a.example"]}],
        "affinity": {"nodeAffinity": {}},
    }
    manifests = helm_4.render(placement)
    for _, _, spec in pods(manifests):
        assert {key: spec[key] for key in placement} == placement


def test_test_of_another_host_is_let_out_to_it(helm_4: Helm) -> None:
    manifests = helm_4.render()
    own = only(manifests, "NetworkPolicy", "-test")["spec"]["egress"]
    assert all("to" in rule for rule in own)
    # By itself it is let out to the pods of the server.
    (servers,) = own[-1]["to"]
    labels = workload(manifests)["spec"]["template"]["metadata"]["labels"]
    assert servers["podSelector"]["matchLabels"].items() <= labels.items()
    values = {"test": {"host": "agents.example.org"}, "service": {"port": 443}}
    other = only(helm_4.render(values), "NetworkPolicy", "-test")["spec"]["egress"]
    assert {"ports": [{"port": 443, "protocol": "TCP"}], "to": ANYWHERE} in other
