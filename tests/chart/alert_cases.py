"""What is scraped, and which alerts have to fire then."""

from __future__ import annotations

JOB = 'job="agents-kotaemon-grpc-operations", namespace="agents"'
POD = f'{JOB}, pod="p", instance="10.0.0.1:9464"'
CALLS = (
    f'{POD}, grpc_type="unary", grpc_service="kotaemon.v2.AgentService", grpc_method="AskQuestion"'
)
UP = (f'kotaemon_grpc_build_info{{{POD}, version="0.1.0"}}', "1x600")


def handled(code: str, values: str) -> tuple[str, str]:
    return (f'grpc_server_handled_total{{{CALLS}, grpc_code="{code}"}}', values)


def started(values: str) -> tuple[str, str]:
    return (f"grpc_server_started_total{{{CALLS}}}", values)


def pod(metric: str, values: str, more: str = "") -> tuple[str, str]:
    return (f"{metric}{{{POD}{more}}}", values)


def histogram(metric: str, looks: dict[str, int]) -> list[tuple[str, str]]:
    """A histogram that grows each minute by so many looks up to an edge, above the one before."""
    total, series = 0, []
    for edge, more in {**looks, "+Inf": 0}.items():
        total += more
        series.append(pod(f"{metric}_bucket", f"0+{total}x60", f', le="{edge}"'))
    return series


def lag(looks: dict[str, int]) -> list[tuple[str, str]]:
    return [UP, *histogram("kotaemon_grpc_event_loop_lag_seconds", looks)]


def first_token(looks: dict[str, int]) -> list[tuple[str, str]]:
    return [UP, *histogram("kotaemon_grpc_first_token_seconds", looks)]


def expiry(after_s: int) -> list[tuple[str, str]]:
    metric = "kotaemon_grpc_certificate_expiry_timestamp_seconds"
    return [UP, pod(metric, f"{after_s}x120", ', file="a"')]


def shed(part: str) -> list[tuple[str, str]]:
    metric = "kotaemon_grpc_calls_shed_total"
    return [UP, started("0+600x60"), pod(metric, part, ', reason="queue_full"')]


def denied(part: str) -> list[tuple[str, str]]:
    metric = "kotaemon_grpc_calls_denied_total"
    return [UP, started("0+600x60"), pod(metric, part, ', reason="METHOD_NOT_ALLOWED"')]


def few_calls(faults: int) -> list[tuple[str, str]]:
    """A call a minute, and after 50 minutes some that fail, one a minute."""
    return [
        UP,
        handled("OK", "0+1x500"),
        handled("INTERNAL", f"0x50 1+1x{faults - 1} {faults}x400"),
    ]


DAY = 86400
# What is scraped every minute, when it is looked at, and which alerts fire then. Time begins at 0.
CASES: dict[str, tuple[list[tuple[str, str]], str, list[str]]] = {
    "at rest": ([UP, handled("OK", "0+600x500"), started("0+600x500")], "6h", []),
    "no pod": ([], "10m", ["KotaemonGrpcDown"]),
    "no pod yet": ([], "3m", []),
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
    "one in 300 fails for hours": (
        [UP, handled("OK", "0+598x500"), handled("UNAVAILABLE", "0+2x500")],
        "7h",
        [],
    ),
    # Of two windows, one alone is above the limit, and the other between a half of it and itself.
    "faults have just begun": (
        [UP, handled("OK", "0+600x500"), handled("INTERNAL", "0x400 36+36x20")],
        "412m",
        [],
    ),
    "faults have nearly stopped": (
        [UP, handled("OK", "0+600x500"), handled("INTERNAL", "0+60x40 2406+6x100")],
        "50m",
        ["KotaemonGrpcErrorBudgetBurnsSlowly"],
    ),
    "some calls have failed for two hours": (
        [UP, handled("OK", "0+600x600"), handled("INTERNAL", "0x400 8+8x150")],
        "520m",
        [],
    ),
    "some calls failed for hours, and few do now": (
        [UP, handled("OK", "0+600x500"), handled("INTERNAL", "0+6x400 2403+3x60")],
        "450m",
        [],
    ),
    "five faults in an hour, and few calls": (few_calls(5), "59m", []),
    "six faults in an hour, and few calls": (
        few_calls(6),
        "59m",
        ["KotaemonGrpcErrorBudgetBurnsFast"],
    ),
    "six faults just now, and few calls": (few_calls(6), "57m", []),
    "five faults in hours, and few calls": (few_calls(5), "80m", []),
    "six faults in hours, and few calls": (
        few_calls(6),
        "80m",
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
    "one call in fifty is shed": (shed("0+12x60"), "30m", ["KotaemonGrpcCallsShed"]),
    "one call in two hundred is shed": (shed("0+3x60"), "30m", []),
    # One look in a hundred is 0.175 seconds late, and then 0.05, however late the last is.
    "the loop is late": (lag({"0.1": 98, "0.25": 2}), "30m", ["KotaemonGrpcEventLoopLags"]),
    "the loop is hardly late": (lag({"0.05": 99, "0.1": 0, "0.25": 1}), "30m", []),
    "the loop was late for five minutes": (lag({"0.1": 98, "0.25": 2}), "6m", []),
    "answers begin after ten seconds": (
        first_token({"5": 90, "10": 5, "30": 5}),
        "40m",
        ["KotaemonGrpcSlow"],
    ),
    "answers begin after two and a half seconds": (
        first_token({"1": 90, "2.5": 5, "30": 5}),
        "40m",
        [],
    ),
    "a certificate with two weeks left": (expiry(14 * DAY), "90m", []),
    "a certificate with half a week left": (
        expiry(7 * DAY // 2),
        "90m",
        ["KotaemonGrpcCertificateExpiresSoon"],
    ),
    "a certificate with two days left": (
        expiry(2 * DAY),
        "90m",
        ["KotaemonGrpcCertificateExpiresSoon"],
    ),
    "a certificate with half a day left": (
        expiry(DAY // 2),
        "90m",
        ["KotaemonGrpcCertificateExpires", "KotaemonGrpcCertificateExpiresSoon"],
    ),
    "a reload fails once": (
        [UP, pod("kotaemon_grpc_reload_failures_total", "0x5 1x20", ', what="api_keys"')],
        "14m",
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
    "the index is behind since half an hour": (
        [UP, pod("kotaemon_grpc_index_lag", "0x10 1x60")],
        "42m",
        ["KotaemonGrpcIndexLags"],
    ),
    # Its lowest figure of a quarter of an hour counts, and that for a quarter of an hour.
    "the index is behind for less than half an hour": (
        [UP, pod("kotaemon_grpc_index_lag", "0x10 1x60")],
        "38m",
        [],
    ),
    "the index catches up": (
        [UP, pod("kotaemon_grpc_index_lag", "2x9 0 2x9 0 2x9 0 2x9 0 2x9")],
        "45m",
        [],
    ),
    "two calls in five are denied": (denied("0+240x60"), "45m", ["KotaemonGrpcManyDenied"]),
    "one call in ten is denied": (denied("0+60x60"), "45m", []),
    "one log line is lost": (
        [UP, pod("kotaemon_grpc_log_lines_dropped_total", "0x5 1x40", ', kind="other"')],
        "14m",
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
    "there is hardly room for more requests": (
        [UP, pod("kotaemon_grpc_requests_remembered", "0x10 96000x60")],
        "42m",
        ["KotaemonGrpcRequestsForgotten"],
    ),
    "there was hardly room for a while": (
        [UP, pod("kotaemon_grpc_requests_remembered", "0x10 96000x60")],
        "38m",
        [],
    ),
    "there is room for more requests": (
        [UP, pod("kotaemon_grpc_requests_remembered", "94000x60")],
        "45m",
        [],
    ),
    "few spans are lost": (
        [UP, pod("kotaemon_grpc_spans_dropped_total", "0x5 0 0 0 0+1x60")],
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
