"""Convert forward's inputs to the framework's own, and hand them over as its forward takes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.model.forward_signature import ForwardParameter, ForwardSignature, Passing, signature_text
from padiff_rpc.tensors.tensor import Tensor


@dataclass(frozen=True)
class NativeInput:
    """An input that is the framework's own already, for a model in this process. It cannot travel to a worker.

    Attributes:
        value: The framework's own value.
        data: The values of a tensor. Each forward gets a copy of them, so that a model that writes into its inputs does
            not change them for the next run. None for a value that is passed as it is.
        traced: True where the copy receives a gradient. The gradient of the user's own tensor stays as it is, and
            backward does not run through the operations that made that tensor.
    """

    value: Any
    data: Tensor | None = None
    traced: bool = False


def to_native(backend: Backend, model: Any, name: str, value: Any) -> Any:
    """Convert an input to the framework's own: its tensors lie on the model's device, all else stays as it is.

    Args:
        backend: The framework.
        model: The model whose device the tensors go to.
        name: The input's name, for the error.
        value: The input; see `model.Inputs`.

    Raises:
        PadiffError: BAD_INPUTS for a value of a type that inputs cannot have.
    """
    if isinstance(value, Tensor):
        return backend.from_tensor(value, None, model)
    if isinstance(value, NativeInput):
        if value.data is None:
            return value.value
        copy = backend.from_tensor(value.data, value.value, model)
        return backend.traced(copy) if value.traced else copy
    if isinstance(value, (list, tuple)):
        items = [to_native(backend, model, f"{name}.{index}", item) for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_native(backend, model, f"{name}.{key}", item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise PadiffError(
        f"input {name!r} is a {type(value).__module__}.{type(value).__qualname__}",
        reason=Reason.BAD_INPUTS,
        hint="an input is a Tensor, None, bool, int, float, str, or a list, tuple or dict (str keys) of these",
    )


def forward_signature(model: Any) -> ForwardSignature | None:
    """Return the parameters of a model's forward; None where it is compiled or wrapped beyond inspection."""
    signature = _inspected(model)
    if signature is None:
        return None
    return tuple(
        ForwardParameter(
            name=each.name,
            passing=_PASSING[each.kind],
            required=each.default is each.empty and _PASSING[each.kind] not in ("rest", "keywords"),
            shown=_shown(each),
        )
        for each in signature.parameters.values()
    )


def call_arguments(model: Any, inputs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the keyword arguments with which a model's forward takes its inputs.

    All go by keyword, but for what forward takes by position only: such parameters, and the items of `*rest`, which are a
    list or tuple under its name. What stands before these goes by position too.

    Raises:
        PadiffError: BAD_INPUTS where forward does not take them; the hint quotes the signature.
    """
    signature = _inspected(model)
    if signature is None:
        return [], dict(inputs)  # the call itself will tell
    keywords = dict(inputs)
    positional = _positional(signature, keywords)
    try:
        signature.bind(*positional, **keywords)
    except TypeError as err:
        raise PadiffError(
            f"forward of {type(model).__name__} does not take the inputs {', '.join(inputs) or '(none)'}: {err}",
            reason=Reason.BAD_INPUTS,
            hint=f"it is {signature_text(forward_signature(model) or ())}",
        ) from err
    return positional, keywords


_PASSING: Mapping[Any, Passing] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.VAR_POSITIONAL: "rest",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "keywords",
}

_SHOWN_CHARACTERS = 60
"""How much of a parameter's default is shown, which may be a whole tensor."""


def _inspected(model: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _shown(parameter: inspect.Parameter) -> str:
    text = " ".join(str(parameter.replace(annotation=parameter.empty)).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _positional(signature: inspect.Signature, keywords: dict[str, Any]) -> list[Any]:
    """Take what must go by position out of the keywords, and return it; defaults fill what stands between."""
    leading = [each for each in signature.parameters.values() if _PASSING[each.kind] in ("positional_only", "either")]
    holder = next((each.name for each in signature.parameters.values() if _PASSING[each.kind] == "rest"), "")
    rest = keywords.pop(holder) if isinstance(keywords.get(holder), (list, tuple)) else ()
    only = [at for at, each in enumerate(leading) if _PASSING[each.kind] == "positional_only" and each.name in keywords]
    until = len(leading) if rest else max(only, default=-1) + 1
    positional: list[Any] = []
    for each in leading[:until]:
        if each.name not in keywords and each.default is each.empty:
            return positional  # which lacks one, as bind() will say
        positional.append(keywords.pop(each.name, each.default))
    return [*positional, *rest]
