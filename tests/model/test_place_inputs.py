"""Which input goes to which parameter of a forward, and what is said where it cannot be told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.forward_signature import ForwardSignature, signature_text
from padiff_rpc.model.hosting.native_inputs import call_arguments, forward_signature
from padiff_rpc.model.place_inputs import place_inputs


def signature_of(forward: Callable[..., Any]) -> ForwardSignature:
    signature = forward_signature(SimpleNamespace(forward=forward))
    assert signature is not None
    return signature


def x_mask(x, mask=None): ...


def mask_x(mask, x): ...


def input_mask(input, mask): ...


def input_only(input): ...


def input_and_two_options(input, attn_mask=None, cache=None): ...


def input_and_one_option(input, attn_mask=None): ...


def all_options(input_ids=None, mask=None, cache=None): ...


def positional(x, y=2, /): ...


def rest(*tensors): ...


def x_rest(x, *others): ...


def x_keywords(x, **options): ...


def keywords(*args, **kwargs): ...


def scaled(x, *, scale): ...


def x_labels(x, labels): ...


def placed(inputs: dict[str, Any], forward: Callable[..., Any], other: Callable[..., Any] | None = None) -> Any:
    return place_inputs("raw", inputs, signature_of(forward), other and signature_of(other))


@pytest.mark.parametrize(
    ("names", "forward"),
    [
        ("x", x_mask),
        ("mask x", x_mask),
        ("mask x", mask_x),
        ("input_ids cache", all_options),
        ("x y", positional),
        ("x flag", x_keywords),
        ("anything at_all", keywords),
    ],
)
def test_what_goes_by_name_stays_as_it_is(names: str, forward: Callable[..., Any]) -> None:
    inputs = dict.fromkeys(names.split(), 1)
    assert placed(inputs, forward, x_mask) == (inputs, None)


@pytest.mark.parametrize(
    ("names", "forward", "other", "taken"),
    [
        ("x", input_only, x_mask, "input=x"),
        ("arr_0", input_only, None, "input=arr_0"),
        ("arr_0 arr_1", input_mask, input_mask, "input=arr_0 mask=arr_1"),
        ("x", input_and_two_options, x_mask, "input=x"),
        ("x", all_options, x_mask, "input_ids=x"),
        ("x attn", input_and_one_option, None, "input=x attn_mask=attn"),
        # The order is that of the other model's forward, which knows the names, not that of the file.
        ("mask x", input_and_one_option, x_mask, "input=x attn_mask=mask"),
        # Some fit, and the others are as many as are lacking.
        ("x mask", input_mask, x_mask, "input=x mask=mask"),
        ("mask x", input_mask, x_mask, "input=x mask=mask"),
        ("x mask", all_options, x_mask, "input_ids=x mask=mask"),
        ("x labels", x_mask, x_labels, "x=x mask=labels"),
        ("a", x_keywords, input_only, "x=a"),
    ],
)
def test_by_position_goes_what_no_name_fits(
    names: str, forward: Callable[..., Any], other: Callable[..., Any] | None, taken: str
) -> None:
    inputs = {name: f"value of {name}" for name in names.split()}
    given, note = placed(inputs, forward, other)
    moved = {to: name for to, _, name in (pair.partition("=") for pair in taken.split())}
    assert given == {to: f"value of {name}" for to, name in moved.items()}
    assert note is not None
    for to, name in moved.items():
        assert to == name or f"{name} as {to}" in note


def test_the_note_says_what_went_where() -> None:
    _, note = placed({"mask": 1, "x": 2}, input_mask, x_mask)
    assert note == "inputs of raw, forward(input, mask): given by position: x as input; by name: mask"


def test_what_a_star_takes_goes_there_in_order() -> None:
    assert placed({"a": 1, "b": 2}, rest)[0] == {"tensors": (1, 2)}
    assert placed({"a": 1, "b": 2, "c": 3}, x_rest)[0] == {"x": 1, "others": (2, 3)}
    given, note = placed({"x": 1, "b": 2}, x_rest)
    assert given == {"x": 1, "others": (2,)}
    assert note == "inputs of raw, forward(x, *others): given by position: b as *others; by name: x"
    assert placed({"tensors": [1, 2]}, rest) == ({"tensors": [1, 2]}, None)
    assert placed({"tensors": 1}, rest)[0] == {"tensors": (1,)}


@pytest.mark.parametrize(
    ("names", "forward", "other", "said"),
    [
        ("x mask", input_only, x_mask, "it has no x, mask, it lacks input, and which"),
        ("x extra", input_and_two_options, x_mask, "it has no x, extra"),
        ("x mask", input_and_two_options, x_mask, "it has no x, mask"),  # attn_mask or cache?
        ("mask", x_mask, mask_x, "it lacks x"),
        ("x", scaled, None, "it lacks scale"),
        ("a", scaled, None, "it has no a, it lacks x, scale"),
        ("x mask", x_keywords, None, ""),
        ("a b", x_keywords, None, "it has no a, b, it lacks x"),
        ("mask cache", all_options, None, ""),
        ("x mask cache labels", all_options, None, "it has no x, labels"),
        ("x labels", all_options, x_labels, "it has no x, labels"),
        ("", input_only, None, "it lacks input"),
        ("x tensors", rest, None, ""),
    ],
)
def test_what_cannot_be_told_is_refused(
    names: str, forward: Callable[..., Any], other: Callable[..., Any] | None, said: str
) -> None:
    inputs = dict.fromkeys(names.split(), 1)
    if not said:
        placed(inputs, forward, other)
        return
    with pytest.raises(PadiffError) as raised:
        placed(inputs, forward, other)
    assert raised.value.reason is Reason.BAD_INPUTS
    assert said in raised.value.message
    assert f"raw's is {signature_text(signature_of(forward))}" in raised.value.hint


def test_a_refusal_shows_both_signatures_and_the_option() -> None:
    with pytest.raises(PadiffError) as raised:
        placed({"x": 1, "mask": 2}, input_only, x_mask)
    assert raised.value.message.startswith("forward of raw does not take the inputs x, mask: ")
    assert raised.value.hint == (
        "raw's is forward(input), base's is forward(x, mask=None); give each side inputs of its own: "
        "--base-inputs and --raw-inputs"
    )


def test_where_the_signature_is_not_known_inputs_stay() -> None:
    assert place_inputs("raw", {"x": 1}, None, signature_of(x_mask)) == ({"x": 1}, None)


def test_a_signature_reads_as_python_writes_it() -> None:
    def long(a, /, b: int = 2, *, c=tuple(range(99)), **d): ...

    assert signature_text(signature_of(long)).startswith("forward(a, /, b=2, *, c=(0, 1, 2, 3,")
    assert signature_text(signature_of(long)).endswith("..., **d)")
    assert signature_text(signature_of(positional)) == "forward(x, y=2, /)"
    assert signature_text(signature_of(x_rest)) == "forward(x, *others)"
    assert signature_text(signature_of(scaled)) == "forward(x, *, scale)"


@pytest.mark.parametrize(
    ("forward", "inputs", "args", "kwargs"),
    [
        (x_mask, {"mask": 1, "x": 2}, [], {"mask": 1, "x": 2}),
        (positional, {"x": 1}, [1], {}),
        (positional, {"y": 3, "x": 1}, [1, 3], {}),
        (rest, {"tensors": (1, 2)}, [1, 2], {}),
        (x_rest, {"x": 1, "others": [2, 3]}, [1, 2, 3], {}),
        (x_rest, {"x": 1}, [], {"x": 1}),
        (x_keywords, {"x": 1, "flag": 2}, [], {"x": 1, "flag": 2}),
    ],
)
def test_what_forward_takes_by_position_only_is_given_so(
    forward: Callable[..., Any], inputs: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    assert call_arguments(SimpleNamespace(forward=forward), inputs) == (args, kwargs)


def test_a_default_before_what_goes_by_position_is_filled_in() -> None:
    def forward(a, b=5, *more): ...

    assert call_arguments(SimpleNamespace(forward=forward), {"a": 1, "more": [7]}) == ([1, 5, 7], {})
    with pytest.raises(PadiffError, match="missing a required argument: 'a'"):
        call_arguments(SimpleNamespace(forward=forward), {"b": 1, "more": [7]})
