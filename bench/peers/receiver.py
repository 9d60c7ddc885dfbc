"""Takes traces by OTLP and counts them: at the end it prints the spans of each service."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress

import grpc
import uvloop
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb

from peers import host


async def serve() -> None:
    """Serve in plaintext until told to end."""
    spans: Counter[str] = Counter()

    async def export(
        request: pb.ExportTraceServiceRequest, _context: grpc.aio.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            attributes = {each.key: each.value for each in resource.resource.attributes}
            name = attributes["service.name"].string_value
            spans[name] += sum(len(scope.spans) for scope in resource.scope_spans)
        return pb.ExportTraceServiceResponse()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=pb.ExportTraceServiceRequest.FromString,
        response_serializer=pb.ExportTraceServiceResponse.SerializeToString,
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    name = pb.DESCRIPTOR.services_by_name["TraceService"].full_name
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {"Export": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await host.until_told(port)
    await server.stop(None)
    with suppress(BrokenPipeError):  # the run was killed
        print(json.dumps(spans), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
