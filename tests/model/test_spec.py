"""The SPEC grammar."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.spec import ModelSpec, parse_spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch@a/net.py:build", ModelSpec("torch@a/net.py:build", "factory", "torch", "a/net.py", "build")),
        ("paddle@pkg.mod:make", ModelSpec("paddle@pkg.mod:make", "factory", "paddle", "pkg.mod", "make")),
        ("numpy@/a b/n@t.py:f", ModelSpec("numpy@/a b/n@t.py:f", "factory", "numpy", "/a b/n@t.py", "f")),
        (r"torch@C:\net.py:build", ModelSpec(r"torch@C:\net.py:build", "factory", "torch", r"C:\net.py", "build")),
        ("grpc://host:50051", ModelSpec("grpc://host:50051", "address", address="host:50051")),
        ("grpc://[::1]:80", ModelSpec("grpc://[::1]:80", "address", address="[::1]:80")),
        ("unix:/tmp/w.sock", ModelSpec("unix:/tmp/w.sock", "address", address="unix:/tmp/w.sock")),
        ("tape:runs/base", ModelSpec("tape:runs/base", "tape", target="runs/base")),
    ],
)
def test_forms(text: str, expected: ModelSpec) -> None:
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "none of the known forms"),
        ("net.py:build", "none of the known forms"),
        ("pytorch@net.py:build", "did you mean torch@?"),
        ("Paddle@net.py:build", "did you mean paddle@?"),
        ("paddlepaddle@net.py:build", "did you mean paddle@?"),
        ("jax@net.py:build", "names no known framework: 'jax'"),
        ("torch@net.py", "write net.py:build"),
        ("torch@", "names no function"),
        ("torch@:build", "names no function"),
        ("torch@net.py:", "no function name after the colon: ''"),
        ("torch@net.py:1x", "'1x'"),
        ("torch@a/net:build", "neither a .py file nor a dotted module: 'a/net'"),
        ("grpc://host", "no host and port"),
        ("grpc://host:0", "no host and port"),
        ("grpc://host:70000", "no host and port"),
        ("grpc://:80", "no host and port"),
        ("unix:", "no socket"),
        ("tape:", "no folder"),
    ],
)
def test_a_bad_one_says_why_and_shows_the_forms(text: str, said: str) -> None:
    with pytest.raises(PadiffError) as raised:
        parse_spec(text)
    assert raised.value.reason is Reason.BAD_SPEC
    assert said in str(raised.value)
    assert "grpc://host:port" in raised.value.hint
    assert repr(text) in raised.value.message
