"""Compare the parameters, buffers and parameter gradients of two models, through the layout rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from sys import intern

import numpy as np

from padiff_rpc.align.assign.in_raw_layout import in_raw_layout
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.sides import Sides
from padiff_rpc.compare.judge import compare_digests, compare_streams, statistics_for
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import ModelDescription, What
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Stage, Verdict
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, Tensor, TensorSpec, TensorStream, told

_STREAMED = ("identity", "transpose")
"""Rules whose tensors are compared as they come, of whatever size; the others cut or join, and are read whole."""

NoiseScale = Callable[[ParameterLink, TensorSpec], float]
"""Returns a bound of the rounding noise of a link's gradient, as an absolute value; the tensor's spec counts as well."""


def no_noise(link: ParameterLink, spec: TensorSpec) -> float:
    """Bound the noise by 0: values, unlike gradients, hold none."""
    return 0.0


_TOGETHER = 256
"""The number of links that are digested and compared together: one question to a worker, whose answers are held at a time."""


@dataclass(frozen=True)
class Compared:
    """The comparison of some links.

    Attributes:
        pairs: hold one comparison for each of raw's tensors, in the links' order.
        peaks: map the name of each of base's tensors to its greatest magnitude.
        nonzero: says that some tensor of base's is not zero throughout.
        norms: are the L2 norms over all tensors that both sides have; None where the mode asks for no norms.
        apart: is the L2 norm of how far these are apart.
    """

    pairs: list[Pair]
    peaks: dict[str, float]
    nonzero: bool
    norms: PerSide[float] | None
    apart: float


@dataclass(frozen=True)
class _Digests:
    """The digests of both sides' tensors, by name.

    Attributes:
        base: holds those of base's tensors, in base's layout.
        turned: holds those of base's matrices that lie transposed in raw; a tied matrix may be in both. A gradient's digest
            has no hash here, since it is taken in base's layout.
        raw: holds those of raw's tensors.
    """

    base: dict[str, Digest]
    turned: dict[str, Digest]
    raw: dict[str, Digest]

    def of_base(self, link: ParameterLink) -> dict[str, Digest]:
        return self.turned if link.rule == "transpose" else self.base

    def norm_of_base(self, link: ParameterLink) -> float:
        """Return the L2 norm of base's tensors of a link, shared out evenly over raw's where it has several."""
        found = self.of_base(link)
        return math.hypot(*(told(found[name].norm) for name in link.base)) / math.sqrt(len(link.raw))


@dataclass(frozen=True, slots=True)
class _OpenLink:
    """A link of one tensor to one, whose digests do not settle it."""

    link: ParameterLink
    base: Digest
    raw: Digest
    noise_scale: float


class ParameterComparer:
    """Compares the linked tensors of two described models; digests first, bytes only where those leave it open."""

    def __init__(self, sides: Sides, threads: SideThreads, described: PerSide[ModelDescription]) -> None:
        self._sides = sides
        self._threads = threads
        self._specs = described.map(_specs)

    def compare(
        self, step: int, stage: Stage, links: Sequence[ParameterLink], what: What, noise: NoiseScale = no_noise
    ) -> Compared:
        """Compare the tensors of these links.

        Args:
            step: counts the steps from 0.
            stage: names the stage under which the comparisons stand.
            links: say which tensors correspond.
            what: chooses values or gradients.
            noise: bounds the rounding noise of each link's gradient.
        """
        pairs: list[Pair] = []
        peaks: dict[str, float] = {}
        with_norms = statistics_for(self._sides.rules) is Statistics.ALL
        nonzero, squares = False, [0.0, 0.0, 0.0]
        for start in range(0, len(links), _TOGETHER):
            together = links[start : start + _TOGETHER]
            digests = self._digest([link for link in together if not _beyond_special(link, what)], what)
            found = self._judge_all(stage, together, digests, what, noise)
            for (at, name), verdict in found.items():
                pairs.append(self._pair(step, stage, together[at], name, verdict))
                if with_norms and verdict.metrics is not None and name in digests.raw:
                    base = digests.norm_of_base(together[at])
                    sizes = base, told(digests.raw[name].norm), base * verdict.metrics.rel_l2
                    squares = [total + size * size for total, size in zip(squares, sizes, strict=True)]
            for name, one in (*digests.turned.items(), *digests.base.items()):
                peaks[name] = one.peak
                nonzero = nonzero or not one.is_zero
        base_norm, raw_norm, apart = map(math.sqrt, squares)
        return Compared(pairs, peaks, nonzero, PerSide(base_norm, raw_norm) if with_norms else None, apart)

    def _judge_all(
        self, stage: Stage, links: Sequence[ParameterLink], digests: _Digests, what: What, noise: NoiseScale
    ) -> dict[tuple[int, str], Verdict]:
        """Judge the links' tensors; return the verdicts by the link's number and raw's name, in that order."""
        found: dict[tuple[int, str], Verdict] = {}
        known: dict[Verdict, Verdict] = {}  # those of equal bytes are alike where the shapes are
        still_open: dict[int, _OpenLink] = {}
        for at, link in enumerate(links):
            beyond, base = _beyond_special(link, what), digests.of_base(link)
            absent = Verdict.skip(beyond) if beyond else _absent(link, base, digests.raw, what)
            if absent is not None:
                found.update({(at, name): absent for name in link.raw})
                continue
            scale = self.noise_of(link, noise)
            if link.rule not in _STREAMED:
                for name, tensor in self._in_raw_layout(link, what):
                    found[at, name] = self._judge(stage, tensor, name, what, digests.raw[name], scale)
                continue
            one = _OpenLink(link, base[link.base[0]], digests.raw[link.raw[0]], scale)
            verdict = self._settle(stage, one)
            if verdict is None:
                still_open[at] = one
            else:
                found[at, link.raw[0]] = known.setdefault(verdict, verdict)
        for rule in _STREAMED:
            of_rule = {at: one for at, one in still_open.items() if one.link.rule == rule}
            found.update(self._stream(stage, of_rule, what, transposed=rule == "transpose"))
        keys = [(at, name) for at, link in enumerate(links) for name in link.raw if (at, name) in found]
        return {key: found[key] for key in keys}

    def noise_of(self, link: ParameterLink, noise: NoiseScale) -> float:
        """Return the bound of the noise of a link's gradient on the less precise of the two sides."""
        raw = self._specs.raw[link.raw[0]]
        base = TensorSpec(self._base_dtype(link), raw.shape)
        return max(noise(link, base), noise(link, raw))

    def dtypes(self, link: ParameterLink, raw_name: str) -> tuple[DType, DType]:
        """Return base's and raw's element types of one raw tensor of a link."""
        return self._base_dtype(link), self._specs.raw[raw_name].dtype

    def _base_dtype(self, link: ParameterLink) -> DType:
        """Return the least precise element type among base's tensors of a link, integers (a counter, say) set aside."""
        dtypes = [self._specs.base[name].dtype for name in link.base]
        return max((dtype for dtype in dtypes if dtype in EPSILON), key=EPSILON.__getitem__, default=dtypes[0])

    def base_tensor(self, link: ParameterLink, raw_name: str, what: What) -> Tensor:
        """Read the values or gradients in base that correspond to one tensor of raw, in raw's layout.

        Args:
            link: tells which of base's parameters make up raw's tensor, and by which layout rule.
            raw_name: is the tensor's full name in raw, one of `link.raw`.
            what: asks for values or gradients.
        """
        return dict(self._in_raw_layout(link, what))[raw_name]

    def raw_tensor(self, name: str, what: What) -> Tensor:
        """Read one of raw's tensors whole."""
        with self._sides.traffic.single(self._sides.raw.read_parameters([name], what)) as stream:
            return stream.collect()

    @contextmanager
    def abreast(self, link: ParameterLink, raw_name: str, what: What) -> Iterator[tuple[TensorStream, TensorStream]]:
        """Open streams of base's and raw's elements of one tensor of raw, both in raw's layout.

        Args:
            link: tells which of base's parameters make up raw's tensor, and by which layout rule.
            raw_name: is the tensor's full name in raw, one of `link.raw`.
            what: asks for values or gradients.
        """
        from_raw = self._sides.traffic.single(self._sides.raw.read_parameters([raw_name], what))
        if link.rule not in _STREAMED:
            base = self.base_tensor(link, raw_name, what).stream(raw_name)
            with from_raw as raw:
                yield base, raw
            return
        turned = link.base if link.rule == "transpose" else ()
        with (
            self._sides.traffic.single(self._sides.base.read_parameters(link.base, what, turned)) as base,
            from_raw as raw,
        ):
            yield base, raw

    def compare_tensors(self, stage: Stage, base: Tensor, raw: Tensor) -> Verdict:
        """Compare two tensors that are here already."""
        streams = base.stream("base"), raw.stream("raw")
        digests = _digest(base), _digest(raw)
        return compare_streams(*streams, *digests, self._sides.standard(stage))

    def local_name(self, raw_name: str, link: ParameterLink) -> str:
        """Return a raw tensor's name below its layer, as pairs show it."""
        return intern(raw_name.removeprefix(f"{link.raw_route}.") if link.raw_route else raw_name)

    def _digest(self, links: Sequence[ParameterLink], what: What) -> _Digests:
        """Digest both sides at the same time.

        The hash of a matrix that base has transposed says nothing unless it is taken of the transpose. That is worth its cost for
        values, which are expected to be equal; gradients of two frameworks never are.
        """
        base_names = [name for link in links if link.rule != "transpose" for name in link.base]
        turned_names = [name for link in links if link.rule == "transpose" for name in link.base]
        raw_names = [name for link in links for name in link.raw]
        statistics = statistics_for(self._sides.rules)

        def digest_base() -> tuple[dict[str, Digest], dict[str, Digest]]:
            model = self._sides.base
            if what == "value":
                turned = model.digest_parameters(turned_names, what, turned_names, statistics)
            else:
                found = model.digest_parameters(turned_names, what, statistics=statistics)
                turned = {name: replace(one, hash=b"") for name, one in found.items()}
            return model.digest_parameters(base_names, what, statistics=statistics), turned

        def digest_raw() -> tuple[dict[str, Digest], dict[str, Digest]]:
            return self._sides.raw.digest_parameters(raw_names, what, statistics=statistics), {}

        (base, turned), (raw, _) = self._threads.both(digest_base, digest_raw)
        return _Digests(base, turned, raw)

    def _settle(self, stage: Stage, one: _OpenLink) -> Verdict | None:
        base = self._specs.base[one.link.base[0]]
        if one.link.rule == "transpose":
            base = TensorSpec(base.dtype, base.shape[::-1])
        raw = self._specs.raw[one.link.raw[0]]
        return compare_digests(base, one.base, raw, one.raw, self._sides.standard(stage, one.noise_scale))

    def _stream(
        self, stage: Stage, still_open: Mapping[int, _OpenLink], what: What, transposed: bool
    ) -> dict[tuple[int, str], Verdict]:
        """Read all that is open in one go, both sides abreast."""
        if not still_open:
            return {}
        sides, traffic = self._sides, self._sides.traffic
        base_names = [one.link.base[0] for one in still_open.values()]
        raw_names = [one.link.raw[0] for one in still_open.values()]
        from_base = sides.base.read_parameters(base_names, what, base_names if transposed else ())
        found: dict[tuple[int, str], Verdict] = {}
        with (
            closing(traffic.watch(from_base)) as base_streams,
            closing(traffic.watch(sides.raw.read_parameters(raw_names, what))) as raw_streams,
        ):
            for (at, one), base, raw in zip(still_open.items(), base_streams, raw_streams, strict=True):
                standard = sides.standard(stage, one.noise_scale)
                found[at, one.link.raw[0]] = compare_streams(base, raw, one.base, one.raw, standard)
        return found

    def _judge(
        self, stage: Stage, base: Tensor, raw_name: str, what: What, raw_digest: Digest, noise_scale: float
    ) -> Verdict:
        """Judge a tensor of base's that is here already."""
        base_digest = _digest(base)
        standard = self._sides.standard(stage, noise_scale)
        verdict = compare_digests(base.spec, base_digest, self._specs.raw[raw_name], raw_digest, standard)
        if verdict is not None:
            return verdict
        with self._sides.traffic.single(self._sides.raw.read_parameters([raw_name], what)) as stream:
            return compare_streams(base.stream(raw_name), stream, base_digest, raw_digest, standard)

    def _in_raw_layout(self, link: ParameterLink, what: What) -> list[tuple[str, Tensor]]:
        """Read base's tensors of a link whole, and give them raw's layout, base's dtype kept."""
        streams = self._sides.traffic.watch(self._sides.base.read_parameters(list(link.base), what))
        tensors = [stream.collect() for stream in streams]
        return list(in_raw_layout(link, tensors, [self._specs.raw[name] for name in link.raw]))

    def _pair(self, step: int, stage: Stage, link: ParameterLink, raw_name: str, verdict: Verdict) -> Pair:
        tensor = self.local_name(raw_name, link)
        return Pair.of(
            verdict,
            step=step,
            stage=stage,
            base_route=link.base_route,
            raw_route=link.raw_route,
            tensor=tensor,
            base_tensor=_base_names(link, tensor),
        )


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


def _absent(link: ParameterLink, base: dict[str, Digest], raw: dict[str, Digest], what: What) -> Verdict | None:
    """Judge a link of which some tensor does not exist (a gradient that never came, a state that an optimiser does not keep)."""
    missing_base = [name for name in link.base if name not in base]
    missing_raw = [name for name in link.raw if name not in raw]
    if not missing_base and not missing_raw:
        return None
    if len(missing_base) == len(link.base) and len(missing_raw) == len(link.raw):
        return Verdict.skip(f"no {what} on either side")
    side, names = ("base", missing_base) if missing_base else ("raw", missing_raw)
    there = [*(base[name] for name in link.base if name in base), *(raw[name] for name in link.raw if name in raw)]
    if not (missing_base and missing_raw) and all(digest.count and digest.is_zero for digest in there):
        # A branch that is not taken on one side, and is multiplied by zero on the other. What decay makes of it, shows in
        # the weights.
        return Verdict.skip(f"{side} has no {what}, and the other side's is zero")
    return Verdict(
        "fail", "missing", f"no {what} for {', '.join(names)} in {side}, though the other side has one", None
    )


def _base_names(link: ParameterLink, raw_name: str) -> str:
    """Name base's tensors of a link below their layer, where they are called otherwise than raw's."""
    names = [name.removeprefix(f"{link.base_route}.") if link.base_route else name for name in link.base]
    return "" if names == [raw_name] else ", ".join(names)


def _specs(description: ModelDescription) -> dict[str, TensorSpec]:
    return {name: info.spec for info in description.parameters for name in (info.name, *info.aliases)}
