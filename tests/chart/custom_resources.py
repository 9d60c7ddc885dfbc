"""Schemas of the custom resources of the chart: what it may write of them, strictly.

Their definitions are no part of Kubernetes, so its schemas do not have them. These were held
against cert-manager 1.21, the Prometheus operator 0.93 and the Gateway API 1.6.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ns|us|ms|s|m|h))+$"}
_PROMETHEUS_DURATION: Schema = {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"}
_MAP: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_HOSTNAME: Schema = {
    "type": "string",
    "maxLength": 253,
    "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}
_DOMAIN: Schema = _HOSTNAME | {"pattern": _HOSTNAME["pattern"].replace(r"(\*\.)?", "")}


def _exactly(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {**required, **(optional or {})},
    }


def _many(items: Schema, least: int = 1, most: int = 1000) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


_PARENT = _exactly(
    {"name": _NAME},
    {
        "group": {"type": "string"},
        "kind": _TEXT,
        "namespace": _NAME,
        "sectionName": _NAME,
        "port": _PORT,
    },
)
_BACKEND = _exactly({"name": _NAME, "port": _PORT})
_SECRET_KEY = _exactly({"name": _NAME, "key": _TEXT})

_ROUTE_MATCH = _exactly(
    {},
    {
        "method": _exactly(
            {},
            {"type": {"enum": ["Exact", "RegularExpression"]}, "service": _TEXT, "method": _TEXT},
        ),
        "headers": _many({"type": "object", "required": ["name", "value"]}, most=16),
    },
)

_GRPC_ROUTE = _exactly(
    {
        "parentRefs": _many(_PARENT, most=32),
        "rules": _many(
            _exactly(
                {"backendRefs": _many(_BACKEND)},
                {
                    "matches": _many(_ROUTE_MATCH, most=8),
                    "filters": _many({"type": "object", "required": ["type"]}, most=16),
                },
            )
        ),
    },
    {"hostnames": _many(_HOSTNAME, most=16)},
)

_TLS_ROUTE = _exactly(
    {
        "parentRefs": _many(_PARENT, most=32),
        "hostnames": _many(_HOSTNAME, most=16),
        "rules": _many(_exactly({"backendRefs": _many(_BACKEND)}), most=1),
    }
)

_BACKEND_TLS = _exactly(
    {
        "targetRefs": _many(
            _exactly({"group": {"const": ""}, "kind": {"const": "Service"}, "name": _NAME})
        ),
        "validation": {
            "oneOf": [
                _exactly(
                    {
                        "hostname": _DOMAIN,
                        "caCertificateRefs": _many(
                            _exactly(
                                {
                                    "group": {"const": ""},
                                    "kind": {"const": "ConfigMap"},
                                    "name": _NAME,
                                }
                            )
                        ),
                    }
                ),
                _exactly({"hostname": _DOMAIN, "wellKnownCACertificates": {"const": "System"}}),
            ]
        },
    }
)

_CERTIFICATE = _exactly(
    {
        "secretName": _NAME,
        "issuerRef": _exactly({"name": _TEXT, "kind": _TEXT, "group": _TEXT}),
        "usages": _many({"enum": ["digital signature", "server auth", "client auth"]}),
        "duration": _DURATION,
        "renewBefore": _DURATION,
        "privateKey": _exactly(
            {
                "algorithm": {"enum": ["ECDSA", "RSA", "Ed25519"]},
                "rotationPolicy": {"const": "Always"},
            },
            {"size": {"type": "integer"}},
        ),
    },
    {
        "commonName": _TEXT | {"maxLength": 64},
        "dnsNames": _many(_HOSTNAME),
        "uris": _many(_TEXT),
    },
)

_SERVICE_MONITOR = _exactly(
    {
        "selector": _exactly({"matchLabels": _MAP}),
        "namespaceSelector": _exactly({"matchNames": _many(_NAME)}),
        "endpoints": _many(
            _exactly(
                {
                    "port": _TEXT,
                    "path": {"const": "/metrics"},
                    "scheme": {"enum": ["http", "https"]},
                    "interval": _PROMETHEUS_DURATION,
                    "scrapeTimeout": _PROMETHEUS_DURATION,
                },
                {
                    "tlsConfig": _exactly(
                        {"serverName": _TEXT, "ca": _exactly({"secret": _SECRET_KEY})},
                        {"cert": _exactly({"secret": _SECRET_KEY}), "keySecret": _SECRET_KEY},
                    ),
                    "relabelings": _many({"type": "object"}),
                    "metricRelabelings": _many({"type": "object"}),
                },
            )
        ),
    }
)

_RULE = _exactly(
    {"expr": _TEXT},
    {
        "alert": _TEXT,
        "record": _TEXT,
        "for": _PROMETHEUS_DURATION,
        "labels": _MAP,
        "annotations": _MAP,
    },
)
_PROMETHEUS_RULE = _exactly({"groups": _many(_exactly({"name": _TEXT, "rules": _many(_RULE)}))})

SPECS: dict[tuple[str, str], Schema] = {
    ("cert-manager.io/v1", "Certificate"): _CERTIFICATE,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _PROMETHEUS_RULE,
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): _GRPC_ROUTE,
    **{
        (f"gateway.networking.k8s.io/{version}", "BackendTLSPolicy"): _BACKEND_TLS
        for version in ("v1", "v1alpha3")
    },
    **{
        (f"gateway.networking.k8s.io/{version}", "TLSRoute"): _TLS_ROUTE
        for version in ("v1", "v1alpha3", "v1alpha2")
    },
}
"""The schema of `spec`, by API version and kind."""
