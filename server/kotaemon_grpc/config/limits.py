"""What a call may cost, and what is told about it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from kotaemon_grpc.config.fields import MAX_INT32, Count, File, Ratio, Seconds, Section


class Limits(Section):
    """What a call may cost."""

    default_deadline_s: Seconds = Field(
        default=60.0, description="how long a call may last whose client set no deadline"
    )
    max_deadline_s: Seconds = Field(
        default=300.0, description="how long a call may last at most, whatever its client says"
    )
    max_stream_s: Seconds = Field(
        default=3600.0, description="how long a call may last in which the client streams"
    )
    stream_idle_s: Seconds = Field(
        default=300.0, description="how long a stream waits for the client's next message"
    )
    slow_reader_s: Seconds = Field(
        default=30.0, description="how long a stream waits for the client to take a message"
    )
    calls_per_second: Annotated[StrictFloat, Field(ge=0, le=1e6, allow_inf_nan=False)] = Field(
        default=500.0, description="calls of one principal; 0: any number"
    )
    engine_places: Count = Field(
        default=16, description="questions that the engine works on at once"
    )
    search_places: Count = Field(default=16, description="searches that run at once")
    max_waiting: Annotated[StrictInt, Field(ge=0, le=MAX_INT32)] = Field(
        default=32, description="questions, and searches, that may wait for a place"
    )
    max_wait_s: Seconds = Field(default=2.0, description="how long each of them may wait")

    @model_validator(mode="after")
    def _consistent(self) -> Limits:
        if self.default_deadline_s > self.max_deadline_s:
            raise ValueError(
                f"default_deadline_s, {self.default_deadline_s:g}, is above max_deadline_s, "
                f"{self.max_deadline_s:g}; set both"
            )
        return self


class Log(Section):
    """What is written to stdout."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="what is less important is not written"
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json for machines, console for people"
    )
    sample_ok: Ratio = Field(
        default=1.0, description="the part of calls without an error that have a line"
    )
    slow_s: Seconds = Field(
        default=1.0, description="calls that took longer have a line in any case"
    )


def _check_endpoint(value: str) -> str:
    if value and ("://" in value or not re.fullmatch(r".+:[0-9]{1,5}", value)):
        raise ValueError('it is a host and a port, as "collector:4317"')
    return value


class Traces(Section):
    """Where traces go, by OTLP over gRPC. It needs the extra otlp."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] = Field(
        default="", description='the receiver, as "collector:4317"; empty: none'
    )
    ca: File = Field(
        default=None, description="the CAs of its certificate, PEM; empty: the system's"
    )
    insecure: StrictBool = Field(default=False, description="speak plaintext to it")
    headers_file: File = Field(
        default=None, description="metadata for it, a name: value each line, as for a token"
    )
    sample_ratio: Ratio = Field(default=0.1, description="the part of calls that are traced")
    follow_parent: StrictBool = Field(
        default=True, description="let a caller that traces decide for its calls"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Traces:
        if self.insecure and self.ca is not None:
            raise ValueError("insecure speaks plaintext, which has no use for ca; leave one out")
        return self
