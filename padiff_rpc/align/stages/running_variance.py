"""Compare running variances across frameworks: torch keeps the sample variance, paddle the population variance.

Measured on torch 2.13, paddle 3.3 and 2.6 (see docs/frameworks.md): from the same n values torch's batch normalisation puts
sum((x - mean)^2) / (n - 1) into its running variance and paddle's the same sum over n. Both normalise by the latter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from padiff_rpc.align.assign.in_raw_layout import local
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.match.layer_families import family_of
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import Model, ModelDescription
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Verdict
from padiff_rpc.tensors.tensor import Tensor, collect_all

VARIANCES = ("running_var", "_variance")

Counts = tuple[int, int]
"""The number of values of each channel that a layer saw in each of its calls, and the number of its calls."""


class RunningVariances:
    """Converts base's running variances to raw's convention; does nothing where both sides share one."""

    def __init__(
        self,
        models: PerSide[Model],
        described: PerSide[ModelDescription],
        comparer: ParameterComparer,
        links: Sequence[ParameterLink],
    ) -> None:
        self._models = models
        self._comparer = comparer
        self._description = base = described.base
        self._links: dict[str, ParameterLink] = {}
        self._unrecorded: set[tuple[str, str]] = set()
        self._from = base.framework
        if _other_convention(described):
            variances = [(link, name) for link in links for name in link.raw if name.rpartition(".")[2] in VARIANCES]
            self._links = {
                link.raw_route: link
                for link, name in variances
                if link.special is None
                and local(name, link.raw_route) in VARIANCES
                and is_batch_norm(base, link.base_route)
            }
            self._unrecorded = {
                (link.raw_route, local(name, link.raw_route))
                for link, name in variances
                if link.special is not None or local(name, link.raw_route) not in VARIANCES
            }
        self._before: PerSide[dict[str, Tensor]] = PerSide({}, {})

    def remember(self) -> None:
        """Keep both sides' values from before the step: after the first step they differ, and the update alone is converted."""
        if self._links:
            links = self._links.values()
            self._before = PerSide(
                collect_all(self._models.base.read_parameters([link.base[0] for link in links])),
                collect_all(self._models.raw.read_parameters([link.raw[0] for link in links])),
            )

    def judge(self, pairs: Sequence[Pair], forward: Sequence[Judged]) -> list[Pair]:
        """Return the pairs of stage `buffers`, with the failing running variances judged anew after conversion."""
        counts = _values_per_channel(forward)
        return [
            self._judge(pair, counts) if pair.status == "fail" and pair.failure == "values" else pair for pair in pairs
        ]

    def _judge(self, pair: Pair, counts: Mapping[str, Counts]) -> Pair:
        if (pair.raw_route, pair.tensor) in self._unrecorded:
            why = (
                "torch keeps the sample variance, paddle the population's, and how many values this layer saw is not known, "
                "for only the layer around it is recorded"
            )
            return pair.judged_anew(Verdict.skip(why))
        return self._convert(pair, counts) if pair.tensor in VARIANCES else pair

    def _convert(self, pair: Pair, counts: Mapping[str, Counts]) -> Pair:
        link = self._links.get(pair.raw_route)
        count, calls = counts.get(pair.base_route, (0, 0))
        momentum = self._description.layer(pair.base_route).hyperparameters.get("momentum")
        if link is None or count < 2 or not isinstance(momentum, (int, float)):
            return pair
        keep = (1.0 - momentum if self._from == "torch" else float(momentum)) ** calls
        after = self._comparer.base_tensor(link, link.raw[0], "value")
        dtype = after.to_array().dtype
        if not np.issubdtype(dtype, np.floating):
            return pair
        base_before, raw_before = (
            tensor.to_array().astype(np.float64)
            for tensor in (self._before.base[link.base[0]], self._before.raw[link.raw[0]])
        )
        update = after.to_array().astype(np.float64) - keep * base_before
        update *= (count - 1) / count if self._from == "torch" else count / (count - 1)
        converted = keep * raw_before + update
        raw = self._comparer.raw_tensor(link.raw[0], "value")
        verdict = self._comparer.compare_tensors("buffers", Tensor.from_array(converted.astype(dtype)), raw)
        why = (
            f"compared after conversion: torch keeps the sample variance of n = {count} values, paddle the population's"
        )
        why = f"{verdict.why}; {why}" if verdict.why else why
        return pair.judged_anew(replace(verdict, why=why))


def is_batch_norm(description: ModelDescription, route: str) -> bool:
    """Tell whether the layer at a route is a batch normalisation."""
    layer = description.layer(route)
    shapes = {name.rpartition(".")[2]: description.parameter(name).spec.shape for name in layer.parameters}
    return family_of(description.framework, layer.class_name, layer.class_path, shapes) == "batchnorm"


def _values_per_channel(forward: Sequence[Judged]) -> dict[str, Counts]:
    """Return n and the number of calls per base route, from the inputs [N, C, ...] of each layer.

    Layers whose n differs between calls are left out.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for one in forward:
        if one.base.side == "input" and one.first is not None:
            found[one.base.route].append(values_per_channel(one.first.shape))
    return {route: (counts[0], len(counts)) for route, counts in found.items() if len(set(counts)) == 1}


def values_per_channel(shape: Sequence[int]) -> int:
    """Return the number of values of each channel in an input [N, C, ...]; 0 for an input of another form."""
    return math.prod(shape) // shape[1] if len(shape) > 1 and shape[1] else 0


def judge_variances(
    pairs: Sequence[Pair],
    links: Sequence[ParameterLink],
    comparer: ParameterComparer,
    described: PerSide[ModelDescription],
    counts: Mapping[str, int],
) -> list[Pair]:
    """Judge failing running variances anew, between torch and paddle.

    Args:
        pairs: are the comparisons of the links' tensors, in order.
        links: say which tensors correspond.
        comparer: reads and compares the tensors.
        described: are both models' descriptions.
        counts: maps base's routes to the fewest values per channel that the layer saw in a call. Where that is not known, the
            variances of two frameworks may be apart by a factor of 2; a variance within that is skipped, and not passed.
    """
    if not _other_convention(described):
        return list(pairs)
    base = described.base
    names = [(link, name) for link in links for name in link.raw]
    return [
        _judge(pair, link, name, comparer, base.framework, counts.get(link.base_route, 0))
        if pair.failure == "values" and _is_variance(link, name, base)
        else pair
        for pair, (link, name) in zip(pairs, names, strict=True)
    ]


def _other_convention(described: PerSide[ModelDescription]) -> bool:
    return {model.framework for model in described} == {"torch", "paddle"}


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
        return pair.judged_anew(Verdict.skip(why))
    why = f"compared within what {why} explains, of n = {count} values or more"
    return pair.judged_anew(Verdict("pass", "", why, verdict.metrics))
