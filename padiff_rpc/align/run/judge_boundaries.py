"""Judge boundaries that both sides have reached: by digests first, then several at a time by their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from sys import intern

from padiff_rpc.align.run.judged_boundary import Judged, judged
from padiff_rpc.align.run.pairing import are_of_one_kind, pair_records, stage_of
from padiff_rpc.align.sides import Sides
from padiff_rpc.compare.judge import compare_digests, compare_streams
from padiff_rpc.compare.standard import Standard
from padiff_rpc.match.attention import are_averaged
from padiff_rpc.model.model import Boundary, Phase, Record
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import TensorSpec

_Contents = tuple[TensorSpec, bytes, TensorSpec, bytes, Standard]
"""Everything on which a verdict by bytes depends."""

_PHASES: tuple[Phase, ...] = ("forward", "backward")

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
                tuple(self._pair(base, raw, mine or other, found) for mine, other, found in records),
                keep_whole=self._sides.replays,
            )
            for (base, raw), records in zip(reached, settled, strict=True)
        ]
        for contents in list(self._verdicts)[:-_KNOWN_COUNT]:
            del self._verdicts[contents]
        return found

    def _settle(self, base: Boundary, raw: Boundary, mine: Record | None, other: Record | None) -> Verdict | _Question:
        if mine is None or other is None:
            return _one_sided(base, "base" if other is None else "raw")
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
        verdict = compare_digests(mine.spec, mine.digest, other.spec, other.digest, standard)
        return _Question(mine, other, standard) if verdict is None else verdict

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
                self._verdicts[contents] = compare_streams(base, raw, one.base.digest, one.raw.digest, one.standard)

    def _pair(self, base: Boundary, raw: Boundary, record: Record | None, found: Verdict | _Question) -> Pair:
        verdict = self._verdicts[found.contents] if isinstance(found, _Question) else found
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


def _one_sided(boundary: Boundary, side: str) -> Verdict:
    """Only the model's own outputs must all have partners: what an inner layer returns besides reaches them or nobody."""
    what = "takes" if boundary.side == "input" else "returns"
    why = f"only {side}'s layer {what} this tensor"
    if boundary.route == "" and boundary.side == "output":
        return Verdict("fail", "missing", why, None)
    return Verdict.skip(why)


def _both_floating(mine: Record, other: Record) -> bool:
    return mine.spec.dtype.is_floating and other.spec.dtype.is_floating
