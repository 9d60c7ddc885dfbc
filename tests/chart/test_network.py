"""Who reaches the server, and whom it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chart.helm import FILES, of_kind, only, server, settings_text, volumes

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest


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
    assert {"ports": [{"port": 8443, "protocol": "TCP"}]} in policy(manifests)["egress"]


def test_headless_service_has_the_ports_of_the_pods(helm_4: Helm) -> None:
    manifests = helm_4.render({"service": {"port": 443}})
    (port,) = only(manifests, "Service", "-headless")["spec"]["ports"]
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
        {"ports": [{"port": 4317, "protocol": "TCP"}]},
        {"ports": [{"port": 443, "protocol": "TCP"}]},
        {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [peer]},
    ]
    # The test still gets in.
    assert len(opened["ingress"][0]["from"]) == 2
    assert of_kind(helm_4.render({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


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
    route = {"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["a.example"]}
    manifests = helm_4.render({"grpcRoute": route})
    assert only(manifests, "GRPCRoute")["spec"]["rules"] == [
        {"backendRefs": [{"name": "agents-kotaemon-grpc", "port": 50051}]}
    ]
    validation = only(manifests, "BackendTLSPolicy")["spec"]["validation"]
    assert validation == {
        "hostname": "agents-kotaemon-grpc.agents.svc",
        "wellKnownCACertificates": "System",
    }


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
    keys = {"credentials": ["api_key"], "apiKeys": {"existingSecret": "a"}}
    assert of_kind(helm_4.render(keys), "Pod") == []
