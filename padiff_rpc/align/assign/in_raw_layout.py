"""Carry the tensors of a link from base to raw: by a layout rule, or by the special initialiser of their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.match.layout_rules import Rule, rule_named
from padiff_rpc.match.special_init import SpecialInit, find_special_init
from padiff_rpc.tensors.convert_dtype import convert, convertible
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec


def rule_of(link: ParameterLink) -> Rule | SpecialInit:
    """Resolve a link's rule; UNKNOWN_NAME for a special initialiser that has been removed since."""
    if link.special is None:
        return rule_named(link.rule)
    found = find_special_init(link.special.base, link.special.raw)
    if found is None:
        raise PadiffError(
            f"the special initialiser of {link.special.base!r} -> {link.special.raw!r} was removed after the matching",
            reason=Reason.UNKNOWN_NAME,
            hint="add it again with add_special_init, or match the models anew",
        )
    return found


def in_raw_layout(
    link: ParameterLink, sources: Sequence[Tensor], targets: Sequence[TensorSpec]
) -> list[tuple[str, Tensor]]:
    """Return raw's tensors, by name, as they follow from base's: in raw's shapes and base's element type.

    A special initialiser may pass over buffers that it need not fill. It must not be one that takes live layers.

    Args:
        link: says which tensors correspond, and by which rule.
        sources: are base's tensors of the link.
        targets: are the specs of raw's tensors of the link.

    Raises:
        PadiffError: BAD_CONFIG where a special initialiser fails, or returns other names, shapes or types than raw has.
    """
    rule = rule_of(link)
    if isinstance(rule, SpecialInit):
        return _specially(link, rule, sources, targets)
    arrays = rule.transform([source.to_array() for source in sources], [spec.shape for spec in targets])
    dtype = sources[0].spec.dtype
    return [(name, Tensor.from_array(array, dtype)) for name, array in zip(link.raw, arrays, strict=True)]


def _specially(
    link: ParameterLink, init: SpecialInit, sources: Sequence[Tensor], targets: Sequence[TensorSpec]
) -> list[tuple[str, Tensor]]:
    assert link.special is not None
    given = {
        local(name, link.base_route): source.to_array().copy() for name, source in zip(link.base, sources, strict=True)
    }
    try:
        result = init.function(given)
    except Exception as err:
        raise PadiffError(
            f"{init} raised {type(err).__name__} at {link.raw_route!r}: {err}", reason=Reason.BAD_CONFIG
        ) from err
    _check_names(link, init, result)
    dtypes = {source.spec.dtype for source in sources}
    made: list[tuple[str, Tensor]] = []
    for name, target in zip(link.raw, targets, strict=True):
        mine = local(name, link.raw_route)
        if mine in result:
            made.append((name, _checked(init, mine, result[mine], target, dtypes)))
    return made


def _check_names(link: ParameterLink, init: SpecialInit, result: Any) -> None:
    assert link.special is not None
    if not isinstance(result, Mapping):
        raise PadiffError(
            f"{init} returned {type(result).__name__}, not a dictionary of arrays by name",
            reason=Reason.BAD_CONFIG,
            hint="return {name: array} for raw's layer",
        )
    required = {local(name, link.raw_route) for name in link.special.required}
    allowed = required | {local(name, link.raw_route) for name in link.special.optional}
    lacking, extra = sorted(required - result.keys()), sorted(map(str, result.keys() - allowed))
    if lacking or extra:
        found = [f"lacks {', '.join(lacking)}" if lacking else "", f"has {', '.join(extra)} too many" if extra else ""]
        raise PadiffError(
            f"what {init} returned for {link.raw_route!r} {' and '.join(text for text in found if text)}",
            reason=Reason.BAD_CONFIG,
            hint=f"it is to hold {', '.join(sorted(required))}",
        )


def _checked(init: SpecialInit, name: str, value: Any, target: TensorSpec, dtypes: set[DType]) -> Tensor:
    """Make a tensor of one array: bits take base's element type, and other floats are rounded to it where base has only one."""
    array = np.asarray(value)
    if array.shape != target.shape:
        raise PadiffError(
            f"{init} made {name} of shape {list(array.shape)}, raw's is {list(target.shape)}", reason=Reason.BAD_CONFIG
        )
    floating = {dtype for dtype in dtypes if dtype.is_floating}
    bits = [dtype for dtype in floating if dtype.storage.kind != "f" and dtype.storage == array.dtype]
    if target.dtype.is_floating and bits:
        return Tensor.from_array(array, bits[0])
    tensor = Tensor.from_array(array)
    if not convertible(tensor.spec.dtype, target.dtype):
        raise PadiffError(
            f"{init} made {name} of {tensor.spec.dtype.value}, raw's is {target.dtype.value}", reason=Reason.BAD_CONFIG
        )
    if len(floating) == 1 and tensor.spec.dtype.is_floating:
        dtype = floating.pop()
        return Tensor.from_array(convert(tensor.to_array(), tensor.spec.dtype, dtype), dtype)
    return tensor


def local(name: str, route: str) -> str:
    """Return a tensor's name below its layer; the full one where it is held elsewhere too, and named so."""
    return name.removeprefix(f"{route}.") if route else name
