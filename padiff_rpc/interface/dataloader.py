"""check_dataloader: compare two data loaders batch by batch, before any model runs."""

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
    """Compare what two loaders yield and return whether it agrees; the first difference is printed.

    Batches are tensors of either framework, arrays or numbers, or lists, tuples and dicts of these. Another number of
    batches, another structure, shape or dtype, NaN, and loaders without a single tensor all are differences. atol, rtol,
    compare_mode: as in auto_diff (0, 1e-7, "mean").
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
