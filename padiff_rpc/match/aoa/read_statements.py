"""Read AOA statements as entries of a user's map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.aoa.grammar import CASTS, parse_statements
from padiff_rpc.match.aoa.run_statements import follow
from padiff_rpc.match.aoa.to_rules import entries_of
from padiff_rpc.match.user_map import MappedParameters
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import TensorSpec

_NAMED = 8
"""How many statements that are not used are named one by one."""


def read_statements(
    texts: Iterable[str], specs: PerSide[Mapping[str, TensorSpec]]
) -> tuple[list[MappedParameters], list[str]]:
    """Return the entries of a map that AOA statements say, and sentences that a reader should see.

    Nothing is evaluated: a statement only names tensors, axes and numbers. Statements that lead from no tensor of base to one
    of raw, and those that no layout rule follows, give no entry; a sentence names each.

    Args:
        texts: the statements, whose sources are base's tensors and whose targets are raw's.
        specs: the specs of all tensors of base and raw, by all their names.

    Raises:
        PadiffError: BAD_CONFIG for a statement that cannot be read, or where no statement gives an entry.
    """
    shapes = specs.map(lambda side: {name: spec.shape for name, spec in side.items()})
    statements = parse_statements(texts)
    followed = follow(statements, shapes)
    entries, problems = entries_of(followed.made, shapes)
    unused = dict(followed.unused)
    for name, why in problems.items():
        unused.setdefault(followed.texts[name], why)
    notes = [f"the AOA statement {text!r} is not used: {why}" for text, why in unused.items()]
    if statements and not entries:
        raise PadiffError(
            f"none of the {len(statements)} AOA statements leads from a tensor of base to one of raw: {'; '.join(notes[:1])}",
            reason=Reason.BAD_CONFIG,
            hint="on the left stand the names of base's parameters, on the right those of raw's",
        )
    if len(notes) > _NAMED:
        notes = [*notes[:_NAMED], f"and {len(notes) - _NAMED} more AOA statements are not used"]
    return entries, [*notes, *_other_casts(followed.casts, specs.raw)]


def _other_casts(casts: Mapping[str, str], raw: Mapping[str, TensorSpec]) -> list[str]:
    """Tell of casts to another dtype than raw's, which are not done: values are rounded to raw's dtype alone."""
    return [
        f"the AOA statements cast {name} to {dtype}, and raw holds it in {raw[name].dtype.value}: only that is done"
        for name, dtype in casts.items()
        if dtype != CASTS.get(raw[name].dtype)
    ]
