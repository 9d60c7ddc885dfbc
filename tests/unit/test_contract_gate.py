"""The gate of the contract, `buf breaking` with buf.yaml, stops what would break clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "proto" / "baseline.binpb"
BUF = Path(sys.executable).with_name("buf")


def renumber_a_field(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = 99


def delete_a_method(file: FileDescriptorProto) -> None:
    del file.service[0].method[0]


def delete_a_service(file: FileDescriptorProto) -> None:
    del file.service[-1]


def add_a_field(file: FileDescriptorProto) -> None:
    field = file.message_type[0].field.add()
    field.name = field.json_name = "added"
    field.number, field.type, field.label = 99, field.TYPE_STRING, field.LABEL_OPTIONAL


def breaks(change: Callable[[FileDescriptorProto], None], image: Path) -> bool:
    """Change v2 and ask buf whether that breaks the baseline."""
    files = FileDescriptorSet.FromString(BASELINE.read_bytes())
    (v2,) = (file for file in files.file if file.package == "kotaemon.v2")
    change(v2)
    image.write_bytes(files.SerializeToString())
    command = [BUF, "breaking", image, "--against", BASELINE, "--config", ROOT / "buf.yaml"]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("change", [renumber_a_field, delete_a_method, delete_a_service])
def test_what_breaks_clients_is_stopped(
    change: Callable[[FileDescriptorProto], None], tmp_path: Path
) -> None:
    assert breaks(change, tmp_path / "image.binpb")


def test_an_addition_passes(tmp_path: Path) -> None:
    assert not breaks(add_a_field, tmp_path / "image.binpb")
