"""Compare what the two optimisers keep of the gradients: it shows from the first step on what a step may show much later."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.optimizer_options import OptimizerOptions
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import OptimizerState, OptionValue
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import DType

_STATES: Mapping[OptimizerState, str] = {"moment1": "beta1", "moment2": "beta2", "momentum": ""}
"""The states, and the option that says how slowly each follows the gradients."""
_ROUNDING = 1e-5
"""The relative error (L2 norm) that a state may have at least; two right optimisers were 3e-7 apart in moment1."""
_MOST = 0.3
"""And at most, which half types come to."""
_SLOW = 0.999


class StateComparer:
    """Compares the states of optimisers that step on the same gradients.

    The first step of Adam has the size lr whatever beta2 is, or a small L2 penalty; SGD's is the same with and without momentum.
    The states are not. They are running means of equal gradients, and so equal but for rounding. 1 - beta2 in float32 has lost
    some digits, which leaves 1.3e-5 in moment2 for 0.999.
    """

    def __init__(self, comparer: ParameterComparer, neutral: bool) -> None:
        """Begin.

        Args:
            comparer: reads and compares both sides' states.
            neutral: says that both optimisers are neutral: of these only a parameter's own settings can differ, which the
                first step shows.
        """
        self._comparer = comparer
        self._neutral = neutral
        self._shared: frozenset[str] | None = None

    def compare(
        self, step: int, links: Sequence[ParameterLink], shared: Collection[str], options: OptimizerOptions
    ) -> list[Pair]:
        """Return the comparisons of all states that both sides keep, as pairs of stage `weights`.

        A state that one side alone keeps fails where the two optimisers say that they follow other formulas, or have momentum on
        one side only; else it is of a type of its own (float32 beside bfloat16 parameters), and is passed over.

        Args:
            step: counts the steps from 0.
            links: say which parameters correspond.
            shared: names raw's parameters whose step was taken on base's gradients; only those that always were are compared.
            options: tell of both optimisers.
        """
        self._shared = frozenset(shared) if self._shared is None else self._shared & frozenset(shared)
        if not options.known or (self._neutral and step):
            return []
        held = [link for link in links if self._shared.issuperset(link.raw)]
        treated, pairs = options.treated(held), list[Pair]()
        for state, beta in _STATES.items():
            names = [(name, link) for link in held for name in link.raw]
            found = self._comparer.compare(step, "weights", held, state).pairs
            for pair, (name, link) in zip(found, names, strict=True):
                base, raw = treated.base.get(link.base[0], ("", {})), treated.raw.get(name, ("", {}))
                other = base[0] != raw[0] or bool(base[1].get("momentum")) != bool(raw[1].get("momentum"))
                if pair.status == "skipped" or (pair.failure == "missing" and not other):
                    continue
                named = replace(pair, tensor=f"{pair.tensor} ({state})", base_tensor="")
                pairs.append(_judged(named, self._allowed(link, name, base[1].get(beta, 0.0))))
        return pairs

    def _allowed(self, link: ParameterLink, name: str, beta: OptionValue) -> float:
        """Bound the relative error of a state; float64 parameters may have coefficients in float32 (paddle)."""
        epsilon = max(EPSILON[DType.F32], *(EPSILON.get(dtype, 0.0) for dtype in self._comparer.dtypes(link, name)))
        slow = beta if isinstance(beta, float) and beta < 1.0 else _SLOW
        return min(max(_ROUNDING, epsilon / (1.0 - slow)), _MOST)


def _judged(pair: Pair, allowed: float) -> Pair:
    """Fail a pair that is further apart than rounding leaves it."""
    if pair.metrics is None or pair.failure not in ("", "values"):
        return pair
    metrics = replace(pair.metrics, measure="rel_l2", measured=pair.metrics.rel_l2, allowed=allowed)
    if metrics.rel_l2 <= allowed:
        return pair.judged_anew(Verdict("pass", "", "", metrics))
    why = (
        f"the optimisers' states differ by {metrics.rel_l2:.3g} (relative L2) after steps on equal gradients, which leave "
        f"{allowed:.2g} at most"
    )
    return pair.judged_anew(Verdict("fail", "values", why, metrics))
