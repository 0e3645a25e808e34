"""Judge boundaries that both sides have reached: by digests first, then several at a time by their bytes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from sys import intern

from padiff_rpc.align.run.judged_boundary import Judged, judged
from padiff_rpc.align.run.pairing import are_of_one_kind, pair_records, stage_of
from padiff_rpc.align.sides import Sides
from padiff_rpc.compare.forms import are_regrouped, is_broadcast, widened
from padiff_rpc.compare.judge import compare_digests, compare_specs, compare_streams
from padiff_rpc.compare.standard import Standard
from padiff_rpc.match.attention import are_averaged
from padiff_rpc.model.model import Boundary, Phase, Record
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

_Contents = tuple[TensorSpec, bytes, TensorSpec, bytes, Standard]
"""Everything on which a verdict by bytes depends."""

_PHASES: tuple[Phase, ...] = ("forward", "backward")

_MOST_WIDENED_BYTES = 64 << 20
"""Tensors are repeated, to be compared with those that are repeated already, up to this size."""

_HASH_BYTES = 8
"""Of the hash of an inner tensor whose comparison passed, so many bytes are kept: there are thousands of such tensors."""

_KNOWN_COUNT = 256
"""How many verdicts are kept for contents that come again. They do within a layer or two, or often (a mask that all take)."""


@dataclass(frozen=True, slots=True)
class _Question:
    """Two records whose digests leave it open whether they agree."""

    base: Record
    raw: Record
    standard: Standard

    @property
    def contents(self) -> _Contents:
        base, raw = self.base, self.raw
        return base.spec, base.digest.hash, raw.spec, raw.digest.hash, self.standard

    def answer(self, base: TensorStream, raw: TensorStream) -> Verdict:
        """Read both streams, and compare them in the form that they have in common."""
        digests = PerSide(self.base.digest, self.raw.digest)
        if is_broadcast(base.spec.shape, raw.spec.shape):
            base, digest = widened(base, raw.spec.shape)
            digests = PerSide(digest, digests.raw)
        elif is_broadcast(raw.spec.shape, base.spec.shape):
            raw, digest = widened(raw, base.spec.shape)
            digests = PerSide(digests.base, digest)
        elif base.spec.shape != raw.spec.shape:
            raw = replace(raw, spec=TensorSpec(raw.spec.dtype, base.spec.shape))
        return compare_streams(base, raw, digests.base, digests.raw, self.standard)


class Judge:
    """Judges the boundaries of one phase.

    A tensor that one layer returns is taken by another, and returned by its parent. So each pair of contents is compared once,
    and its verdict is kept until _KNOWN_COUNT others have been asked for.
    """

    def __init__(self, sides: Sides, step: int) -> None:
        self._sides = sides
        self._step = step
        self._standards = {phase: sides.standard(stage_of(phase)) for phase in _PHASES}
        self._verdicts: dict[_Contents, Verdict] = {}
        self._collects = sides.rules.mode == "scaled"
        self._agreeing: PerSide[bytearray] = PerSide(bytearray(), bytearray())  # see _HASH_BYTES

    def judge(self, reached: Sequence[tuple[Boundary, Boundary]]) -> list[Judged]:
        """Compare every tensor of these (base, raw) boundaries; tensors move only where their digests leave it open.

        All tensors that have to move are asked for at once, since each question to a worker costs as much as a small tensor.
        """
        settled = [
            [(mine, other, self._settle(base, raw, mine, other)) for mine, other in pair_records(base, raw)]
            for base, raw in reached
        ]
        self._compare([found for records in settled for _, _, found in records if isinstance(found, _Question)])
        found = [
            judged(
                base,
                raw,
                tuple(self._pair(base, raw, mine, other, found) for mine, other, found in records),
                keep_whole=self._sides.replays,
            )
            for (base, raw), records in zip(reached, settled, strict=True)
        ]
        for contents in list(self._verdicts)[:-_KNOWN_COUNT]:
            del self._verdicts[contents]
        return found

    def _settle(self, base: Boundary, raw: Boundary, mine: Record | None, other: Record | None) -> Verdict | _Question:
        if mine is None or other is None:
            return _one_sided(base, "base" if other is None else "raw", self._sides.only_replays)
        standard = self._standards[base.phase]
        if base.side == "input" and mine.spec != other.spec and not _both_floating(mine, other):
            if not are_of_one_kind(mine, other) or (base.route and mine.spec.shape != other.spec.shape):
                who = "the layers take" if base.route else "the two models are given"
                why = f"{who} this input in different forms: {mine.spec} in base, {other.spec} in raw"
                return Verdict.skip(why)
            # Indices are the same in 32 bits and in 64.
            standard = replace(standard, rules=replace(standard.rules, allow_dtype_difference=True))
        if base.side == "output" and base.route in self._sides.attention and are_averaged(mine.spec, other.spec):
            why = (
                "torch averages these attention weights over the heads, paddle does not: "
                f"{mine.spec} in base, {other.spec} in raw"
            )
            return Verdict.skip(why)
        if base.route and mine.spec.shape != other.spec.shape and standard.rules.mode == "scaled":
            return self._settle_form(base.phase, mine, other, standard)
        verdict = compare_digests(mine.spec, mine.digest, other.spec, other.digest, standard)
        return _Question(mine, other, standard) if verdict is None else verdict

    def _settle_form(self, phase: Phase, mine: Record, other: Record, standard: Standard) -> Verdict | _Question:
        """Settle a comparison inside the models whose shapes differ: by the elements where they are the same in another form.

        A gradient is not repeated: that of a tensor which is repeated later is the sum over the repetitions.
        """
        base, raw = mine.spec, other.spec
        tells = not _is_constant(mine) and not _is_constant(other)  # equal elements agree in every form
        if tells and are_regrouped(base.shape, raw.shape):
            alike = TensorSpec(raw.dtype, base.shape)
            verdict = compare_digests(base, mine.digest, alike, other.digest, standard)
            return _Question(mine, other, standard) if verdict is None else _in_one_form(verdict, base, raw)
        wide, narrow = (raw, base) if len(raw.shape) >= len(base.shape) and raw.count >= base.count else (base, raw)
        repeats = (
            phase == "forward" and wide.size_bytes <= _MOST_WIDENED_BYTES and is_broadcast(narrow.shape, wide.shape)
        )
        same_types = base.dtype is raw.dtype or standard.rules.allow_dtype_difference
        if tells and repeats and same_types and are_of_one_kind(mine, other):
            return _Question(mine, other, standard)
        differ = compare_specs(base, raw, standard.rules)
        assert differ is not None, "the shapes differ"
        return differ

    def _compare(self, questions: Sequence[_Question]) -> None:
        """Answer what has not been answered before; what was asked for last comes last in the verdicts."""
        asked = {one.contents: one for one in questions}
        self._verdicts.update(
            {contents: self._verdicts.pop(contents) for contents in asked if contents in self._verdicts}
        )
        new = {contents: one for contents, one in asked.items() if contents not in self._verdicts}
        if not new:
            return
        sides, traffic = self._sides, self._sides.traffic
        with (
            closing(traffic.watch(sides.base.read_activations([one.base.id for one in new.values()]))) as base_streams,
            closing(traffic.watch(sides.raw.read_activations([one.raw.id for one in new.values()]))) as raw_streams,
        ):
            for (contents, one), base, raw in zip(new.items(), base_streams, raw_streams, strict=True):
                verdict = one.answer(base, raw)
                self._verdicts[contents] = _in_one_form(verdict, one.base.spec, one.raw.spec)

    def _pair(
        self, base: Boundary, raw: Boundary, mine: Record | None, other: Record | None, found: Verdict | _Question
    ) -> Pair:
        verdict = self._verdicts[found.contents] if isinstance(found, _Question) else found
        if verdict.failure == "missing":
            verdict = self._known_elsewhere(mine, other, verdict)
        elif self._collects and base.route and base.phase == "forward" and verdict.status == "pass" and mine and other:
            self._agreeing.base.extend(mine.digest.hash[:_HASH_BYTES])
            self._agreeing.raw.extend(other.digest.hash[:_HASH_BYTES])
        record = mine or other
        prefix = "grad of " if base.phase == "backward" else ""
        return Pair.of(
            verdict,
            step=self._step,
            stage=stage_of(base.phase),
            base_route=base.route,
            raw_route=raw.route,
            call=base.call,
            tensor=intern(f"{prefix}{base.side}.{record.name if record is not None else ''}"),
        )

    def _known_elsewhere(self, mine: Record | None, other: Record | None, verdict: Verdict) -> Verdict:
        """Excuse an output that one model alone returns, where it is a tensor inside the model that has been compared.

        A model that returns its hidden states says no more by that than one that keeps them to itself.
        """
        record, agreeing = (mine, self._agreeing.base) if mine is not None else (other, self._agreeing.raw)
        if record is None or record.digest.is_zero or not _holds(agreeing, record.digest.hash):
            return verdict
        return Verdict.skip(f"{verdict.why}, which agrees where a layer inside returns or takes it")


def _is_constant(record: Record) -> bool:
    return record.spec.count > 1 and record.digest.min == record.digest.max


def _holds(hashes: bytearray, hash: bytes) -> bool:
    """Tell whether a hash is among those whose first bytes were strung together."""
    known = memoryview(bytes(hashes)).cast("Q")
    return int.from_bytes(hash[:_HASH_BYTES], sys.byteorder) in known


def _one_sided(boundary: Boundary, side: str, strict: bool) -> Verdict:
    """Only the model's own outputs must all have partners: what an inner layer returns besides reaches them or nobody.

    Such an output is not compared, and marked as missing: it is an extra (see `Extra`). With `strict` it fails at once.
    """
    what = "takes" if boundary.side == "input" else "returns"
    if boundary.route == "" and boundary.side == "output":
        return Verdict("fail" if strict else "skipped", "missing", f"only {side} returns this output", None)
    return Verdict.skip(f"only {side}'s layer {what} this tensor")


def _in_one_form(verdict: Verdict, base: TensorSpec, raw: TensorSpec) -> Verdict:
    """Note on a verdict that shapes differ in form only, where they differ."""
    if base.shape == raw.shape or verdict.status == "skipped":
        return verdict
    if verdict.status == "fail" and base.count != raw.count:
        why = f"shapes differ: {base} in base, {raw} in raw, and their elements do so when the fewer are repeated"
        return replace(verdict, failure="shape", why=why)
    why = f"compared in one form: {base} in base, {raw} in raw"
    return replace(verdict, why=f"{verdict.why}; {why}" if verdict.why else why)


def _both_floating(mine: Record, other: Record) -> bool:
    return mine.spec.dtype.is_floating and other.spec.dtype.is_floating
