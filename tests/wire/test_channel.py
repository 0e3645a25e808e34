"""Addresses."""

from __future__ import annotations

import os

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.channel import Address, parse_address


@pytest.mark.parametrize(
    ("text", "target", "shown", "local"),
    [
        ("grpc://127.0.0.1:50051", "127.0.0.1:50051", "grpc://127.0.0.1:50051", True),
        ("127.0.0.2:0", "127.0.0.2:0", "grpc://127.0.0.2:0", True),
        ("grpc://localhost:1", "localhost:1", "grpc://localhost:1", True),
        ("grpc://[::1]:50051", "[::1]:50051", "grpc://[::1]:50051", True),
        ("grpc://0.0.0.0:1", "0.0.0.0:1", "grpc://0.0.0.0:1", False),
        ("grpc://[::]:1", "[::]:1", "grpc://[::]:1", False),
        ("grpc://10.0.0.7:1", "10.0.0.7:1", "grpc://10.0.0.7:1", False),
        ("grpc://gpu.example:65535", "gpu.example:65535", "grpc://gpu.example:65535", False),
        ("unix:/tmp/w.sock", "unix:/tmp/w.sock", "unix:/tmp/w.sock", True),
        ("unix:///tmp/w.sock", "unix:/tmp/w.sock", "unix:/tmp/w.sock", True),
    ],
)
def test_an_address_is_read(text: str, target: str, shown: str, local: bool) -> None:
    address = parse_address(text)
    assert (target, shown, local) == (address.target, str(address), address.is_local)
    assert address == parse_address(str(address))


def test_a_relative_socket_path_becomes_absolute() -> None:
    assert Address(path=os.path.abspath("w.sock")) == parse_address("unix:w.sock")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "grpc://",
        "host",
        "host:",
        ":1",
        "grpc://host:x",
        "host:65536",
        "http://host:1",
        "host:-1",
        "unix:",
        "host:²",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(PadiffError) as caught:
        parse_address(text)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_a_socket_path_longer_than_the_kernel_takes_is_refused() -> None:
    assert parse_address("unix:/" + "a" * 106).is_unix
    with pytest.raises(PadiffError, match="107 bytes") as caught:
        parse_address("unix:/" + "a" * 107)
    assert Reason.BAD_CONFIG is caught.value.reason
