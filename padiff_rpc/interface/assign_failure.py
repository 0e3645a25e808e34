"""Tell why weights could not be assigned, as PaDiff does: the first mismatch, both trees with it marked, and hints."""

from __future__ import annotations

from collections.abc import Mapping

from padiff_rpc.align.assign.explain_mismatch import AssignFailure, explain_mismatch
from padiff_rpc.compare.differing_hyperparameters import CONFIG
from padiff_rpc.errors import PadiffError
from padiff_rpc.interface.messages import log, show
from padiff_rpc.interface.side_models import SideModel
from padiff_rpc.interface.tree_log import log_names, write_tree
from padiff_rpc.match.match import match_models
from padiff_rpc.match.scope import skipped_routes
from padiff_rpc.match.user_map import UserMap
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import PerSide

_HINTS = """\
Please view the reports and checkout the layer marked with `<---  *** HERE ***` !
Hint:
    1. Check the definition order of params is same in submodels.
    2. Check the corresponding submodel have the same style:
       param <=> param, buffer <=> buffer, embedding <=> embedding ...
       cases like param <=> buffer, param <=> embedding are linked where names and shapes agree.
    3. If can not change model codes, try to use a layer map: set_layer_map([...]) on both models,
       with add_special_init(...) where the insides differ.
    4. (skip) means this layer is skipped because it is under black_list, or it has no param, or it is in the layer map.
"""
_SHOWN = 5


def show_assign_failure(base: SideModel, raw: SideModel, layer_map: Mapping[str, str], err: PadiffError) -> None:
    """Print why base's weights cannot be assigned to raw, and write the trees of both models into log files.

    The first mismatch is printed with shapes, up to four more in a line each. In the trees the first is marked.

    Args:
        base: base's model, with its lists.
        raw: raw's model, with its lists.
        layer_map: raw's route by base's route, as set_layer_map gave them.
        err: the error of the assignment, printed if no mismatch is found.
    """
    described = PerSide(base.model.describe(), raw.model.describe())
    matching = match_models(described.base, described.raw, UserMap(layer_map), base.selection, raw.selection)
    described = matching.in_parts(described)
    failures = explain_mismatch(described.base, described.raw, matching)
    log("Assign weight Failed !!!")
    show("")
    if not failures:
        show(f"RuntimeError:  {err}")
        return
    first = failures[0]
    show("RuntimeError:  Error occured when trying init weights, between:")
    show(f"    base_model: `{_layer(described.base, first.base_route, first.base_class)}`")
    show(f"                `{_path(base.name, first.base_parameter or first.base_route)}`")
    show(f"    raw_model: `{_layer(described.raw, first.raw_route, first.raw_class)}`")
    show(f"               `{_path(raw.name, first.raw_parameter)}`")
    show(f"AssertionError:  {_reason(first, described)}")
    for further in failures[1:_SHOWN]:
        show(f"    also: {further.why}")
    if len(failures) > _SHOWN:
        show(f"    and {len(failures) - _SHOWN} more")
    show("\nWeight init log saved to")
    routes = PerSide(first.base_route, first.raw_route)
    names = log_names(base.name, raw.name)
    for side, description, route, name in zip((base, raw), described, routes, names, strict=True):
        skipped = skipped_routes(description, side.selection, side.layer_map)
        layers = [(layer.route, layer.class_name) for layer in description.layers]
        show(f"    {write_tree(f'weight_init_{name}.log', side.name, layers, {route}, skipped)}")
    show("")
    show(_HINTS + (f"    5. {first.cure}\n" if first.cure else ""))


def _reason(first: AssignFailure, described: PerSide[ModelDescription]) -> str:
    if not first.base_parameter or first.base_shape == first.raw_shape:
        return first.why
    mine, theirs = first.base_parameter.rpartition(".")[2], first.raw_parameter.rpartition(".")[2]
    return (
        f"Shape of param `{mine}` in {described.base.framework}::{first.base_class} and param `{theirs}` in "
        f"{described.raw.framework}::{first.raw_class} is not the same. {list(first.base_shape)} vs {list(first.raw_shape)}\n"
        f"    {first.why}"
    )


def _layer(description: ModelDescription, route: str, class_name: str) -> str:
    """Return a layer's class with its hyper-parameters, as frameworks print it.

    Without a class name it is the class at the route, which is the model's own where no layer corresponds.
    """
    layer = description.layer(route)
    values = ", ".join(
        f"{name}={value!r}" for name, value in layer.hyperparameters.items() if not name.startswith(CONFIG)
    )
    return f"{class_name or layer.class_name}({values})"


def _path(name: str, below: str) -> str:
    return f"{name}.{below}" if below else name
