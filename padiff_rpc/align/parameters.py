"""Compare what two models hold: parameters, buffers and parameter gradients, through the layout rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from padiff_rpc.align.boundaries import Sides
from padiff_rpc.align.layouts import RULES
from padiff_rpc.align.matching import ParameterLink
from padiff_rpc.compare.judge import Verdict, compare_digests, compare_specs, compare_streams
from padiff_rpc.model.digest import digest
from padiff_rpc.model.model import ModelDescription, What
from padiff_rpc.result import Pair, Stage
from padiff_rpc.tensor import Digest, Tensor, TensorSpec

NoiseScale = Callable[[ParameterLink, TensorSpec], float]
"""How large the rounding noise of a link's gradient may be: absolute, by base layer and the tensor's spec."""


def no_noise(link: ParameterLink, spec: TensorSpec) -> float:
    return 0.0


class ParameterComparer:
    """Compares the linked tensors of two described models; digests first, bytes only where those leave it open."""

    def __init__(self, sides: Sides, base: ModelDescription, raw: ModelDescription) -> None:
        self._sides = sides
        self._specs = {"base": _specs(base), "raw": _specs(raw)}

    def compare(
        self, step: int, stage: Stage, links: Sequence[ParameterLink], what: What, noise: NoiseScale = no_noise
    ) -> Iterator[Pair]:
        """Yield one pair per raw tensor of the links, in their order."""
        base_digests = self._sides.base.digest_parameters([name for link in links for name in link.base], what)
        raw_digests = self._sides.raw.digest_parameters([name for link in links for name in link.raw], what)
        for link in links:
            yield from self._compare_link(step, stage, link, what, base_digests, raw_digests, noise)

    def _compare_link(
        self,
        step: int,
        stage: Stage,
        link: ParameterLink,
        what: What,
        base_digests: dict[str, Digest],
        raw_digests: dict[str, Digest],
        noise: NoiseScale,
    ) -> Iterator[Pair]:
        def pair(raw_name: str, verdict: Verdict) -> Pair:
            return Pair(
                step=step,
                stage=stage,
                base_route=link.base_route,
                raw_route=link.raw_route,
                call=0,
                tensor=_local(raw_name, link.raw_route),
                status=verdict.status,
                why=verdict.why,
                failure=verdict.failure,
                metrics=verdict.metrics,
            )

        absent = _absent(link, base_digests, raw_digests)
        if absent is not None:
            for raw_name in link.raw:
                yield pair(raw_name, absent)
            return
        scale = noise(link, self._specs["raw"][link.raw[0]])
        rules, single_step = self._sides.rules, self._sides.single_step
        if link.rule == "identity":
            (base_name,), (raw_name,) = link.base, link.raw
            base_digest, raw_digest = base_digests[base_name], raw_digests[raw_name]
            specs = self._specs["base"][base_name], self._specs["raw"][raw_name]
            verdict = compare_digests(
                specs[0], base_digest, specs[1], raw_digest, rules, stage, single_step, noise_scale=scale
            )
            if verdict is None:
                watch = self._sides.traffic.watch
                (base_stream,) = watch(self._sides.base.read_parameters([base_name], what))
                (raw_stream,) = watch(self._sides.raw.read_parameters([raw_name], what))
                verdict = compare_streams(
                    base_stream, raw_stream, base_digest, raw_digest, rules, stage, single_step, noise_scale=scale
                )
            yield pair(raw_name, verdict)
            return
        for raw_name, tensor in self._in_raw_layout(link, what):
            spec, raw_digest = self._specs["raw"][raw_name], raw_digests[raw_name]
            verdict = compare_specs(tensor.spec, spec, rules)
            if verdict is None:
                own = digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)
                verdict = compare_digests(
                    tensor.spec, own, spec, raw_digest, rules, stage, single_step, noise_scale=scale
                )
                if verdict is None:
                    (raw_stream,) = self._sides.traffic.watch(self._sides.raw.read_parameters([raw_name], what))
                    verdict = compare_streams(
                        tensor.stream(raw_name),
                        raw_stream,
                        own,
                        raw_digest,
                        rules,
                        stage,
                        single_step,
                        noise_scale=scale,
                    )
            yield pair(raw_name, verdict)

    def _in_raw_layout(self, link: ParameterLink, what: What) -> list[tuple[str, Tensor]]:
        """Read a link's base tensors whole and bring them into raw's layout; base's dtype stays."""
        streams = self._sides.traffic.watch(self._sides.base.read_parameters(list(link.base), what))
        tensors = [stream.collect() for stream in streams]
        shapes = [self._specs["raw"][name].shape for name in link.raw]
        arrays = RULES[link.rule].transform([tensor.to_array() for tensor in tensors], shapes)
        dtype = tensors[0].spec.dtype
        return [(name, Tensor.from_array(array, dtype)) for name, array in zip(link.raw, arrays, strict=True)]


def _absent(link: ParameterLink, base: dict[str, Digest], raw: dict[str, Digest]) -> Verdict | None:
    """Judge a link of which some tensor does not exist (a gradient that never came)."""
    missing_base = [name for name in link.base if name not in base]
    missing_raw = [name for name in link.raw if name not in raw]
    if not missing_base and not missing_raw:
        return None
    if len(missing_base) == len(link.base) and len(missing_raw) == len(link.raw):
        return Verdict("skipped", "", "no gradient on either side", None)
    side, names = ("base", missing_base) if missing_base else ("raw", missing_raw)
    return Verdict(
        "fail", "missing", f"no gradient for {', '.join(names)} in {side}, though the other side has one", None
    )


def _specs(description: ModelDescription) -> dict[str, TensorSpec]:
    return {name: info.spec for info in description.parameters for name in (info.name, *info.aliases)}


def _local(name: str, route: str) -> str:
    return name.removeprefix(f"{route}.") if route else name
