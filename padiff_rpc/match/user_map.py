"""What a user's map says of two models: layers that correspond, and tensors, with the rule that makes raw's of base's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layout_rules import RULES, is_rule

STAR = "*"
"""Stands in a map's names for the digits of a number, each star for one number."""

_BY = " by "
_HOW_TO_WRITE = (
    'write "q.weight, k.weight, v.weight" = "qkv.weight by pack", tensors of base before the "=", tensors of raw behind it; '
    '";" parts what one tensor of base becomes at several places of raw'
)


@dataclass(frozen=True, slots=True)
class MappedParameters:
    """Parameters (or buffers) of base that the user demands to be linked with parameters of raw.

    Attributes:
        base: full names of base's tensors; several are packed into one of raw, in this order.
        raw: full names of raw's tensors; one tensor of base is cut into several, in this order.
        rule: how raw's values follow from base's: a name for `layout_rules.rule_named`, or "" to let names and shapes decide.
    """

    base: tuple[str, ...]
    raw: tuple[str, ...]
    rule: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, base's before raw's."""
        return (*self.base, *self.raw)

    @property
    def has_stars(self) -> bool:
        """Whether the entry stands for one link of each number."""
        return any(STAR in name for name in self.names)

    def __str__(self) -> str:
        """Return the entry as a line of a map file."""
        return f'"{", ".join(self.base)}" = "{self._right}"'

    @property
    def _right(self) -> str:
        return ", ".join(self.raw) + (f"{_BY}{self.rule}" if self.rule else "")


@dataclass(frozen=True)
class UserMap:
    """All that a user's map says. It stands above the automatic match.

    Names may hold stars, each of which stands for a number: `encoder.layer.*` and `encoder.layers.*` pair layer 0 with layer 0,
    and so on. An entry without stars goes before one with stars.

    Attributes:
        layers: raw's route by base's route.
        parameters: the tensors that are linked.
        renames: what makes names of raw's tensors of base's: a replacement by its regular expression (see `renamed`).
        statements: AOA statements that make raw's tensors of base's. They are parsed, never evaluated.
    """

    layers: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[MappedParameters, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    statements: tuple[str, ...] = ()


def parse_parameters(texts: Mapping[str, str]) -> tuple[MappedParameters, ...]:
    """Read the entries of a parameter map: tensors of base by tensors of raw, with a rule where one is given.

    `{"q.weight, k.weight, v.weight": "qkv.weight by transpose_pack_columns@2"}` is one link of three tensors with one;
    `{"wte.weight": "wte.weight; head.weight by transpose"}` links one tensor with two, each by itself.

    Raises:
        PadiffError: BAD_CONFIG for an entry that names no tensor, several of both sides, or a rule that there is not.
    """
    return tuple(entry for left, right in texts.items() for entry in _parse(left, right))


def parameters_as_text(entries: Iterable[MappedParameters]) -> dict[str, str]:
    """Return entries in the form that `parse_parameters` reads."""
    texts: dict[str, str] = {}
    for entry in entries:
        left, right = ", ".join(entry.base), entry._right
        texts[left] = f"{texts[left]}; {right}" if left in texts else right
    return texts


def with_numbers(entry: MappedParameters, known: Collection[str]) -> Iterator[MappedParameters]:
    """Yield one entry for each way in which the stars of an entry stand for numbers; an entry without stars as it is.

    Args:
        entry: whose first name of base decides which numbers there are.
        known: base's names.

    Raises:
        PadiffError: BAD_CONFIG if the names have different numbers of stars.
    """
    counts = {name.count(STAR) for name in entry.names}
    if len(counts) > 1:
        raise PadiffError(
            f"the names of the map's entry {entry} differ in their number of stars",
            reason=Reason.BAD_CONFIG,
            hint="what a star of base's name stands for is put into the star of raw's name: write as many in each",
        )
    if counts == {0}:
        yield entry
        return
    pattern = re.compile("(\\d+)".join(map(re.escape, entry.base[0].split(STAR))))
    for name in known:
        if found := pattern.fullmatch(name):
            numbers = found.groups()
            base, raw = (tuple(_filled(each, numbers) for each in side) for side in (entry.base, entry.raw))
            yield replace(entry, base=base, raw=raw)


def renamed(name: str, renames: Mapping[str, str]) -> str:
    """Return a name as the first regular expression that occurs in it changes it, as transformers' key mappings do.

    Raises:
        PadiffError: BAD_CONFIG for what is no regular expression, or a replacement that does not fit it.
    """
    for pattern, replacement in renames.items():
        try:
            changed, count = re.subn(pattern, replacement, name)
        except (re.error, IndexError) as err:
            raise PadiffError(
                f"the rename {pattern!r}: {replacement!r} cannot be used: {err}",
                reason=Reason.BAD_CONFIG,
                hint=r'a rename is a regular expression and its replacement, as Python has them: {"^bert\\.(.+)": "model.\\1"}',
            ) from err
        if count:
            return changed
    return name


def _parse(left: str, right: str) -> Iterator[MappedParameters]:
    base = _names(left)
    for part in right.split(";"):
        names, _, rule = part.partition(_BY)
        entry = MappedParameters(base, _names(names), rule.strip())
        if not all(entry.names) or (len(entry.base) > 1 and len(entry.raw) > 1):
            raise PadiffError(
                f"cannot read the map's entry {left!r} = {right!r}", reason=Reason.BAD_CONFIG, hint=_HOW_TO_WRITE
            )
        if entry.rule and not is_rule(entry.rule):
            raise PadiffError(
                f"the map's entry {entry} has an unknown rule {entry.rule!r}",
                reason=Reason.BAD_CONFIG,
                hint=f"known are {', '.join(RULES)}; those that pack or split take groups, such as pack@4",
            )
        yield entry


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _filled(name: str, numbers: tuple[str, ...]) -> str:
    parts = name.split(STAR)
    return "".join(text + number for text, number in zip(parts, (*numbers, ""), strict=True))
