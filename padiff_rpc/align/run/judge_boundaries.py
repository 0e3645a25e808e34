"""Judge boundaries that both sides have reached: by digests first, then several at a time by their bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from sys import intern

from padiff_rpc.align.run.agreeing import Agreeing
from padiff_rpc.align.run.exchanged import Exchanged
from padiff_rpc.align.run.judged_boundary import Judged, judged
from padiff_rpc.align.run.pairing import stage_of
from padiff_rpc.align.run.questions import (
    Contents,
    Question,
    in_one_form,
    may_be_reordered,
    reordered,
    shapes_differ,
)
from padiff_rpc.align.sides import Sides
from padiff_rpc.compare.floor import is_random, root_mean_square
from padiff_rpc.compare.forms import are_regrouped, is_broadcast
from padiff_rpc.compare.judge import compare_digests
from padiff_rpc.compare.masks import may_be_masks, may_be_scores
from padiff_rpc.compare.standard import Standard
from padiff_rpc.match.attention import are_averaged
from padiff_rpc.match.pair_records import are_of_one_kind, pair_records
from padiff_rpc.model.model import Boundary, Phase, Record
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

_PHASES: tuple[Phase, ...] = ("forward", "backward")

_MOST_WIDENED_BYTES = 64 << 20
"""Tensors are repeated, to be compared with those that are repeated already, up to this size."""

_KNOWN_COUNT = 256
"""How many verdicts are kept for contents that come again. They do within a layer or two, or often (a mask that all take)."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Two records of two boundaries, None where there is none, and what is known of them: a verdict, or a question."""

    base: Boundary
    raw: Boundary
    mine: Record | None
    other: Record | None
    found: Verdict | Question


class Judge:
    """Judges the boundaries of one phase.

    A tensor that one layer returns is taken by another, and returned by its parent. So each pair of contents is compared once,
    and its verdict is kept until _KNOWN_COUNT others have been asked for.
    """

    def __init__(self, sides: Sides, step: int) -> None:
        self._sides = sides
        self._step = step
        self._standards = _standards(sides)
        self._largest = 0.0
        self._verdicts: dict[Contents, Verdict] = {}
        self._reordered: dict[Contents, Verdict] = {}
        self._collects = sides.rules.mode == "scaled"
        self._agreeing = Agreeing()
        self._exchanged = Exchanged(sides.inferred)

    def judge(self, reached: Sequence[tuple[Boundary, Boundary]]) -> list[Judged]:
        """Compare every tensor of these (base, raw) boundaries; tensors move only where their digests leave it open.

        All tensors that have to move are asked for at once, since each question to a worker costs as much as a small tensor.
        """
        asked = [
            [
                _Asked(base, raw, mine, other, self._settle(base, raw, mine, other))
                for mine, other in pair_records(base, raw)
            ]
            for base, raw in reached
        ]
        every = [one for records in asked for one in records]
        self._answer([one.found for one in every if isinstance(one.found, Question)], self._verdicts, Question.answer)
        self._answer([one for one in map(self._reordering, every) if one is not None], self._reordered, reordered)
        found = [
            judged(base, raw, tuple(map(self._pair, records)), keep_whole=self._sides.replays)
            for (base, raw), records in zip(reached, asked, strict=True)
        ]
        for known in (self._verdicts, self._reordered):
            for contents in list(known)[:-_KNOWN_COUNT]:
                del known[contents]
        return found

    def noted_on(self, judged: Sequence[Judged], leftovers: PerSide[list[Boundary]]) -> list[Judged]:
        """Note on tensors that differ where they are found again (see `Agreeing.noted_on` and `Exchanged`)."""
        found = self._exchanged.found(judged, leftovers, self._agreeing.holds)
        noted = self._agreeing.noted_on(judged)
        return [
            replace(one, elsewhere={**found[one.base.seq], **(one.elsewhere or {})}) if one.base.seq in found else one
            for one in noted
        ]

    def _settle(self, base: Boundary, raw: Boundary, mine: Record | None, other: Record | None) -> Verdict | Question:
        if mine is None or other is None:
            return _one_sided(base, "base" if other is None else "raw", self._sides.only_replays)
        if base.phase == "forward":
            self._look_for_randomness(base.route, mine)
        verdict = self._settle_plainly(base, raw, mine, other)
        passes = isinstance(verdict, Verdict) and verdict.status == "pass"
        if passes or not (base.phase == "forward" and self._collects):
            return verdict
        if not base.route:
            scores = isinstance(verdict, Question) and may_be_scores(mine.spec, mine.digest, other.spec, other.digest)
            return replace(verdict, as_scores=True) if scores else verdict
        if not may_be_masks(mine.spec, mine.digest, other.spec, other.digest):
            return verdict
        standard, otherwise = self._standards[base.phase], None if isinstance(verdict, Question) else verdict
        return Question(mine, other, standard, as_masks=True, otherwise=otherwise)

    def _look_for_randomness(self, route: str, mine: Record) -> None:
        """Remember a layer at which base does not run twice alike: from there on its floor tells nothing."""
        if mine.spec.dtype.is_floating:
            self._largest = max(self._largest, root_mean_square(mine.digest))
        if is_random(mine.digest, mine.spec, self._largest):
            self._sides.random.setdefault(route)
            self._standards = _standards(self._sides)

    def _settle_plainly(self, base: Boundary, raw: Boundary, mine: Record, other: Record) -> Verdict | Question:
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
        return Question(mine, other, standard) if verdict is None else verdict

    def _settle_form(self, phase: Phase, mine: Record, other: Record, standard: Standard) -> Verdict | Question:
        """Settle a comparison inside the models whose shapes differ: by the elements where they are the same in another form.

        A gradient is not repeated: that of a tensor which is repeated later is the sum over the repetitions.
        """
        base, raw = mine.spec, other.spec
        tells = not _is_constant(mine) and not _is_constant(other)  # equal elements agree in every form
        if tells and are_regrouped(base.shape, raw.shape):
            alike = TensorSpec(raw.dtype, base.shape)
            verdict = compare_digests(base, mine.digest, alike, other.digest, standard)
            return Question(mine, other, standard) if verdict is None else in_one_form(verdict, base, raw)
        wide, narrow = (raw, base) if len(raw.shape) >= len(base.shape) and raw.count >= base.count else (base, raw)
        repeats = (
            phase == "forward" and wide.size_bytes <= _MOST_WIDENED_BYTES and is_broadcast(narrow.shape, wide.shape)
        )
        same_types = base.dtype is raw.dtype or standard.rules.allow_dtype_difference
        if tells and repeats and same_types and are_of_one_kind(mine, other):
            return Question(mine, other, standard)
        return shapes_differ(mine, other, standard)

    def _reordering(self, one: _Asked) -> Question | None:
        """Ask whether tensors that differ agree along other axes, where their digests leave that possible."""
        verdict, standard = self._found(one), self._standards[one.base.phase]
        if verdict.status != "fail" or one.mine is None or one.other is None:
            return None
        if not may_be_reordered(one.mine, one.other, standard):
            return None
        return Question(one.mine, one.other, standard, otherwise=verdict)

    def _found(self, one: _Asked) -> Verdict:
        return self._verdicts[one.found.contents] if isinstance(one.found, Question) else one.found

    def _answer(
        self,
        questions: Sequence[Question],
        known: dict[Contents, Verdict],
        answer: Callable[[Question, TensorStream, TensorStream], Verdict],
    ) -> None:
        """Answer what is not known yet; what was asked for last comes last in what is known."""
        asked = {one.contents: one for one in questions}
        known.update({contents: known.pop(contents) for contents in asked if contents in known})
        new = {contents: one for contents, one in asked.items() if contents not in known}
        if not new:
            return
        sides, traffic = self._sides, self._sides.traffic
        with (
            closing(traffic.watch(sides.base.read_activations([one.base.id for one in new.values()]))) as base_streams,
            closing(traffic.watch(sides.raw.read_activations([one.raw.id for one in new.values()]))) as raw_streams,
        ):
            for (contents, one), base, raw in zip(new.items(), base_streams, raw_streams, strict=True):
                known[contents] = answer(one, base, raw)

    def _pair(self, one: _Asked) -> Pair:
        base, raw, mine, other, verdict = one.base, one.raw, one.mine, one.other, self._found(one)
        if (question := self._reordering(one)) is not None:
            verdict = self._reordered[question.contents]
        if verdict.failure == "missing":
            verdict = self._known_elsewhere(mine, other, verdict)
        record = mine or other
        prefix = "grad of " if base.phase == "backward" else ""
        tensor = intern(f"{prefix}{base.side}.{record.name if record is not None else ''}")
        self._remember(one, verdict, tensor)
        return Pair.of(
            verdict,
            step=self._step,
            stage=stage_of(base.phase),
            base_route=base.route,
            raw_route=raw.route,
            call=base.call,
            tensor=tensor,
        )

    def _remember(self, one: _Asked, verdict: Verdict, tensor: str) -> None:
        """Keep what inner tensors of the forward are known by; masks may agree without being equal."""
        base, raw, mine, other = one.base, one.raw, one.mine, one.other
        if not self._collects or not base.route or base.phase != "forward" or mine is None or other is None:
            return
        if verdict.status == "pass" and not (isinstance(one.found, Question) and one.found.as_masks):
            self._agreeing.add(base, raw, mine, other)
        elif verdict.failure in ("values", "shape"):
            self._exchanged.add(base, raw, mine, other, tensor, self._standards[base.phase])
            if base.side == "output":
                self._agreeing.add_unlike(base, raw, mine, other, tensor)

    def _known_elsewhere(self, mine: Record | None, other: Record | None, verdict: Verdict) -> Verdict:
        """Excuse an output that one model alone returns, where it is a tensor inside the model that has been compared.

        A model that returns its hidden states says no more by that than one that keeps them to itself.
        """
        side: SideName = "base" if mine is not None else "raw"
        record = mine or other
        if record is None or not self._agreeing.holds(side, record):
            return verdict
        return Verdict.skip(f"{verdict.why}, which agrees where a layer inside returns or takes it")


def _standards(sides: Sides) -> dict[Phase, Standard]:
    return {phase: sides.standard(stage_of(phase)) for phase in _PHASES}


def _is_constant(record: Record) -> bool:
    return record.spec.count > 1 and record.digest.min == record.digest.max


def _one_sided(boundary: Boundary, side: str, strict: bool) -> Verdict:
    """Only the model's own outputs must all have partners: what an inner layer returns besides reaches them or nobody.

    Such an output is not compared, and marked as missing: it is an extra (see `Extra`). With `strict` it fails at once.
    """
    what = "takes" if boundary.side == "input" else "returns"
    if boundary.route == "" and boundary.side == "output":
        return Verdict("fail" if strict else "skipped", "missing", f"only {side} returns this output", None)
    return Verdict.skip(f"only {side}'s layer {what} this tensor")


def _both_floating(mine: Record, other: Record) -> bool:
    return mine.spec.dtype.is_floating and other.spec.dtype.is_floating
