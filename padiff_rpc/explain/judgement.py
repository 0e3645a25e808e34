"""What the judge finds of a layer: its kind, the figures it rests on, and the words for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from padiff_rpc.per_side import SideName

Kind = Literal["rounding", "float32 inside", "lower precision", "kink", "semantics", "not judged"]
"""What a layer's difference is.

"rounding": in float64 both sides compute the same, and in their own dtype each is about as exact as it can be.
"float32 inside": in float64 they differ as float32 numbers do; something inside is computed, or kept, in float32.
"lower precision": one side is much less exact than the other: it computes in TF32 or half precision, accumulates in less, or
casts inside.
"kink": in float64 they agree; in their own dtype some element falls on the other side of a kink (ReLU at zero, a maximum), and
its gradient with it.
"semantics": they compute different functions.
"not judged": one side could not be replayed, or the replays cannot be compared; `Judgement.why` says it.
"""
Quantity = Literal["output", "input gradient", "parameter gradient"]


@dataclass(frozen=True)
class TensorError:
    """One tensor of the two replays.

    Attributes:
        quantity: What kind of tensor it is.
        base: Its name in base: of an output or an input, or a parameter's full name.
        raw: Its name in raw.
        apart: The relative distance (L2) of both sides in float64.
        factor: The number by which base's tensor comes nearest to raw's in float64.
        e_base: The relative distance of base's tensor in base's own dtype from base's in float64; None where it was not run.
        e_raw: The same of raw.
    """

    quantity: Quantity
    base: str
    raw: str
    apart: float
    factor: float = 1.0
    e_base: float | None = None
    e_raw: float | None = None

    def __str__(self) -> str:
        name = self.base if self.base == self.raw else f"{self.base} / {self.raw}"
        return f"{self.quantity} {name}"


@dataclass(frozen=True)
class Judgement:
    """The judge's finding of one layer call.

    Attributes:
        base_route: Base's layer.
        raw_route: Raw's layer.
        call: The number of the call within the step.
        kind: What the difference is.
        errors: Every tensor that was compared, the one with the largest `apart` first.
        limit: The largest `apart` that is rounding here.
        side: The side that is less precise, or computes in float32 inside, where that is known; else "".
        dtype: The element type that a side's float64 results betray, such as "BF16"; else "".
        flips: The number of elements near a kink whose signs differ, where inner layers were looked at.
        why: Why it was not judged, or what is wrong beside numbers (a gradient that is missing); else "".
        not_compared: What could not be compared, and why, in words.
    """

    base_route: str
    raw_route: str
    call: int
    kind: Kind
    errors: tuple[TensorError, ...] = ()
    limit: float = 0.0
    side: SideName | Literal[""] = ""
    dtype: str = ""
    flips: int = 0
    why: str = ""
    not_compared: tuple[str, ...] = ()

    @property
    def worst(self) -> TensorError | None:
        """The tensor that is furthest apart in float64."""
        return self.errors[0] if self.errors else None

    @property
    def apart(self) -> float:
        """The largest relative distance in float64; 0 where nothing was compared."""
        return self.errors[0].apart if self.errors else 0.0

    def words(self) -> str:
        """Say the finding in one or two sentences."""
        return " ".join(text for text in (self._finding(), self._left_out()) if text)

    def _finding(self) -> str:
        where = "" if self.worst is None else f" ({self.worst})"
        alone = f"alone on base's inputs in float64 the sides differ by {self.apart:.1e}{where}"
        if self.kind == "not judged":
            return f"not judged: {self.why}."
        if self.kind == "rounding":
            return f"rounding: {alone}; {self._own()}."
        if self.kind == "lower precision":
            if self.dtype:
                return f"lower precision on {self.side}: {alone}, and {self.side} returns {self.dtype} numbers there."
            return f"lower precision on {self.side}: {alone}, yet {self._own()}."
        if self.kind == "kink":
            flips = f" {self.flips} elements fall on the other side of zero." if self.flips else ""
            return f"kink: {alone}; in their own dtype the outputs agree and a few gradients do not.{flips}"
        if self.kind == "float32 inside":
            who = self.side or "one side"
            return f"computed in float32 inside: {alone}, as float32 numbers do: {who} keeps or computes something in float32."
        what = f"; {self.why}" if self.why else ""
        worst = self.worst
        factor = ""
        if worst is not None and abs(worst.factor - 1) > 0.5 * worst.apart < float("inf"):
            factor = f", raw = {worst.factor:.8g} x base"
        return f"semantics: {alone}{factor}{what}. The two layers compute different functions."

    def _own(self) -> str:
        known = [each for each in self.errors if each.e_raw is not None and each.e_base is not None]
        if not known:
            return "neither was run in its own dtype"
        worst = max(known, key=lambda each: max(each.e_base or 0.0, each.e_raw or 0.0))
        return f"in its own dtype base is {worst.e_base:.1e} and raw {worst.e_raw:.1e} off its own float64 ({worst})"

    def _left_out(self) -> str:
        return f"Not compared: {'; '.join(self.not_compared)}." if self.not_compared else ""
