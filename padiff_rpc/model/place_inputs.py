"""Give a model's inputs the names that its forward knows: by name, or else by position, and say so."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.forward_signature import ForwardParameter, ForwardSignature, signature_text
from padiff_rpc.model.model import Inputs


def place_inputs(
    side: str, inputs: Inputs, signature: ForwardSignature | None, other: ForwardSignature | None = None
) -> tuple[Inputs, str | None]:
    """Return the inputs by the names of forward's parameters, and a note where a name had to change.

    Inputs go by name. Those whose name forward does not know go by position, in the order that they have in the other
    model's forward (in their own order where that does not know them either): to the required parameters that are left,
    where they are as many; else to all positional ones that are left, where they are as many, and beside inputs that go by
    name each stays at its place; else a first input to a first parameter. What is beyond them goes to `*rest`. Nothing is
    moved where the call holds by name.

    Args:
        side: The model's name in messages, such as "raw".
        inputs: The inputs, by the names that the user gave them.
        signature: The parameters of this model's forward; None where they are not known, and inputs stay as they are.
        other: The parameters of the other model's forward, whose names the inputs may have; None where there is none.

    Raises:
        PadiffError: BAD_INPUTS where forward does not take the inputs; the hint shows both signatures.
    """
    if signature is None:
        return inputs, None
    strays = [name for name in inputs if not _takes(signature, name, inputs)]
    lacking = [each for each in signature if each.required and each.name not in inputs]
    if not strays and not lacking:
        return inputs, None
    if not strays and any(each.passing == "keywords" for each in signature):
        names = {each.name for each in signature if each.passing != "keywords"}
        strays = [name for name in inputs if name not in names]
    targets = _targets(strays, inputs, signature, other)
    if targets is None or any(each.passing == "keyword_only" for each in lacking):
        raise _not_taken(side, inputs, strays, lacking, signature, other)
    strays = _in_order(strays, other) or strays
    renamed = dict(zip(strays, targets, strict=False))
    rest = strays[len(targets) :]
    placed = {renamed.get(name, name): value for name, value in inputs.items() if name not in rest}
    if rest:
        holder = _rest(signature)
        placed[holder] = tuple(inputs[name] for name in rest)
        renamed |= dict.fromkeys(rest, f"*{holder}")
    return placed, _note(side, inputs, renamed, signature)


def _takes(signature: ForwardSignature, name: str, inputs: Inputs) -> bool:
    for each in signature:
        if each.passing == "keywords":
            return True
        if each.name == name:
            return each.passing != "rest" or isinstance(inputs[name], (list, tuple))
    return False


def _targets(
    strays: Sequence[str], inputs: Inputs, signature: ForwardSignature, other: ForwardSignature | None
) -> list[str] | None:
    """Return the parameters that the strays go to, in order; None where it cannot be told. `*rest` takes what is beyond them."""
    ordered = _in_order(strays, other)
    if not ordered:
        return None
    free = [each for each in signature if each.passing in ("positional_only", "either") and each.name not in inputs]
    needed = [each.name for each in free if each.required]
    if len(ordered) == len(needed):
        return needed
    names = [each.name for each in free]
    rest = _rest(signature)
    if len(ordered) > len(names):
        return names if rest and (rest not in inputs or rest in strays) else None
    all_names = [each.name for each in signature]
    stay = all(_position(name, inputs, other) == all_names.index(to) for name, to in zip(ordered, names, strict=False))
    if len(ordered) == len(names) and (stay or len(ordered) == len(inputs)):
        return names
    if len(ordered) == 1 and stay and names[0] == all_names[0] and needed in ([], names[:1]):
        return names[:1]
    return None


def _position(name: str, inputs: Inputs, other: ForwardSignature | None) -> int:
    """Return an input's place in the other model's forward, or among the inputs where that does not know it."""
    places = [each.name for each in other or ()]
    return (places if name in places else list(inputs)).index(name)


def _in_order(strays: Sequence[str], other: ForwardSignature | None) -> list[str]:
    """Return the strays in the order of their positions; an empty list where that order is not known."""
    places = {each.name: at for at, each in enumerate(other or ())}
    known = [name for name in strays if name in places]
    if len(known) == len(strays):
        return sorted(strays, key=places.__getitem__)
    return [] if known else list(strays)


def _rest(signature: ForwardSignature) -> str:
    """Return the name of `*rest`; an empty text where forward has none."""
    return next((each.name for each in signature if each.passing == "rest"), "")


def _note(side: str, inputs: Inputs, renamed: dict[str, str], signature: ForwardSignature) -> str:
    moved = ", ".join(f"{name} as {target}" for name, target in renamed.items())
    kept = [name for name in inputs if name not in renamed]
    note = f"inputs of {side}, {signature_text(signature)}: given by position: {moved}"
    return f"{note}; by name: {', '.join(kept)}" if kept else note


def _not_taken(
    side: str,
    inputs: Inputs,
    strays: Sequence[str],
    lacking: Sequence[ForwardParameter],
    signature: ForwardSignature,
    other: ForwardSignature | None,
) -> PadiffError:
    wrong: list[str] = []
    if strays:
        wrong.append(f"it has no {', '.join(strays)}")
    if lacking:
        wrong.append(f"it lacks {', '.join(each.name for each in lacking)}")
    if strays:
        wrong.append("and which goes where cannot be told by position")
    hint = f"{side}'s is {signature_text(signature)}"
    if other is not None:
        name = "raw" if side == "base" else "base"
        hint += (
            f", {name}'s is {signature_text(other)}; give each side inputs of its own: --base-inputs and --raw-inputs"
        )
    return PadiffError(
        f"forward of {side} does not take the inputs {', '.join(inputs) or '(none)'}: {', '.join(wrong)}",
        reason=Reason.BAD_INPUTS,
        hint=hint,
    )
