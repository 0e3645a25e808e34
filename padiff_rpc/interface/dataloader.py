"""Compare two data loaders batch by batch, before any model runs: check_dataloader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from padiff_rpc.compare.judge import compare_digests, compare_streams
from padiff_rpc.compare.rules import CompareMode, CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.messages import log, show
from padiff_rpc.interface.user_inputs import to_tensor
from padiff_rpc.result import Verdict
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Tensor

_END = object()


def check_dataloader(
    loader_0: Iterable[Any],
    loader_1: Iterable[Any],
    *,
    atol: float | None = None,
    rtol: float | None = None,
    compare_mode: CompareMode = "mean",
) -> bool:
    """Compare the batches of two loaders and return True if they agree; print the first difference.

    A batch is a tensor of either framework, an array, a number or a text, or a list, tuple or dict of these. Loaders differ if
    the number of batches, the structure, a shape, a dtype or a value differs, if there is a NaN, or if there is nothing to
    compare.

    Args:
        loader_0: the first loader, the reference; anything that can be iterated over.
        loader_1: the second loader.
        atol: the absolute tolerance, 0 by default.
        rtol: the relative tolerance, by default 1e-7, in the mode "scaled" from the table.
        compare_mode: "mean", "abs_mean", "strict" or "scaled", see CompareRules.

    Raises:
        PadiffError: BAD_INPUTS for a loader that cannot be iterated over, or for items that cannot be compared; BAD_CONFIG for
            a tolerance or mode that makes no sense.
    """
    rules = CompareRules(mode=compare_mode, atol=atol, rtol=rtol)
    for number, loader in enumerate((loader_0, loader_1)):
        if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
            raise PadiffError(
                f"loader {number} is a {type(loader).__qualname__}, over which nothing can be iterated",
                reason=Reason.BAD_INPUTS,
                hint="give two data loaders, or two lists of batches",
            )
    compared = 0
    for number, (one, other) in enumerate(zip_longest(loader_0, loader_1, fillvalue=_END)):
        if one is _END or other is _END:
            shorter = 0 if one is _END else 1
            return _failed(f"loader {shorter} ends after {number} batches, the other goes on")
        mine, theirs = dict(_leaves(one, "")), dict(_leaves(other, ""))
        for name in [*mine, *(name for name in theirs if name not in mine)]:
            where = f"batch {number}{f', {name}' if name else ''}"
            if name not in mine or name not in theirs:
                return _failed(f"{where}: only loader {0 if name in mine else 1} has it")
            verdict = _verdict(mine[name], theirs[name], rules)
            if verdict.status == "fail":
                return _failed(f"{where}: {verdict.why}")
            compared += verdict.status == "pass"
    if not compared:
        return _failed("the loaders yield nothing that could be compared")
    log(f"dataloaders agree: {compared} items compared")
    return True


def _failed(what: str) -> bool:
    log("check dataloader failed!!!")
    show(what)
    return False


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of nested lists, tuples and dicts, each with the keys that lead to it, joined by dots."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _leaves(item, f"{name}.{at}" if name else str(at))
    else:
        yield name, value


def _verdict(one: Any, other: Any, rules: CompareRules) -> Verdict:
    mine, theirs = to_tensor(one), to_tensor(other)
    if mine is not None and theirs is not None:
        return _judge(mine, theirs, rules)
    texts = (str, bytes, type(None))
    if not all(isinstance(item, texts) for item, tensor in ((one, mine), (other, theirs)) if tensor is None):
        raise PadiffError(
            f"items of type {type(one).__qualname__} and {type(other).__qualname__} cannot be compared",
            reason=Reason.BAD_INPUTS,
            hint="let the loaders yield tensors, arrays, numbers or texts",
        )
    if mine is None and theirs is None and one == other:
        return Verdict("pass", "", "", None)
    shown = [repr(item) if tensor is None else str(tensor.spec) for item, tensor in ((one, mine), (other, theirs))]
    return Verdict("fail", "values", f"{shown[0]} against {shown[1]}", None)


def _judge(mine: Tensor, theirs: Tensor, rules: CompareRules) -> Verdict:
    digests = [digest(np.frombuffer(tensor.data, np.uint8), tensor.spec) for tensor in (mine, theirs)]
    standard = Standard(rules, "forward", single_step=False)
    settled = compare_digests(mine.spec, digests[0], theirs.spec, digests[1], standard)
    if settled is not None:
        return settled
    return compare_streams(mine.stream("0"), theirs.stream("1"), digests[0], digests[1], standard)
