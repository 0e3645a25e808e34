"""Parse AOA statements: one statement says which named tensors become which others, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType

NUMBERS = ("axis", "num_heads", "num_key_value_groups")
"""Attributes whose value is a number."""
TEXTS = ("permute", "dtype", "src_dtype", "dst_dtype")
"""Attributes whose value is a text."""
FLAGS = ("fused_qkv", "fused_qkv_old", "fused_ffn")
"""Attributes without a value."""
NOTHING = "_"
"""Stands on the left for no source, and on the right for no target."""
TRANSPOSED = "^T"
"""Follows a name on the left: the axes in reverse."""
CASTS = {DType.F16: "float16", DType.BF16: "bfloat16", DType.F32: "float32"}
"""The element types that a statement can cast to, as it writes them."""

_TOKEN = re.compile(
    r"(?P<arrow>->)|(?P<sign>[=:\[\],])|(?P<number>\d+)|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.$*^]*)|(?P<space>\s+)|(?P<unknown>.)"
)


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        text: the statement as it was written.
        left: the names of the sources; `^T` at their end is part of them.
        right: the names of the targets.
        attributes: what is written behind the targets, by name; a flag is True.
    """

    text: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    attributes: dict[str, int | str] = field(default_factory=dict)


def parse_statements(texts: Iterable[str]) -> list[Statement]:
    """Parse statements; each text holds one or more of them, since Paddle's own engine takes several in one text.

    Raises:
        PadiffError: BAD_CONFIG for a statement that cannot be read; the message quotes it.
    """
    return [statement for text in texts for statement in _Parser(text).statements()]


def unreadable(text: str, why: str) -> PadiffError:
    """Return the error that a statement cannot be read."""
    return PadiffError(
        f"the AOA statement {text.strip()!r} cannot be read: {why}",
        reason=Reason.BAD_CONFIG,
        hint="write `source, ... -> target, ..., attribute=value, ...`, such as `a.weight^T, b.weight^T -> c.weight, axis=1`",
    )


class _Parser:
    """The tokens of one text, and how far they have been read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "space"]
        for token in self._tokens:
            if token.lastgroup == "unknown":
                raise unreadable(text, f"unexpected {token.group()!r}")

    def statements(self) -> Iterator[Statement]:
        while self._at < len(self._tokens):
            first = self._at
            left = self._names()
            if self._kind() != "arrow":
                raise unreadable(self._text, f"`->` is wanted, not {self._shown()}")
            self._at += 1
            right, attributes = self._right()
            text = self._text[self._tokens[first].start() : self._tokens[self._at - 1].end()]
            _check(text, left, right)
            yield Statement(text, tuple(left), tuple(right), attributes)

    def _names(self) -> list[str]:
        names = self._name()
        while self._is(","):
            self._at += 1
            names += self._name()
        return names

    def _right(self) -> tuple[list[str], dict[str, int | str]]:
        """Read targets, and then attributes, up to the end of the text or of the line of a statement that another follows."""
        names = self._name()
        attributes: dict[str, int | str] = {}
        while self._is(","):
            self._at += 1
            word = self._word()
            if word in (*NUMBERS, *TEXTS, *FLAGS) or self._is("=", 1):
                attributes |= self._attribute(word)
            elif attributes:
                raise unreadable(self._text, f"an attribute is wanted, not {self._shown()}")
            else:
                names += self._name()
        return names, attributes

    def _attribute(self, word: str) -> dict[str, int | str]:
        self._at += 1
        if word in FLAGS:
            return {word: True}
        kind = {**dict.fromkeys(NUMBERS, "number"), **dict.fromkeys(TEXTS, "text")}.get(word)
        if kind is None:
            raise unreadable(self._text, f"there is no attribute {word!r}")
        if not self._is("="):
            raise unreadable(self._text, f"`=` is wanted after {word}")
        self._at += 1
        if self._kind() != kind:
            raise unreadable(self._text, f"{word} takes a {kind}, not {self._shown()}")
        value = self._word()
        self._at += 1
        return {word: int(value) if kind == "number" else value[1:-1]}

    def _name(self) -> list[str]:
        """Read one name; `NAME[0:3]` stands for NAME_0, NAME_1 and NAME_2."""
        if self._kind() != "name":
            raise unreadable(self._text, f"a name is wanted, not {self._shown()}")
        name = self._word()
        self._at += 1
        if not self._is("["):
            return [name]
        form = [token.group() for token in self._tokens[self._at : self._at + 5]]
        if len(form) < 5 or form[2] != ":" or form[4] != "]" or not (form[1] + form[3]).isdigit():
            raise unreadable(self._text, f"a range is written {name}[START:END]")
        self._at += 5
        return [f"{name}_{number}" for number in range(int(form[1]), int(form[3]))]

    def _kind(self) -> str | None:
        return self._tokens[self._at].lastgroup if self._at < len(self._tokens) else None

    def _word(self) -> str:
        return self._tokens[self._at].group() if self._at < len(self._tokens) else ""

    def _shown(self) -> str:
        return repr(self._word()) if self._at < len(self._tokens) else "its end"

    def _is(self, sign: str, ahead: int = 0) -> bool:
        at = self._at + ahead
        return at < len(self._tokens) and self._tokens[at].group() == sign


def _check(text: str, left: list[str], right: list[str]) -> None:
    if len(left) != 1 and len(right) != 1:
        raise unreadable(text, "several sources and several targets at once")
    if not left or not right:
        raise unreadable(text, "an empty range")
    for name in right:
        if TRANSPOSED in name:
            raise unreadable(text, f"{TRANSPOSED} can stand on the left only")
    for name in left:
        if TRANSPOSED[0] in name.removesuffix(TRANSPOSED):
            raise unreadable(text, f"{name!r} is no name of a tensor")
    if NOTHING in left and NOTHING in right:
        raise unreadable(text, "it has neither source nor target")
    if (NOTHING in left or NOTHING in right) and len(left) + len(right) > 2:
        raise unreadable(text, f"{NOTHING} stands alone on its side")
