"""What one side reached and the other did not: layer calls and gradients without a partner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from padiff_rpc.align.boundaries import Judged, SideName
from padiff_rpc.align.verdict import Call
from padiff_rpc.model.model import Boundary
from padiff_rpc.result import Pair


class Leftovers:
    """Turns boundaries without a partner into pairs and words. `to_base` and `to_raw` map matched routes."""

    def __init__(self, to_base: Mapping[str, str]) -> None:
        self._to_base = to_base
        self._to_raw = {base: raw for raw, base in to_base.items()}

    def calls(
        self, step: int, judged: Sequence[Judged], leftovers: Mapping[SideName, Sequence[Boundary]]
    ) -> tuple[list[Pair], dict[Call, list[str]]]:
        """Return a skipped pair per layer call that only one side made, and the same in words by enclosing base call.

        Skipped, not failed: whether a layer is called through its module or inlined is a matter of style, and what it
        computes reaches an output that is compared.
        """
        ran = {one.base.route for one in judged}
        pairs: list[Pair] = []
        words: dict[Call, list[str]] = defaultdict(list)
        for side, boundaries in leftovers.items():
            for boundary in boundaries:
                if boundary.side != "output":
                    continue
                base_route = boundary.route if side == "base" else self._to_base[boundary.route]
                raw_route = self._to_raw[base_route]
                other = "raw" if side == "base" else "base"
                count = "again " if base_route in ran else ""
                own = base_route if side == "base" else raw_route
                why = f"only {side} calls {own!r} {count}here; {other} does not run it through its own forward"
                pairs.append(Pair(step, "forward", base_route, raw_route, boundary.call, "output", "skipped", why))
                if boundary.caller is not None:
                    caller = boundary.caller[0] if side == "base" else self._to_base[boundary.caller[0]]
                    words[(caller, boundary.caller[1])].append(why)
        return pairs, dict(words)

    def gradients(
        self, step: int, forward: Sequence[Judged], leftovers: Mapping[SideName, Sequence[Boundary]]
    ) -> list[Pair]:
        """Judge gradients that only one side has: a failure, unless what there is is zero."""
        both = {(one.base.route, one.base.call) for one in forward}
        pairs: list[Pair] = []
        for side, boundaries in leftovers.items():
            other = "raw" if side == "base" else "base"
            for boundary in boundaries:
                base_route = boundary.route if side == "base" else self._to_base[boundary.route]
                if (base_route, boundary.call) not in both:
                    continue
                zero = all(record.digest.norm == 0.0 for record in boundary.records)
                name = ", ".join(record.name for record in boundary.records)
                why = f"only {side} has this gradient" + (f", and it is zero; {other} has none" if zero else "")
                pairs.append(
                    Pair(
                        step=step,
                        stage="backward",
                        base_route=base_route,
                        raw_route=self._to_raw[base_route],
                        call=boundary.call,
                        tensor=f"grad of {boundary.side}.{name}",
                        status="skipped" if zero else "fail",
                        why=why,
                        failure="" if zero else "missing",
                    )
                )
        return pairs
