"""Settle, before anything runs, which parts of two described models correspond and are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from padiff_rpc.align.preconditions import check_dumps
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.attention import attention_routes
from padiff_rpc.match.extras import extras_of, lone_layers
from padiff_rpc.match.follow_flow import Passage, pairs_by_flow
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.propose_lines import with_proposals
from padiff_rpc.match.scope import Scope, as_asked, scope_of, without_unrecorded
from padiff_rpc.match.user_map import UserMap, parse_parameters
from padiff_rpc.model.model import Model, ModelDescription, Stating
from padiff_rpc.model.selection import EVERYTHING
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Extra


@dataclass(frozen=True)
class Prepared:
    """Two models that are matched, and what of them is to be compared.

    Attributes:
        sides: are the models, and how their tensors are judged.
        described: are the models' descriptions.
        matching: says which layers and parameters correspond.
        scope: says which of these are recorded and compared.
        asked: are the settings as the caller gave them.
        settings: are the settings as they are carried out.
        notes: tell where the two differ, and why.
        extras: are the parameters and buffers that one side alone has, as the matching knows them.
        lone: are each side's layers without a partner that hold such, recorded to know the outputs that they return.
        dumped: says that two dumps are compared without running.
    """

    sides: Sides
    described: PerSide[ModelDescription]
    matching: Matching
    scope: Scope
    asked: AlignSettings
    settings: AlignSettings
    notes: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()
    lone: PerSide[tuple[str, ...]] = field(default_factory=lambda: PerSide((), ()))
    dumped: bool = False


def prepare(
    models: PerSide[Model],
    described: PerSide[ModelDescription],
    asked: AlignSettings,
    watch: Callable[[], PerSide[Sequence[Passage]]],
) -> Prepared:
    """Match two models that are to run, as the settings ask.

    `watch` runs a forward of both and returns what passed their layers. It is called where the order alone would pair layers.

    Raises PadiffError: BAD_CONFIG for what a dump cannot do, and what `match_models` and `as_asked` raise.
    """
    check_dumps(models, described, asked)
    stated = with_raw_statements(models.raw, asked)
    matching = match_described(described, stated)
    if matching.guessed_pairs and not any(model.info().recorded for model in models):
        flow = pairs_by_flow(described, watch(), matching.layers, matching.guessed_pairs)
        matching = match_described(described, stated, flow) if flow else matching
    described = matching.in_parts(described)
    base, raw = described
    selections = as_asked(asked.selections, asked.layers, asked.depth, base, raw, matching)
    narrowed = replace(asked, base_selection=selections.base, raw_selection=selections.raw)
    settings, notes = _without_gradients(described, narrowed)
    scope = _scope(described, matching, settings)
    attention = attention_routes(base, raw, scope.layers) - {""}
    inferred = frozenset(pair.base for pair in matching.layers if not pair.certain)
    sides = Sides(models.base, models.raw, asked.compare, asked.single_step, Traffic(), attention, inferred)
    extras = tuple(extras_of(described, matching))
    lone = (
        lone_layers(described, matching, extras) if selections == PerSide(EVERYTHING, EVERYTHING) else PerSide((), ())
    )
    return Prepared(sides, described, matching, scope, asked, settings, notes, extras, lone)


def with_raw_statements(raw: Model, settings: AlignSettings) -> AlignSettings:
    """Return settings with the AOA statements that raw's own class gives, where they ask for them.

    Raises:
        PadiffError: BAD_CONFIG where raw gives none.
    """
    if not settings.raw_statements:
        return settings
    statements = raw.checkpoint_statements() if isinstance(raw, Stating) else ()
    if not statements:
        raise PadiffError(
            "raw's own AOA statements are asked for, and its class gives none",
            reason=Reason.BAD_CONFIG,
            hint="models of paddleformers do, while they run, by their _gen_aoa_config; give a map file instead",
        )
    return replace(settings, aoa_statements=(*settings.aoa_statements, *statements), raw_statements=False)


def rematched(prepared: Prepared, matching: Matching) -> Prepared:
    """Return what was prepared with another matching of the same models."""
    scope = _scope(prepared.described, matching, prepared.settings, prepared.dumped)
    return replace(prepared, matching=matching, scope=scope)


def prepare_dumps(models: PerSide[Model], asked: AlignSettings) -> Prepared:
    """Match two dumps that are compared without running; of these a selection leaves out the tensors as well."""
    described = models.map(lambda model: model.describe())
    matching = match_described(described, asked)
    described = matching.in_parts(described)
    scope = _scope(described, matching, asked, dumped=True)
    sides = Sides(models.base, models.raw, asked.compare, single_step=False, traffic=Traffic())
    extras = tuple(extras_of(described, matching))
    return Prepared(sides, described, matching, scope, asked, asked, extras=extras, dumped=True)


def _scope(
    described: PerSide[ModelDescription], matching: Matching, settings: AlignSettings, dumped: bool = False
) -> Scope:
    scope = scope_of(described.base, described.raw, matching, settings.selections, dumped=dumped)
    return scope if settings.held or dumped else replace(scope, links=())


def match_described(
    described: PerSide[ModelDescription], settings: AlignSettings, flow: Mapping[str, str] | None = None
) -> Matching:
    """Match two models by the settings' maps and selections, and by `flow`, without what a dump does not hold."""
    user_map = UserMap(
        settings.layer_map,
        parse_parameters(settings.parameter_map),
        settings.renames,
        settings.aoa_statements,
    )

    def matched(by: UserMap) -> Matching:
        base, raw = described
        found = match_models(base, raw, by, settings.base_selection, settings.raw_selection, flow)
        return without_unrecorded(found, *described)

    found = matched(user_map)
    return with_proposals(found.in_parts(described), found, user_map, matched)


def _without_gradients(
    described: PerSide[ModelDescription], settings: AlignSettings
) -> tuple[AlignSettings, tuple[str, ...]]:
    """Run the forward alone where neither model has a parameter that a gradient or an optimiser could reach, and say so."""
    holds = any(info.kind == "parameter" for model in described for info in model.parameters)
    # Such a dump does not tell whether there were any.
    holds = holds or any(model.unrecorded == "tensors" for model in described)
    if holds or not settings.held or settings.diff_phase != "both":
        return settings, ()
    forward = replace(settings, diff_phase="forward", base_optimizer=None, raw_optimizer=None)
    return forward, ("neither model has parameters: only the forward was compared",)
