"""What the forward of a model takes, as its inputs are placed by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Passing = Literal["positional_only", "either", "rest", "keyword_only", "keywords"]
"""The way of an argument: by position only, by position or keyword, as `*rest`, by keyword only, or as `**keywords`."""
PASSINGS: tuple[Passing, ...] = get_args(Passing)


@dataclass(frozen=True, slots=True)
class ForwardParameter:
    """Describe one parameter of a model's forward.

    Attributes:
        name: The parameter's name, without stars.
        passing: The way in which its argument is passed.
        required: True where a call without the argument fails.
        shown: The parameter as Python writes it, without its annotation (`mask=None`).
    """

    name: str
    passing: Passing
    required: bool
    shown: str


ForwardSignature = tuple[ForwardParameter, ...]
"""The parameters of a forward, in definition order."""


def signature_text(signature: ForwardSignature) -> str:
    """Return a signature as Python writes it: `forward(x, mask=None)`."""
    shown: list[str] = []
    before = ""
    for each in signature:
        if before == "positional_only" and each.passing != "positional_only":
            shown.append("/")
        if each.passing == "keyword_only" and before not in ("rest", "keyword_only"):
            shown.append("*")
        shown.append(each.shown)
        before = each.passing
    if before == "positional_only":
        shown.append("/")
    return f"forward({', '.join(shown)})"
