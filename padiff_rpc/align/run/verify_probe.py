"""Prove that recording changes nothing: a step with it and a step without it give the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.routes import listed
from padiff_rpc.model.model import Boundary, ForwardRequest, Inputs, LossSpec, Model, RecordOptions
from padiff_rpc.tensors.tensor import Tensor, collect_all

_BATCH = 64
"""Records that are released together."""
_BARE = RecordOptions(routes=("",), inputs=False, gradients=False)
"""Records the model's outputs alone, once the model has returned them."""
EVERYTHING = RecordOptions()


@dataclass(frozen=True)
class ProbeFinding:
    """The outcome of a verification.

    Attributes:
        compared: counts the outputs, gradients of parameters, buffers and losses that were compared.
        disturbed: names those that recording changes.
        unsteady: names those that differ between two steps without recording, so that they tell nothing of the recording.
        regrouped: says that recording the gradients at layers' inputs makes the change, since without them recording changes
            nothing. For these gradients each layer gets an alias of its input. The parts that several users inside the layer
            send back are added up there, before the parts of other users. With three parts or more that is the same sum in
            another order.
    """

    compared: int
    disturbed: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()
    regrouped: bool = False

    @property
    def proved(self) -> bool:
        """Whether something was compared, and recording changed none of it."""
        return self.compared > 0 and not self.disturbed and not self.unsteady

    def words(self) -> str:
        """Say the outcome in one sentence."""
        if self.unsteady:
            return (
                f"the model does not repeat its own step without recording ({listed(self.unsteady)}), so that nothing is known "
                "of what recording changes: use deterministic algorithms, or eval mode"
            )
        if self.disturbed:
            why = (
                ": it adds the parts of a gradient up layer by layer, and sums of three or more round in another way then; "
                "without the gradients at layers' inputs it changes no bit"
            )
            return (
                f"recording changes {listed(self.disturbed)}, of {self.compared} tensors that were compared"
                f"{why if self.regrouped else ''}"
            )
        return f"recording changes no bit of {self.compared} outputs, gradients, buffers and losses"


def verify_probe(
    model: Model,
    inputs: Inputs,
    *,
    training: bool | None = None,
    seed: int | None = 0,
    loss: LossSpec | None = None,
    options: RecordOptions = EVERYTHING,
) -> ProbeFinding:
    """Run a step twice without recording and once with it, from the same state, and compare everything it computes by hash.

    Buffers are put back after each step, and the model is reset at the end.

    Args:
        model: is the model whose recording is verified.
        inputs: are the arguments of its forward, by name.
        training: sets the model's mode; None leaves it.
        seed: seeds the framework's random generators before each step; None leaves them.
        loss: is the loss over the outputs; None runs no backward.
        options: say what is recorded.

    Raises:
        PadiffError: BAD_CONFIG for a dump, which runs nothing.
    """
    if model.info().recorded:
        raise PadiffError("a dump runs nothing that recording could change", reason=Reason.BAD_CONFIG)
    held = model.describe().parameters
    buffers = [info.name for info in held if info.kind == "buffer"]
    before = collect_all(model.read_parameters(buffers))

    def step(record: RecordOptions, observer: _ReleasingObserver | None) -> dict[str, bytes]:
        request = ForwardRequest(inputs, training, seed, gradients=loss is not None, record=record)
        outputs = model.forward(request, observer).outputs
        came = {f"output {one.name}": one.digest.hash for one in outputs}
        if loss is not None:
            value = model.backward(loss, observer).loss
            came["the loss"] = repr(value).encode()
            names = [info.name for info in held if info.kind == "parameter"]
            digests = model.digest_parameters(names, "gradient")
            came |= {f"gradient of {name}": digest.hash for name, digest in digests.items()}
        came |= {f"buffer {name}": digest.hash for name, digest in model.digest_parameters(buffers).items()}
        model.write_parameters(tensor.stream(name) for name, tensor in before.items())
        return came

    try:
        bare, again = step(_BARE, None), step(_BARE, None)
        recorded = step(options, _ReleasingObserver(model))
        disturbed, unsteady = _differing(bare, recorded), _differing(bare, again)
        regrouped = False
        if disturbed and not unsteady and options.inputs and all(name.startswith("gradient") for name in disturbed):
            regrouped = not _differing(bare, step(replace(options, inputs=False), _ReleasingObserver(model)))
    finally:
        model.reset()
    return ProbeFinding(len(bare), disturbed, unsteady, regrouped)


def _differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> tuple[str, ...]:
    return tuple(name for name in {**one, **other} if one.get(name) != other.get(name))


@dataclass
class _ReleasingObserver:
    """Hears of every boundary, as an alignment does, and lets go of what was recorded."""

    model: Model
    ids: list[int] = field(default_factory=list)
    releases: int = 0

    def observe(self, boundary: Boundary) -> None:
        self.ids += [record.id for record in boundary.records]
        if len(self.ids) >= _BATCH:
            self._flush()

    def await_room(self, releases: int) -> bool:
        """Release what is held back."""
        if self.ids:
            self._flush()
        return self.releases > releases

    def _flush(self) -> None:
        self.model.release_activations(self.ids)
        self.ids = []
        self.releases += 1

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}
