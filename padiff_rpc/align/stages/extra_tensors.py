"""Follow what one side alone has through a run: outputs, neutral parameters, and whether the rest depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.pairing import pair_records
from padiff_rpc.match.extras import allowed, idle_globs, neutral_values
from padiff_rpc.per_side import SIDES, PerSide
from padiff_rpc.result import Extra
from padiff_rpc.tensors.tensor import Statistics

_Place = tuple[str, str]
"""A side's name, and the full name of a tensor."""


class ExtraTensors:
    """The parameters and buffers that one side alone has, and what a run shows of them."""

    def __init__(self, prepared: Prepared) -> None:
        self._models = prepared.sides.models
        self._globs = prepared.settings.allow_extra
        held = PerSide(prepared.described.base, prepared.described.raw).map(lambda model: model.unrecorded != "tensors")
        self._extras = [extra for extra in prepared.extras if held.of(extra.side)]
        self._unread = [extra for extra in prepared.extras if not held.of(extra.side)]
        self._trained = {
            (side, info.name) for side, model in prepared.described.items() for info in model.parameters if info.trainable
        }
        could = neutral_values(prepared.described, prepared.matching, self._extras)
        self._could = {(extra.side, extra.name): (value, excuses) for extra, value, excuses in could}
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
                side = "base" if other is None else "raw"
                route = returned.of(side).get(record.digest.hash, "")
                why = f"{pair.why}: {route} makes it" if route else pair.why
                self._outputs[side, pair.tensor] = Extra(side, "output", pair.tensor, route, "fails", why)

    def after_backward(self) -> None:
        """Find those that got a gradient other than zero: what both sides have depends on them."""
        self._saw_gradients = True
        for side in SIDES:
            names = [extra.name for extra in self._extras if extra.side == side and extra.what == "parameter"]
            if names:
                digests = self._models.of(side).digest_parameters(names, "gradient", statistics=Statistics.SIZES)
                self._reached |= {(side, name) for name, digest in digests.items() if not digest.is_zero}

    def settle(self) -> ExtraFindings:
        """Return all extras with what they come to, once the steps are done."""
        still = self._neutral_now(self._neutral)
        tensors = [self._judged(extra, still) for extra in self._extras] + self._unread
        extras = allowed([*tensors, *self._outputs.values()], self._globs)
        neutral = [extra for extra in extras if extra.status == "neutral"]
        notes = [*_neutral_notes(neutral, self._could, self._trained)]
        accepted = sum(extra.status == "allowed" for extra in extras)
        if accepted:
            notes.append(f"{accepted} tensors that one side alone has are allowed (allow_extra), and were not compared")
        notes += [f"allow_extra {glob!r} matches nothing that one side alone has" for glob in idle_globs(extras, self._globs)]
        takes_part = [
            extra
            for extra in extras
            if extra.what != "output" and (extra.side, extra.name) not in still and not self._is_out_of_reach(extra)
        ]
        return ExtraFindings(extras, notes, bool(takes_part))

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
            names = [name for at, name in places if at == side]
            digests = self._models.of(side).digest_parameters(names) if names else {}
            for name, digest in digests.items():
                value, _ = self._could[side, name]
                if digest.count and not digest.nan_count and digest.min == digest.max == value:
                    found.add((side, name))
        return found

    def _is_out_of_reach(self, extra: Extra) -> bool:
        """Tell whether gradients show that nothing which both sides have depends on a parameter."""
        place = extra.side, extra.name
        return self._saw_gradients and place in self._trained and place not in self._reached


class ExtraFindings:
    """What the extras of a run come to.

    Attributes:
        extras: are all of them, each with its status.
        notes: tell what a reader must know of them.
        take_part: says that what both sides have may depend on one of them, so that not all of that was compared.
    """

    def __init__(self, extras: Sequence[Extra], notes: Sequence[str], take_part: bool) -> None:
        self.extras: list[Extra] = list(extras)
        self.notes: list[str] = list(notes)
        self.take_part: bool = take_part


def _neutral_notes(
    neutral: Sequence[Extra], values: dict[_Place, tuple[float, bool]], trained: set[_Place]
) -> Iterable[str]:
    """Yield a sentence for the neutral tensors of each layer."""
    by_layer: dict[tuple[str, str], list[Extra]] = {}
    for extra in neutral:
        by_layer.setdefault((extra.side, extra.name.rpartition(".")[0]), []).append(extra)
    for (side, route), group in by_layer.items():
        own = [extra.name.rpartition(".")[2] for extra in group]
        names = " and ".join([f"{route}.{own[0]}" if route else own[0], *own[1:]])
        held = " and ".join(f"{values[extra.side, extra.name][0]:g}" for extra in group)
        learns = any((extra.side, extra.name) in trained for extra in group)
        verb = "hold" if len(group) > 1 else "holds"
        yield f"{side}'s extra {names} {verb} {held}: neutral now" + (", but trained in further steps" if learns else "")
