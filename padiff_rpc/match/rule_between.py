"""Find the layout rule between two tensors that correspond, and the other rules that their names and shapes allow as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from padiff_rpc.match.layer_map import Alternative, Choice, ParameterLink
from padiff_rpc.match.layout_rules import RULES, Shape, without_ones
from padiff_rpc.match.tree import LayerNode

_WORDS = {
    "identity": "as it is",
    "transpose": "transposed",
    "swap_last": "with its last two dimensions swapped",
    "reshape": "regrouped in row-major order",
    "merge_swapped": "with two dimensions swapped, then merged",
    "split_swapped": "with a dimension split in two, then these swapped",
    "reshape_transpose": "regrouped, then transposed",
    "transpose_reshape": "transposed, then regrouped",
}
"""What notes call a rule."""

_REGROUPING = ("reshape", "reshape_transpose", "transpose_reshape", "merge_swapped", "split_swapped")
"""Rules between a tensor and one with neighbouring dimensions merged, the most usual first."""

_UNUSUAL = ("merge_swapped", "split_swapped")
"""Rules that take the merged dimensions in the other order than the side that keeps them apart."""


@dataclass(frozen=True)
class RuleFound:
    """The layout rule that leads from base's tensor to raw's.

    Attributes:
        rule: its name for `layout_rules.rule_named`; "" if no rule makes the shapes fit.
        note: a sentence for the reader; "" if there is nothing to say.
        others: the rules that are possible besides; () if the rule is beyond doubt.
        where: what notes call the tensor, where others are possible.
        guess: the sentence that tells a user which rule is taken, where others are possible and none is tried.
    """

    rule: str = ""
    note: str = ""
    others: tuple[str, ...] = ()
    where: str = ""
    guess: str = ""

    def choices(self, link: ParameterLink) -> list[Choice]:
        """Return what is in doubt of the link under this rule: nothing, or one choice."""
        if not self.others:
            return []
        alternatives = tuple(
            Alternative(_WORDS[rule], (replace(link, rule=rule),), rule in _UNUSUAL)
            for rule in (self.rule, *self.others)
        )
        return [Choice(self.where, link.base_route, link.raw_route, alternatives, self.guess)]


def rule_between(base: LayerNode, base_name: str, raw: LayerNode, raw_name: str) -> RuleFound:
    """Return the layout rule that leads from base's tensor to raw's, if there is one.

    If both layers' families are known, they decide, so that a square weight is transposed too; otherwise the shapes do.

    Args:
        base: base's layer.
        base_name: the tensor's name in base's layer.
        raw: raw's layer.
        raw_name: the tensor's name in raw's layer.
    """
    mine, theirs = base.own[base_name].spec.shape, raw.own[raw_name].spec.shape
    base_axes, raw_axes = base.axes(base_name), raw.axes(raw_name)
    if base_axes and raw_axes:
        rule = "identity" if base_axes == raw_axes else "transpose"
        return RuleFound(rule) if RULES[rule].fits([mine], [theirs]) else RuleFound()
    if (base_axes and raw.is_pointwise(raw_name)) or (raw_axes and base.is_pointwise(base_name)):
        turned = "transpose_reshape" if base_axes else "reshape_transpose"
        rule = turned if "in_out" in (base_axes, raw_axes) else "reshape"
        return RuleFound(rule) if RULES[rule].fits([mine], [theirs]) else RuleFound()
    where = _where(base, base_name, mine)
    if mine == theirs:
        if not _in_doubt(base, raw, mine):
            return RuleFound("identity")
        if base_axes or raw_axes:
            unknown = raw if base_axes else base
            unknown_axes = "in_out" if unknown.framework == "paddle" else "out_in"
            rule, other = ("identity", "transpose")[:: 1 if (base_axes or raw_axes) == unknown_axes else -1]
            guess = f"{where} is square, and {unknown.info.class_name} a class of its own: took its layout for {unknown_axes}"
            return RuleFound(rule, others=(other,), where=where, guess=guess)
        other = "transpose" if len(mine) == 2 else "swap_last"
        guess = f"{where} is square and of a class of its own: taken as it is, not transposed"
        return RuleFound("identity", others=(other,), where=where, guess=guess)
    if without_ones(mine) == without_ones(theirs) or {base.family, raw.family} == {"layernorm"}:
        return RuleFound("reshape") if RULES["reshape"].fits([mine], [theirs]) else RuleFound()
    for rule in ("transpose", "swap_last"):
        if RULES[rule].fits([mine], [theirs]) and (not base.family or not raw.family):
            return RuleFound(rule, f"{where} is {_WORDS[rule]} in raw: matched by its shape")
    return RuleFound()


def rule_for_namesakes(base: LayerNode, base_name: str, raw: LayerNode, raw_name: str) -> RuleFound:
    """Return what `rule_between` does, for two tensors that a name joins already, so that less is asked of their shapes.

    In a user's own class, one side may merge neighbouring dimensions of the other: [D, H, K] against [D, H * K].
    """
    found = rule_between(base, base_name, raw, raw_name)
    mine, theirs = base.own[base_name].spec.shape, raw.own[raw_name].spec.shape
    if found.rule or (base.family and raw.family):
        return found
    rule, *others = [name for name in _REGROUPING if RULES[name].fits([mine], [theirs])] or [""]
    if not rule:
        return found
    where = _where(base, base_name, mine)
    guess = (
        f"{where} is taken for {list(theirs)} in raw, {_WORDS[rule]}: if raw lays its elements in another order, the outputs "
        "will differ"
    )
    return RuleFound(rule, others=tuple(others), where=where, guess=guess) if others else RuleFound(rule, guess)


def _in_doubt(base: LayerNode, raw: LayerNode, shape: Shape) -> bool:
    """Tell whether tensors of one shape may be each other's transpose: of a matrix, or of each matrix in a stack of them."""
    square = len(shape) in (2, 3) and shape[-1] == shape[-2] > 1
    return square and base.framework != raw.framework and not (base.family and raw.family)


def _where(node: LayerNode, name: str, shape: Shape) -> str:
    return f"{node.shown}.{name} {list(shape)}"
