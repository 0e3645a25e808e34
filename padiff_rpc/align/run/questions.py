"""Comparisons that digests leave open: they are answered from the tensors, in the form that the two sides have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

from padiff_rpc.compare.forms import in_order, is_broadcast, orders_of_axes, told_order, widened
from padiff_rpc.compare.judge import compare_specs, compare_streams
from padiff_rpc.compare.likeness import carry_alike
from padiff_rpc.compare.masks import compare_masks, compare_scores
from padiff_rpc.compare.standard import Standard
from padiff_rpc.model.model import Record
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Verdict
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

Contents = tuple[TensorSpec, bytes, TensorSpec, bytes, Standard, bool, bool, Verdict | None]
"""Everything on which a verdict by bytes depends."""

_MOST_REORDERED_BYTES = 64 << 20
"""Tensors are read whole, to be tried with their axes in another order, up to this size."""


@dataclass(frozen=True, slots=True)
class Question:
    """Two records whose digests leave it open whether they agree.

    Attributes:
        base: is base's record.
        raw: is raw's record.
        standard: says how they are judged.
        as_masks: says that both may be masks, which are compared by what they mask.
        as_scores: says that both may be scores to which masks were added: where they pass, the unmasked ones have to as well,
            which the masked ones outweigh.
        otherwise: is the verdict where such a pair turns out to be no masks; None where it is then compared plainly.
    """

    base: Record
    raw: Record
    standard: Standard
    as_masks: bool = False
    as_scores: bool = False
    otherwise: Verdict | None = None

    @property
    def contents(self) -> Contents:
        """What the answer depends on."""
        base, raw = self.base, self.raw
        return (
            base.spec,
            base.digest.hash,
            raw.spec,
            raw.digest.hash,
            self.standard,
            self.as_masks,
            self.as_scores,
            self.otherwise,
        )

    def answer(self, base: TensorStream, raw: TensorStream) -> Verdict:
        """Read both streams, and compare them in the form that they have in common."""
        if self.as_masks or self.as_scores:
            mine, theirs = base.collect(), raw.collect()
            if self.as_masks:
                verdict = compare_masks(mine, theirs, self.standard, self.otherwise)
            else:
                verdict = compare_scores(mine, theirs, self.standard)
            if verdict is not None and (self.as_masks or verdict.status != "pass"):
                return verdict
            base, raw = mine.stream(base.name), theirs.stream(raw.name)
        digests = PerSide(self.base.digest, self.raw.digest)
        if is_broadcast(base.spec.shape, raw.spec.shape):
            base, digest = widened(base, raw.spec.shape)
            digests = PerSide(digest, digests.raw)
        elif is_broadcast(raw.spec.shape, base.spec.shape):
            raw, digest = widened(raw, base.spec.shape)
            digests = PerSide(digests.base, digest)
        elif base.spec.shape != raw.spec.shape:
            raw = replace(raw, spec=TensorSpec(raw.spec.dtype, base.spec.shape))
        verdict = compare_streams(base, raw, digests.base, digests.raw, self.standard)
        return in_one_form(verdict, self.base.spec, self.raw.spec)


def may_be_reordered(base: Record, raw: Record, standard: Standard) -> bool:
    """Tell by specs and digests whether two tensors that differ may be one, with its axes in two orders."""
    if standard.rules.mode != "scaled" or base.spec.size_bytes > _MOST_REORDERED_BYTES:
        return False
    if not carry_alike(base.spec, base.digest, raw.spec, raw.digest, standard):
        return False
    first, second = (raw, base) if _splits(raw.spec, base.spec) else (base, raw)
    return next(orders_of_axes(first.spec.shape, second.spec.shape), None) is not None


def reordered(question: Question, base: TensorStream, raw: TensorStream) -> Verdict:
    """Read both streams whole, and say in which order of raw's axes they agree; else return the question's other verdict.

    It remains a failure: only what follows from the tensors shows whether the model reads them in that order.
    """
    differ = question.otherwise
    assert differ is not None, "only what differs is tried in another order"
    mine, theirs = base.collect(), raw.collect()
    digests = question.base.digest, question.raw.digest
    turns_raw = _splits(theirs.spec, mine.spec)
    turned, kept = (theirs, mine) if turns_raw else (mine, theirs)
    longer = len(turned.spec.shape) > len(kept.spec.shape)
    merged = "" if not longer else "base" if turns_raw else "raw"
    for order in orders_of_axes(turned.spec.shape, kept.spec.shape):
        one = in_order(turned, order, kept.spec.shape)
        base_stream, raw_stream = (kept.stream(""), one.stream("")) if turns_raw else (one.stream(""), kept.stream(""))
        if compare_streams(base_stream, raw_stream, *digests, question.standard).status == "pass":
            return replace(differ, failure="axes", why=f"{told_order(order, merged)}; {differ.why}")
    return differ


def _splits(raw: TensorSpec, base: TensorSpec) -> bool:
    """Tell whether it is raw's axes that are brought into base's order: it has as many, or more."""
    return len(raw.shape) >= len(base.shape)


def in_one_form(verdict: Verdict, base: TensorSpec, raw: TensorSpec) -> Verdict:
    """Note on a verdict that shapes differ in form only, where they differ."""
    if base.shape == raw.shape or verdict.status == "skipped":
        return verdict
    if verdict.status == "fail" and base.count != raw.count:
        why = f"shapes differ: {base} in base, {raw} in raw, and their elements do so when the fewer are repeated"
        return replace(verdict, failure="shape", why=why)
    why = f"compared in one form: {base} in base, {raw} in raw"
    return replace(verdict, why=f"{verdict.why}; {why}" if verdict.why else why)


def shapes_differ(base: Record, raw: Record, standard: Standard) -> Verdict:
    """Return the failure of two tensors whose shapes are no forms of one."""
    differ = compare_specs(base.spec, raw.spec, standard.rules)
    assert differ is not None, "the shapes differ"
    return differ
