"""The SPEC grammar: how a user names a model, in a file, at an address or on a tape."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from padiff_rpc.errors import PadiffError, Reason

FRAMEWORKS = ("torch", "paddle", "numpy")
FORMS = (
    "a SPEC is torch@path/to/file.py:factory, paddle@package.module:factory, numpy@..., grpc://host:port, unix:path, "
    "or tape:DIR"
)


@dataclass(frozen=True)
class ModelSpec:
    """A parsed SPEC.

    factory: `framework`, `target` (a path that ends in .py, or a dotted module) and `factory` (a function in it).
    address: `address`, as gRPC takes it (`host:port`, `unix:path`). tape: `target`, a folder.
    """

    text: str
    kind: Literal["factory", "address", "tape"]
    framework: str = ""
    target: str = ""
    factory: str = ""
    address: str = ""


def parse_spec(text: str) -> ModelSpec:
    """Read a SPEC; BAD_SPEC where it has none of the forms."""
    if text.startswith("grpc://"):
        return ModelSpec(text, "address", address=_host_and_port(text))
    if text.startswith("unix:"):
        if not text.removeprefix("unix:").strip("/"):
            raise _bad(text, "names no socket after 'unix:'")
        return ModelSpec(text, "address", address=text)
    if text.startswith("tape:"):
        folder = text.removeprefix("tape:")
        if not folder:
            raise _bad(text, "names no folder after 'tape:'")
        return ModelSpec(text, "tape", target=folder)
    framework, at, place = text.partition("@")
    if not at:
        raise _bad(text, "has none of the known forms")
    if framework not in FRAMEWORKS:
        nearest = difflib.get_close_matches(framework.lower(), FRAMEWORKS, n=1, cutoff=0.4)
        raise _bad(text, f"names no known framework: {framework!r}", f"did you mean {nearest[0]}@?" if nearest else "")
    target, factory = split_place(place, text)
    return ModelSpec(text, "factory", framework=framework, target=target, factory=factory)


def split_place(place: str, text: str) -> tuple[str, str]:
    """Cut `file.py:function` or `package.module:function` at its last colon; BAD_SPEC, quoting `text`, otherwise."""
    target, colon, function = place.rpartition(":")
    if not colon or not target:
        raise _bad(text, "names no function", f"write {place}:build, where build is a function in it")
    if not function.isidentifier():
        raise _bad(text, f"has no function name after the colon: {function!r}")
    if not target.endswith(".py") and not all(part.isidentifier() for part in target.split(".")):
        raise _bad(text, f"names neither a .py file nor a dotted module: {target!r}")
    return target, function


def _host_and_port(text: str) -> str:
    address = text.removeprefix("grpc://")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise _bad(text, "names no host and port (1 to 65535)")
    return address


def _bad(text: str, what: str, cure: str = "") -> PadiffError:
    return PadiffError(f"the SPEC {text!r} {what}", reason=Reason.BAD_SPEC, hint=f"{cure}; {FORMS}" if cure else FORMS)
