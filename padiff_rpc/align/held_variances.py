"""Running variances in two dumps of parameters, where the values of before the step are not known.

torch adds up sample variances, paddle those of the population, which are (n - 1) / n of them. Whatever was added up in however
many steps, the sums are that far apart at most (see running_variance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.running_variance import VARIANCES, is_batch_norm
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.result import Pair
from padiff_rpc.tensors.tensor import Tensor


def judge_variances(
    pairs: Sequence[Pair],
    links: Sequence[ParameterLink],
    comparer: ParameterComparer,
    base: ModelDescription,
    raw: ModelDescription,
    counts: Mapping[str, int],
) -> list[Pair]:
    """Judge running variances that fail anew, between torch and paddle. The pairs belong to the links, in order.

    counts: the fewest values per channel that base's layers saw in a call, by route; where it is not known, two frameworks'
    variances may be apart by a factor of 2, and one within that is skipped, not passed.
    """
    if {base.framework, raw.framework} != {"torch", "paddle"}:
        return list(pairs)
    names = [(link, name) for link in links for name in link.raw]
    return [
        _judge(pair, link, name, comparer, base.framework, counts.get(link.base_route, 0))
        if pair.failure == "values" and _is_variance(link, name, base)
        else pair
        for pair, (link, name) in zip(pairs, names, strict=True)
    ]


def _is_variance(link: ParameterLink, name: str, base: ModelDescription) -> bool:
    plain = link.special is None and name.rpartition(".")[2] in VARIANCES
    return plain and any(link.base[0] in layer.parameters and is_batch_norm(base, layer.route) for layer in base.layers)


def _judge(pair: Pair, link: ParameterLink, name: str, comparer: ParameterComparer, framework: str, count: int) -> Pair:
    theirs, ours = comparer.base_tensor(link, name, "value"), comparer.raw_tensor(name, "value")
    values, raw = theirs.to_array(), ours.to_array()
    if not np.issubdtype(values.dtype, np.floating):
        return pair
    factor = max(count, 2) / (max(count, 2) - 1)
    wide = values.astype(np.float64)
    low, high = (wide / factor, wide) if framework == "torch" else (wide, wide * factor)
    nearest = np.clip(raw.astype(np.float64), low, high).astype(values.dtype)
    verdict = comparer.compare_tensors("buffers", Tensor.from_array(nearest), ours)
    why = "torch keeps the sample variance, paddle the population's"
    if verdict.status != "pass":
        return pair
    if count < 2:
        why = f"{why}, and how many values this layer saw is not known: no report.json beside tells"
        return replace(pair, status="skipped", failure="", why=why, metrics=None)
    why = f"compared within what {why} explains, of n = {count} values or more"
    return replace(pair, status="pass", failure="", why=why, metrics=verdict.metrics)
