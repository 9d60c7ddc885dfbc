"""What a REST gateway needs of the contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from kotaemon_grpc.pb.v2 import agent_pb2 as pb

BASELINE = Path(__file__).parents[2] / "proto/baseline.binpb"
VERBS = ("get", "put", "post", "delete", "patch")
METHODS = [
    pytest.param(method, id=method.full_name)
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def rules_of(method: Any) -> list[Any]:
    """List the rules of a method, those in `additional_bindings` too."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def path_of(rule: Any) -> str:
    path: str = getattr(rule, rule.WhichOneof("pattern"))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_methods_whose_client_does_not_stream_can_be_called_over_http(method: Any) -> None:
    rules = rules_of(method)
    assert bool(rules) is not method.client_streaming
    for rule in rules:
        assert rule.WhichOneof("pattern") in VERBS
        assert path_of(rule).startswith("/v2")


@pytest.mark.parametrize("method", METHODS)
def test_every_part_of_a_rule_is_a_field(method: Any) -> None:
    for rule in rules_of(method):
        variables = re.findall(r"{([^=}]+)", path_of(rule))
        assert set(variables) <= set(method.input_type.fields_by_name)
        body = {rule.body} - {"", "*"}
        assert body <= set(method.input_type.fields_by_name) - set(variables)
        assert {rule.response_body} - {""} <= set(method.output_type.fields_by_name)


def test_no_two_methods_share_a_path() -> None:
    paths = [
        (rule.WhichOneof("pattern"), re.sub(r"{[^=}]+=", "{", path_of(rule)))
        for parameters in METHODS
        for rule in rules_of(parameters.values[0])
    ]
    assert len(paths) == len(set(paths))


def test_the_descriptors_have_the_details_of_errors() -> None:
    files = FileDescriptorSet.FromString(BASELINE.read_bytes()).file
    details = next(file for file in files if file.name == "google/rpc/error_details.proto")
    assert {"ErrorInfo", "BadRequest", "ResourceInfo"} <= {m.name for m in details.message_type}
    # Each file comes after those that it imports, as a gateway expects.
    names = [file.name for file in files]
    for file in files:
        assert all(names.index(other) < names.index(file.name) for other in file.dependency)
