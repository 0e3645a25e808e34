"""The SPEC grammar: the text by which a user names a model in a file, at an address or on a tape."""

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

    Attributes:
        text: The SPEC as the user wrote it.
        kind: "factory" for a function that builds the model, "address" for a worker, "tape" for a dump.
        framework: The framework of a factory.
        target: The file of a factory (a path that ends in .py) or its dotted module; the folder of a tape.
        factory: The name of the function in the target.
        address: The address of a worker, as gRPC takes it (`host:port`, `unix:path`).
    """

    text: str
    kind: Literal["factory", "address", "tape"]
    framework: str = ""
    target: str = ""
    factory: str = ""
    address: str = ""


def parse_spec(text: str) -> ModelSpec:
    """Read a SPEC.

    Raises:
        PadiffError: BAD_SPEC for text that has none of the forms; the hint lists them.
    """
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
    """Cut `file.py:function` or `package.module:function` at its last colon.

    Args:
        place: The text to cut.
        text: The whole SPEC, for the error.

    Raises:
        PadiffError: BAD_SPEC for text of another form.
    """
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
