"""Compare what two models hold: parameters, buffers and parameter gradients, through the layout rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np

from padiff_rpc.align.boundaries import Sides
from padiff_rpc.align.matching import ParameterLink
from padiff_rpc.align.rules import in_raw_layout
from padiff_rpc.align.traffic import Traffic
from padiff_rpc.compare.judge import Verdict, compare_digests, compare_streams
from padiff_rpc.model.digest import digest
from padiff_rpc.model.model import Model, ModelDescription, What
from padiff_rpc.result import Pair, Stage
from padiff_rpc.tensor import Digest, DType, Tensor, TensorSpec, TensorStream

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
        known = [link for link in links if not _beyond_special(link, what)]
        base_digests = self._sides.base.digest_parameters([name for link in known for name in link.base], what)
        raw_digests = self._sides.raw.digest_parameters([name for link in known for name in link.raw], what)
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
                tensor=self.local_name(raw_name, link),
                status=verdict.status,
                why=verdict.why,
                failure=verdict.failure,
                metrics=verdict.metrics,
                base_tensor=_base_names(link, self.local_name(raw_name, link)),
            )

        beyond = _beyond_special(link, what)
        absent = Verdict("skipped", "", beyond, None) if beyond else _absent(link, base_digests, raw_digests)
        if absent is not None:
            for raw_name in link.raw:
                yield pair(raw_name, absent)
            return
        scale = self.noise_of(link, noise)
        for raw_name, source in self._in_raw_layout(link, what, base_digests):
            yield pair(raw_name, self._judge(stage, source, raw_name, what, raw_digests[raw_name], scale))

    def noise_of(self, link: ParameterLink, noise: NoiseScale) -> float:
        """Return how large the noise of a link's gradient may be on the less precise of the two sides."""
        raw = self._specs["raw"][link.raw[0]]
        base = TensorSpec(self._specs["base"][link.base[0]].dtype, raw.shape)
        return max(noise(link, base), noise(link, raw))

    def dtypes(self, link: ParameterLink, raw_name: str) -> tuple[DType, DType]:
        """Return base's and raw's element types of one raw tensor of a link."""
        return self._specs["base"][link.base[0]].dtype, self._specs["raw"][raw_name].dtype

    def base_tensor(self, link: ParameterLink, raw_name: str, what: What) -> Tensor:
        """Read what base has for one raw tensor of a link, whole and in raw's layout."""
        digests = self._sides.base.digest_parameters(list(link.base), what)
        sources = dict(self._in_raw_layout(link, what, digests))
        with sources[raw_name].open() as stream:
            return stream.collect()

    def raw_tensor(self, name: str, what: What) -> Tensor:
        """Read one of raw's tensors whole."""
        with self._sides.traffic.single(self._sides.raw.read_parameters([name], what)) as stream:
            return stream.collect()

    def compare_tensors(self, stage: Stage, base: Tensor, raw: Tensor) -> Verdict:
        """Compare two tensors that are here already."""
        streams = base.stream("base"), raw.stream("raw")
        digests = _digest(base), _digest(raw)
        return compare_streams(*streams, *digests, self._sides.rules, stage, self._sides.single_step)

    def local_name(self, raw_name: str, link: ParameterLink) -> str:
        """Return a raw tensor's name below its layer, as pairs show it."""
        return raw_name.removeprefix(f"{link.raw_route}.") if link.raw_route else raw_name

    def _judge(
        self, stage: Stage, base: _Source, raw_name: str, what: What, raw_digest: Digest, noise_scale: float
    ) -> Verdict:
        rules, single_step = self._sides.rules, self._sides.single_step
        verdict = compare_digests(
            base.spec,
            base.digest,
            self._specs["raw"][raw_name],
            raw_digest,
            rules,
            stage,
            single_step,
            noise_scale=noise_scale,
        )
        if verdict is not None:
            return verdict
        raw_streams = self._sides.raw.read_parameters([raw_name], what)
        with base.open() as base_stream, self._sides.traffic.single(raw_streams) as raw_stream:
            return compare_streams(
                base_stream, raw_stream, base.digest, raw_digest, rules, stage, single_step, noise_scale=noise_scale
            )

    def _in_raw_layout(
        self, link: ParameterLink, what: What, digests: dict[str, Digest]
    ) -> Iterator[tuple[str, _Source]]:
        """Give base's tensors in raw's layout, base's dtype kept: as they are, or read whole and transformed."""
        traffic, base = self._sides.traffic, self._sides.base
        if link.rule == "identity":
            name = link.base[0]
            stream = partial(_open_single, traffic, base, name, what)
            yield link.raw[0], _Source(self._specs["base"][name], digests[name], stream)
            return
        tensors = [stream.collect() for stream in traffic.watch(base.read_parameters(list(link.base), what))]
        for raw_name, tensor in in_raw_layout(link, tensors, [self._specs["raw"][name] for name in link.raw]):
            yield raw_name, _Source(tensor.spec, _digest(tensor), partial(nullcontext, tensor.stream(raw_name)))


@dataclass(frozen=True)
class _Source:
    """Base's side of a comparison: what is known of it, and how to get at its bytes."""

    spec: TensorSpec
    digest: Digest
    open: Callable[[], AbstractContextManager[TensorStream]]


def _open_single(traffic: Traffic, model: Model, name: str, what: What) -> AbstractContextManager[TensorStream]:
    return traffic.single(model.read_parameters([name], what))


def _digest(tensor: Tensor) -> Digest:
    return digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)


def _beyond_special(link: ParameterLink, what: What) -> str:
    """Say why the tensors that a special initialiser fills cannot be compared; "" where they can."""
    if link.special is None or (what == "value" and not link.special.live):
        return ""
    name = f"the special initialiser of {link.special.base!r} -> {link.special.raw!r}"
    if link.special.live:
        return f"{name} copies between live layers, so that it is not known which of base's values belong here"
    return f"{name} is a function of values: what it does to gradients is not known"


def _absent(link: ParameterLink, base: dict[str, Digest], raw: dict[str, Digest]) -> Verdict | None:
    """Judge a link of which some tensor does not exist (a gradient that never came)."""
    missing_base = [name for name in link.base if name not in base]
    missing_raw = [name for name in link.raw if name not in raw]
    if not missing_base and not missing_raw:
        return None
    if len(missing_base) == len(link.base) and len(missing_raw) == len(link.raw):
        return Verdict("skipped", "", "no gradient on either side", None)
    side, names = ("base", missing_base) if missing_base else ("raw", missing_raw)
    there = [*(base[name] for name in link.base if name in base), *(raw[name] for name in link.raw if name in raw)]
    if not (missing_base and missing_raw) and all(digest.count and digest.norm == 0.0 for digest in there):
        # A branch that is not taken on one side, and is multiplied by zero on the other. What decay makes of it, shows in
        # the weights.
        return Verdict("skipped", "", f"{side} has no gradient, and the other side's is zero", None)
    return Verdict(
        "fail", "missing", f"no gradient for {', '.join(names)} in {side}, though the other side has one", None
    )


def _base_names(link: ParameterLink, raw_name: str) -> str:
    """Name base's tensors of a link below their layer, where they are called otherwise than raw's."""
    names = [name.removeprefix(f"{link.base_route}.") if link.base_route else name for name in link.base]
    return "" if names == [raw_name] else ", ".join(names)


def _specs(description: ModelDescription) -> dict[str, TensorSpec]:
    return {name: info.spec for info in description.parameters for name in (info.name, *info.aliases)}
