"""Nested values: names, replacement, and what the caller of a layer sees of it."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest

from padiff_rpc.model.nested import flatten, flatten_call, rebuild, swap_arguments


class T:
    """Stands for a tensor."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __repr__(self) -> str:
        return self.label


def is_tensor(value: object) -> bool:
    return isinstance(value, T)


def labels(value: Any) -> list[tuple[str, str]]:
    return [(name, tensor.label) for name, tensor in flatten(value, is_tensor)]


@dataclass
class Plain:
    first: Any
    rest: Any = None


@dataclass(frozen=True)
class Frozen:
    first: Any


class ModelOutput(OrderedDict):
    """As transformers' outputs: an ordered dict whose entries are attributes too, unset fields left out."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


Point = namedtuple("Point", ["x", "y"])
A, B, C, D = (T(label) for label in "ABCD")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (A, [("0", "A")]),
        ((A, B), [("0", "A"), ("1", "B")]),
        ([A, None, B], [("0", "A"), ("2", "B")]),
        ({"logits": A, "past": (B, [C, D])}, [("logits", "A"), ("past.0", "B"), ("past.1.0", "C"), ("past.1.1", "D")]),
        ({3: A, "b": 1}, [("3", "A")]),
        (Plain(A, (B,)), [("first", "A"), ("rest.0", "B")]),
        (Point(A, [B]), [("x", "A"), ("y.0", "B")]),
        ((A, A), [("0", "A"), ("1", "A")]),
        ({1: A, "1": B}, [("1", "A"), ("1#2", "B")]),
        ({"a.b": A, "a": {"b": B}}, [("a.b", "A"), ("a.b#2", "B")]),
        (None, []),
        ("text", []),
        ((), []),
        (object(), []),
        (Plain, []),
    ],
)
def test_names(value: Any, expected: list[tuple[str, str]]) -> None:
    assert labels(value) == expected


def test_outputs_that_are_dict_and_dataclass_at_once_go_by_their_entries() -> None:
    output = ModelOutput()
    output["logits"] = A
    output["states"] = (B,)
    assert labels(output) == [("logits", "A"), ("states.0", "B")]
    new = rebuild(output, is_tensor, {"logits": C})
    assert type(new) is ModelOutput
    assert (new["logits"], new.logits, new["states"], output["logits"]) == (C, C, (B,), A)


def test_arguments_are_named_by_position_and_by_keyword() -> None:
    found = flatten_call((A, (B,)), {"hidden": C, "mask": None, "past": {"k": D}}, is_tensor)
    assert [(name, tensor.label) for name, tensor in found] == [
        ("0", "A"),
        ("1.0", "B"),
        ("hidden", "C"),
        ("past.k", "D"),
    ]


@pytest.mark.parametrize("value", [(A, B), [A, B], Point(A, B), {"p": A, "q": B}, Plain(A, B), OrderedDict(p=A, q=B)])
def test_rebuilding_copies_what_changes_and_keeps_the_type(value: Any) -> None:
    before = copy.copy(value)
    names = [name for name, _ in flatten(value, is_tensor)]
    new = rebuild(value, is_tensor, {names[1]: C})
    assert type(new) is type(value)
    assert labels(new) == [(names[0], "A"), (names[1], "C")]
    assert value == before


def test_rebuilding_reaches_frozen_dataclasses_and_bare_tensors() -> None:
    old = Frozen((A,))
    assert rebuild(old, is_tensor, {"first.0": B}).first == (B,)
    assert old.first == (A,)
    assert rebuild(A, is_tensor, {"0": B}) is B


def test_without_replacements_the_very_object_comes_back() -> None:
    value = {"a": [A, (B,)]}
    assert rebuild(value, is_tensor, {}) is value
    assert rebuild(value, is_tensor, {"nowhere": C}) is value


def test_a_container_that_holds_itself_ends() -> None:
    value: list[Any] = [A]
    value.append(value)
    assert labels(value) == [("0", "A")]


def test_swapped_arguments_are_put_back_in_containers_that_the_caller_holds() -> None:
    cache, options, pack = [A, B], {"mask": C}, Plain(D)
    args, kwargs, restore = swap_arguments(
        (A, cache),
        {"options": options, "pack": pack},
        is_tensor,
        {"0": T("a"), "1.1": T("b"), "options.mask": T("c"), "pack.first": T("d")},
    )
    assert args[0].label == "a"
    assert args[1] is cache  # so that what the layer appends is seen by its caller
    assert kwargs["options"] is options
    assert ([item.label for item in cache], options["mask"].label, pack.first.label) == (["A", "b"], "c", "d")
    cache.insert(0, D)
    options["more"] = D
    restore()
    assert cache == [D, A, B]
    assert options == {"mask": C, "more": D}
    assert pack.first is D


def test_what_the_layer_wrote_itself_is_not_put_back() -> None:
    cache = [A]
    _, _, restore = swap_arguments((cache,), {}, is_tensor, {"0.0": B})
    cache[0] = C
    restore()
    assert cache == [C]


@dataclass
class WithDefault:
    items: list[Any] = field(default_factory=list)


def test_a_dataclass_attribute_that_is_missing_is_passed_over() -> None:
    value = WithDefault([A])
    del value.items
    assert labels(value) == []
