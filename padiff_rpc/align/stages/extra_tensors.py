"""Follow what one side alone has through a run: outputs, neutral parameters, and whether the rest depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.match.extras import allowed, idle_globs, neutral_values
from padiff_rpc.match.pair_records import pair_records
from padiff_rpc.per_side import SIDES, PerSide, SideName
from padiff_rpc.result import Extra
from padiff_rpc.tensors.tensor import Statistics

_Place = tuple[SideName, str]
"""A side, and the full name of a tensor."""


@dataclass(frozen=True)
class ExtraFindings:
    """What the extras of a run come to.

    Attributes:
        extras: are all of them, each with its status.
        notes: tell what a reader must know of them.
        take_part: says that what both sides have may depend on one of them, so that not all of that was compared.
    """

    extras: Sequence[Extra]
    notes: Sequence[str]
    take_part: bool


class ExtraTensors:
    """The parameters and buffers that one side alone has, and what a run shows of them."""

    def __init__(self, prepared: Prepared) -> None:
        self._models = prepared.sides.models
        self._globs = prepared.settings.allow_extra
        self._extras = prepared.extras
        self._readable = prepared.described.map(lambda model: model.unrecorded != "tensors")
        self._trained = {
            (side, info.name)
            for side, model in prepared.described.items()
            for info in model.parameters
            if info.trainable
        }
        could = neutral_values(prepared.described, prepared.matching, self._extras)
        self._could: dict[_Place, tuple[float, bool]] = {
            (extra.side, extra.name): (value, excuses) for extra, value, excuses in could
        }
        self._neutral: set[_Place] = set()
        self._reached: set[_Place] = set()
        self._saw_gradients = False
        self._outputs: dict[_Place, Extra] = {}

    def before_steps(self) -> None:
        """Find those whose values change nothing, before the first step."""
        self._neutral = self._neutral_now(self._could)

    def after_forward(self, forward: Iterable[Judged], returned: PerSide[dict[bytes, str]]) -> None:
        """Take in the outputs of the model that one side alone has.

        Args:
            forward: are the judged boundaries.
            returned: maps, for each side, the hashes of what its layers without a partner returned to their routes.
        """
        for one in forward:
            if one.base.route or one.base.side != "output" or one.whole is None:
                continue
            for pair, (mine, other) in zip(one.pairs, pair_records(*one.whole), strict=True):
                record = mine or other
                if (pair.status, pair.failure) != ("skipped", "missing") or record is None:
                    continue
                side: SideName = "base" if other is None else "raw"
                route = returned.of(side).get(record.digest.hash, "")
                why = f"{pair.why}: {route} makes it" if route else pair.why
                self._outputs[side, pair.tensor] = Extra(side, "output", pair.tensor, route, "fails", why)

    def after_backward(self) -> None:
        """Find those that got a gradient other than zero: what both sides have depends on them."""
        self._saw_gradients = True
        for side in SIDES:
            names = [extra.name for extra in self._extras if extra.side == side and extra.what == "parameter"]
            if names and self._readable.of(side):
                digests = self._models.of(side).digest_parameters(names, "gradient", statistics=Statistics.SIZES)
                self._reached |= {(side, name) for name, digest in digests.items() if not digest.is_zero}

    def settle(self) -> ExtraFindings:
        """Return all extras with what they come to, once the steps are done."""
        still = self._neutral_now(self._neutral)
        tensors = [self._judged(extra, still) for extra in self._extras]
        extras = allowed([*tensors, *self._outputs.values()], self._globs)
        notes = self._neutral_notes([extra for extra in extras if extra.status == "neutral"])
        accepted = sum(extra.status == "allowed" for extra in extras)
        if accepted:
            notes.append(f"allow_extra accepts what one side alone has: {accepted} in number, not compared")
        idle = idle_globs(extras, self._globs)
        notes += [f"allow_extra {glob!r} matches nothing that one side alone has" for glob in idle]
        # A running mean of 0 and variance of 1 are neutral beside no normalisation, and not beside one by the batch.
        harmless = {(extra.side, extra.name) for extra in self._extras if extra.what == "parameter"} & still
        take_part = any(
            (extra.side, extra.name) not in harmless and not self._is_out_of_reach(extra) for extra in self._extras
        )
        return ExtraFindings(extras, notes, take_part)

    def _judged(self, extra: Extra, still: set[_Place]) -> Extra:
        """Say what a tensor that could be neutral holds, and excuse it where that settles it."""
        place = extra.side, extra.name
        if place not in self._neutral:
            return extra
        value, excuses = self._could[place]
        if place not in still:
            return replace(extra, why=f"{extra.why}; it held {value:g}, which changes nothing, until a step changed it")
        trained = ", but it is trained" if place in self._trained else ""
        if not excuses:
            return replace(extra, why=f"{extra.why}; it holds {value:g}: neutral now{trained}")
        return replace(extra, status="neutral", why=f"it holds {value:g}: neutral now{trained}")

    def _neutral_now(self, places: Iterable[_Place]) -> set[_Place]:
        """Return those of these tensors all of whose elements have the neutral value."""
        found: set[_Place] = set()
        for side in SIDES:
            names = [name for at, name in places if at == side and self._readable.of(side)]
            digests = self._models.of(side).digest_parameters(names) if names else {}
            for name, digest in digests.items():
                value, _ = self._could[side, name]
                if digest.count and not digest.nan_count and digest.min == digest.max == value:
                    found.add((side, name))
        return found

    def _is_out_of_reach(self, extra: Extra) -> bool:
        """Tell whether gradients show that nothing which both sides have depends on a parameter."""
        place = extra.side, extra.name
        looked = self._saw_gradients and self._readable.of(extra.side) and place in self._trained
        return looked and place not in self._reached

    def _neutral_notes(self, neutral: Sequence[Extra]) -> list[str]:
        """Return a sentence for the neutral tensors of each layer."""
        by_layer: dict[_Place, list[Extra]] = {}
        for extra in neutral:
            by_layer.setdefault((extra.side, extra.name.rpartition(".")[0]), []).append(extra)
        notes: list[str] = []
        for (side, route), group in by_layer.items():
            own = [extra.name.rpartition(".")[2] for extra in group]
            names = " and ".join([f"{route}.{own[0]}" if route else own[0], *own[1:]])
            held = " and ".join(f"{self._could[side, extra.name][0]:g}" for extra in group)
            trained = any((side, extra.name) in self._trained for extra in group)
            verb, but = "hold" if len(group) > 1 else "holds", ", but trained in further steps" if trained else ""
            notes.append(f"{side}'s extra {names} {verb} {held}: neutral now{but}")
        return notes
