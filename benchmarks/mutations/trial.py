"""Try mutations of one pair: what each changes, by the oracle, and what the tool says of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.mutations.draw import draw
from benchmarks.mutations.frameworks import Framework, framework_of
from benchmarks.mutations.mutated import SPEC_PLACE, build_counted
from benchmarks.mutations.mutation import Mutation
from benchmarks.mutations.oracle import Effect, Noise, effect, noise_of, observe
from benchmarks.mutations.pairs import Arrays, MutatedPair, Side
from benchmarks.mutations.seen import watch
from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import Model
from padiff_rpc.result import Result


@dataclass(frozen=True)
class Trial:
    """One mutation, and what came of it.

    Attributes:
        pair: The pair's name.
        label: The mutation's family and kind.
        route: The layer that was mutated, in raw.
        words: The rest of the mutation.
        outputs: How far the outputs changed: the largest relative L2 distance.
        gradients: The same for the gradients of parameters and inputs.
        buffers: The same for what the model holds after the forward.
        most: The gradient or buffer that changed most.
        effect: Whether any of them is beyond the tolerance.
        verdict: "aligned", "differs" or "refused".
        named: The layer that the tool names, in raw; where it refused, why.
        place: Where that is: "exact", "near" (parent, child or sibling), "elsewhere" or "".
        why: What the tool says about the first difference.
        failing: How many comparisons failed.
        mutation: All of the mutation, to make it again.
    """

    pair: str
    label: str
    route: str
    words: str
    outputs: float
    gradients: float
    buffers: float
    most: str
    effect: bool
    verdict: str
    named: str
    place: str
    why: str
    failing: int
    mutation: dict[str, Any]

    @property
    def missed(self) -> bool:
        """True where a mutation with an effect is called aligned."""
        return self.effect and self.verdict == "aligned"

    @property
    def false_alarm(self) -> bool:
        """True where a mutation without effect is called different."""
        return not self.effect and self.verdict != "aligned"


class UnhealthyPair(Exception):
    """A pair that is not aligned as it is: nothing can be learnt from its mutations."""


def try_pair(pair: MutatedPair, base: Model, count: int, seed: int) -> Iterator[Trial]:
    """Align the pair as it is, then with `count` mutations of raw; those that cannot run are passed over.

    Raises:
        UnhealthyPair: The pair is not aligned as it is.
    """
    fw = framework_of(pair.raw.framework)
    arrays = pair.inputs
    healthy = HostedModel.from_spec(pair.raw.spec, model_args=pair.raw.model_args)
    result = _aligned(pair, base, healthy, arrays)
    if not result.aligned:
        raise UnhealthyPair(f"{pair.name} is not aligned as it is: {_why(result)}")
    state = fw.state(healthy.model)

    def build() -> Any:
        return HostedModel.from_spec(pair.raw.spec, model_args=pair.raw.model_args).model

    noise = noise_of(fw, build, state, arrays)
    seen = watch(fw, build(), arrays)
    tried = 0
    for mutation in draw(fw, healthy.model, seen, seed):
        if tried == count:
            return
        changed = _effect(fw, pair.raw, mutation, state, arrays, noise)
        if changed is not None:
            tried += 1
            yield _trial(pair, base, mutation, changed, arrays)


def _effect(
    fw: Framework,
    side: Side,
    mutation: Mutation,
    state: dict[str, np.ndarray],
    arrays: Arrays,
    noise: Noise,
) -> Effect | None:
    """Return what a mutation changes; None where the model cannot run with it, or never comes to what it changes."""
    model, fired = build_counted(side.framework, side.place, dict(side.model_args), asdict(mutation))
    fw.load(model, state)
    try:
        observed = observe(fw, model, arrays)
    except Exception:  # noqa: BLE001 - a framework's error of any class; this is a mutation that nobody could overlook
        return None
    return effect(noise, observed) if fired.times else None


def _trial(pair: MutatedPair, base: Model, mutation: Mutation, changed: Effect, arrays: Arrays) -> Trial:
    side = pair.raw
    model_args = mutated_args(side, mutation)
    verdict, named, why, failing = "refused", "", "", 0
    try:
        raw = HostedModel.from_spec(f"{side.framework}@{SPEC_PLACE}", model_args=model_args)
        result = _aligned(pair, base, raw, arrays)
    except PadiffError as err:
        why = f"{err.reason.name}: {err.message.splitlines()[0]}"
    else:
        verdict = "aligned" if result.aligned else "differs"
        why = "" if result.aligned else _why(result)
        failing = sum(each.status == "fail" for each in result.pairs)
        first = result.first_divergence
        named = "" if first is None else first.raw.route
    return Trial(
        pair=pair.name,
        label=mutation.label,
        route=mutation.route,
        words=mutation.words(),
        outputs=changed.outputs,
        gradients=changed.gradients,
        buffers=changed.buffers,
        most=changed.most,
        effect=changed.there,
        verdict=verdict,
        named=named,
        place=place_of(named, {mutation.route, mutation.detail.get("with", mutation.route)})
        if verdict == "differs"
        else "",
        why=why,
        failing=failing,
        mutation=asdict(mutation),
    )


def mutated_args(side: Side, mutation: Mutation) -> dict[str, Any]:
    """Return the arguments of mutated.build() for a mutation of this side."""
    return {
        "framework": side.framework,
        "place": side.place,
        "model_args": dict(side.model_args),
        "mutation": asdict(mutation),
    }


def command(pair: MutatedPair, mutation: Mutation, inputs: str) -> str:
    """Return the command that aligns a pair with one mutation; `inputs` is the file of its arrays."""
    sides = (("base", pair.base, pair.base.spec), ("raw", pair.raw, f"{pair.raw.framework}@{SPEC_PLACE}"))
    words = ["padiff-rpc", "diff", "--inputs", inputs]
    words += [word for glob in pair.allow_extra for word in ("--allow-extra", glob)]
    for name, side, spec in sides:
        arguments = dict(side.model_args) if name == "base" else mutated_args(side, mutation)
        words += [f"--{name}", spec, f"--{name}-python", str(side.python)]
        for key, value in arguments.items():
            words += [f"--{name}-arg", f"{key}={json.dumps(value)}"]
    return shlex.join(words)


def place_of(named: str, mutated: set[str]) -> str:
    """Tell how far the named layer is from the mutated ones: "exact", "near" (parent, child, sibling) or "elsewhere"."""
    if named in mutated:
        return "exact"
    around = {_parent(route) for route in mutated}
    near = named in around or _parent(named) in mutated or (named and _parent(named) in around)
    return "near" if near else "elsewhere"


def _parent(route: str) -> str | None:
    return route.rpartition(".")[0] if route else None


def _aligned(pair: MutatedPair, base: Model, raw: Model, arrays: Arrays) -> Result:
    return align(base, raw, as_inputs(arrays), as_inputs(arrays), AlignSettings(allow_extra=pair.allow_extra))


def _why(result: Result) -> str:
    first = result.first_divergence
    if first is None:
        return "; ".join(result.notes)
    return f"{first.stage} {first.raw.route!r} {first.tensor}: {first.why}"
