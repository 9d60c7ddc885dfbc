"""What is scraped, and which alerts have to fire then."""

from __future__ import annotations

JOB = 'job="agents-kotaemon-grpc-operations", namespace="agents"'
POD = f'{JOB}, pod="p", instance="10.0.0.1:9464"'
CALLS = (
    f'{POD}, grpc_type="unary", grpc_service="kotaemon.v2.AgentService", grpc_method="AskQuestion"'
)
UP = (f'kotaemon_grpc_build_info{{{POD}, version="0.1.0"}}', "1x500")


def handled(code: str, values: str) -> tuple[str, str]:
    return (f'grpc_server_handled_total{{{CALLS}, grpc_code="{code}"}}', values)


def started(values: str) -> tuple[str, str]:
    return (f"grpc_server_started_total{{{CALLS}}}", values)


def pod(metric: str, values: str, more: str = "") -> tuple[str, str]:
    return (f"{metric}{{{POD}{more}}}", values)


def buckets(metric: str, fast: str, slow: str, edge: str) -> list[tuple[str, str]]:
    """A histogram whose looks are below the edge, or above all edges."""
    return [
        pod(f"{metric}_bucket", fast, f', le="{edge}"'),
        pod(f"{metric}_bucket", slow, ', le="100"'),
        pod(f"{metric}_bucket", slow, ', le="+Inf"'),
    ]


DAY = 86400
# What is scraped every minute, when it is looked at, and which alerts fire then. Time begins at 0.
CASES: dict[str, tuple[list[tuple[str, str]], str, list[str]]] = {
    "at rest": ([UP, handled("OK", "0+600x500"), started("0+600x500")], "6h", []),
    "no pod": ([], "10m", ["KotaemonGrpcDown"]),
    "a pod that was away for a moment": ([(UP[0], "1x3 _x3 1x20")], "12m", []),
    "one in fifty calls fails for an hour": (
        [UP, handled("OK", "0+588x500"), handled("INTERNAL", "0+12x500")],
        "65m",
        ["KotaemonGrpcErrorBudgetBurnsFast", "KotaemonGrpcErrorBudgetBurnsSlowly"],
    ),
    "one in a hundred fails for hours": (
        [UP, handled("OK", "0+594x500"), handled("UNAVAILABLE", "0+6x500")],
        "7h",
        ["KotaemonGrpcErrorBudgetBurnsSlowly"],
    ),
    "a burst of faults that is over": (
        [UP, handled("OK", "0+600x500"), handled("INTERNAL", "0+0x10 0+60x10 600+0x400")],
        "60m",
        [],
    ),
    "the caller's own faults": (
        [UP, handled("OK", "0+300x500"), handled("NOT_FOUND", "0+300x500")],
        "7h",
        [],
    ),
    "one call in twenty is shed": (
        [
            UP,
            started("0+600x60"),
            pod("kotaemon_grpc_calls_shed_total", "0+30x60", ', reason="queue_full"'),
        ],
        "30m",
        ["KotaemonGrpcCallsShed"],
    ),
    "one call in a thousand is shed": (
        [
            UP,
            started("0+6000x60"),
            pod("kotaemon_grpc_calls_shed_total", "0+6x60", ', reason="queue_full"'),
        ],
        "30m",
        [],
    ),
    "the loop is late": (
        [UP, *buckets("kotaemon_grpc_event_loop_lag_seconds", "0+100x60", "0+120x60", "0.1")],
        "30m",
        ["KotaemonGrpcEventLoopLags"],
    ),
    "the loop is in time": (
        [UP, *buckets("kotaemon_grpc_event_loop_lag_seconds", "0+120x60", "0+120x60", "0.1")],
        "30m",
        [],
    ),
    "answers begin late": (
        [UP, *buckets("kotaemon_grpc_first_token_seconds", "0+50x60", "0+60x60", "5")],
        "40m",
        ["KotaemonGrpcSlow"],
    ),
    "answers begin in time": (
        [UP, *buckets("kotaemon_grpc_first_token_seconds", "0+60x60", "0+60x60", "5")],
        "40m",
        [],
    ),
    "a certificate with a month left": (
        [
            UP,
            pod(
                "kotaemon_grpc_certificate_expiry_timestamp_seconds",
                f"{30 * DAY}x120",
                ', file="a"',
            ),
        ],
        "90m",
        [],
    ),
    "a certificate with three days left": (
        [
            UP,
            pod(
                "kotaemon_grpc_certificate_expiry_timestamp_seconds", f"{3 * DAY}x120", ', file="a"'
            ),
        ],
        "90m",
        ["KotaemonGrpcCertificateExpiresSoon"],
    ),
    "a certificate with hours left": (
        [
            UP,
            pod(
                "kotaemon_grpc_certificate_expiry_timestamp_seconds",
                f"{DAY // 2}x120",
                ', file="a"',
            ),
        ],
        "90m",
        ["KotaemonGrpcCertificateExpires", "KotaemonGrpcCertificateExpiresSoon"],
    ),
    "a reload fails": (
        [UP, pod("kotaemon_grpc_reload_failures_total", "0x5 0+1x20", ', what="api_keys"')],
        "20m",
        ["KotaemonGrpcReloadFails"],
    ),
    "a reload failed long ago": (
        [UP, pod("kotaemon_grpc_reload_failures_total", "0 1x60", ', what="api_keys"')],
        "50m",
        [],
    ),
    "the store is gone": (
        [UP, pod("kotaemon_grpc_documents", " ".join(["12"] * 5 + ["NaN"] * 20))],
        "20m",
        ["KotaemonGrpcStoreUnreadable"],
    ),
    "the store is there": ([UP, pod("kotaemon_grpc_documents", "0x30")], "20m", []),
    "the index stays behind": (
        [UP, pod("kotaemon_grpc_index_lag", "2x60")],
        "45m",
        ["KotaemonGrpcIndexLags"],
    ),
    "the index catches up": (
        [UP, pod("kotaemon_grpc_index_lag", "2x9 0 2x9 0 2x9 0 2x9 0 2x9")],
        "45m",
        [],
    ),
    "half of the calls are denied": (
        [
            UP,
            started("0+600x60"),
            pod("kotaemon_grpc_calls_denied_total", "0+300x60", ', reason="METHOD_NOT_ALLOWED"'),
        ],
        "45m",
        ["KotaemonGrpcManyDenied"],
    ),
    "a few calls are denied": (
        [
            UP,
            started("0+600x60"),
            pod("kotaemon_grpc_calls_denied_total", "0+30x60", ', reason="METHOD_NOT_ALLOWED"'),
        ],
        "45m",
        [],
    ),
    "log lines are lost": (
        [UP, pod("kotaemon_grpc_log_lines_dropped_total", "0x5 0+9x40", ', kind="other"')],
        "30m",
        ["KotaemonGrpcLogLinesDropped"],
    ),
    "one line of the audit log is lost": (
        [
            UP,
            pod("kotaemon_grpc_log_lines_dropped_total", "0x5 1x40", ', kind="audit"'),
            pod("kotaemon_grpc_log_lines_dropped_total", "0x50", ', kind="other"'),
        ],
        "7m",
        ["KotaemonGrpcAuditLinesDropped"],
    ),
    "there is no room for more requests": (
        [UP, pod("kotaemon_grpc_requests_remembered", "100000x60")],
        "45m",
        ["KotaemonGrpcRequestsForgotten"],
    ),
    "there is room for more requests": (
        [UP, pod("kotaemon_grpc_requests_remembered", "90000x60")],
        "45m",
        [],
    ),
    "spans are lost": (
        [UP, pod("kotaemon_grpc_spans_dropped_total", "0x5 0+9x60")],
        "45m",
        ["KotaemonGrpcSpansDropped"],
    ),
    "nothing is lost": (
        [
            UP,
            pod("kotaemon_grpc_log_lines_dropped_total", "5x60", ', kind="audit"'),
            pod("kotaemon_grpc_spans_dropped_total", "5x60"),
        ],
        "45m",
        [],
    ),
}
