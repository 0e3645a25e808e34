"""tape.json: the inputs and settings that a tape was recorded with. A run that asks for others is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.inputs_as_json import inputs_from_json, inputs_to_json
from padiff_rpc.model.losses_and_optimizers import NEUTRAL_LOSSES, NEUTRAL_OPTIMIZERS
from padiff_rpc.model.model import ForwardRequest, Inputs, LossSpec, ModelDescription, ModelInfo, OptimizerSpec
from padiff_rpc.tape.entries import check_spec, spec_from_json, spec_json
from padiff_rpc.tape.folders import INPUTS, TAPE
from padiff_rpc.tape.header import info_from_json
from padiff_rpc.tape.json_files import FORMAT, OURS, damaged, need, read_json, write_json
from padiff_rpc.tape.npy import open_npy, write_npy
from padiff_rpc.tape.tensor_files import DumpFolder
from padiff_rpc.tensors.tensor import Tensor, TensorStream


@dataclass(frozen=True)
class Manifest:
    """How a tape was recorded.

    Attributes:
        model_name: The model's name.
        steps: How many steps were run.
        inputs: forward's keyword arguments, the same in each step.
        training: The mode that was set; None if the model's mode was left as it was.
        seed: The seed of step 0; step n has seed + n. None if nothing was seeded.
        loss: The loss; None if no backward ran.
        optimizer: The optimiser; None if no step was taken.
        info: Where the model ran.
    """

    model_name: str
    steps: int
    inputs: Inputs
    training: bool | None
    seed: int | None
    loss: LossSpec | None
    optimizer: OptimizerSpec | None
    info: ModelInfo


def write_manifest(into: DumpFolder, manifest: Manifest) -> None:
    """Write tape.json, and beside it the tensors of the inputs and of the loss's targets."""
    text, tensors = inputs_to_json(manifest.inputs)
    loss, optimizer = manifest.loss, manifest.optimizer
    content = {
        OURS: {"format": FORMAT},
        "model_name": manifest.model_name,
        "steps": manifest.steps,
        "inputs": {"values": json.loads(text), "tensors": _write_tensors(into, "input", tensors)},
        "training": manifest.training,
        "seed": manifest.seed,
        "loss": loss
        and {
            "name": loss.name,
            "options": dict(loss.options),
            "outputs": list(loss.outputs),
            "targets": _write_tensors(into, "target", loss.targets),
        },
        "optimizer": optimizer and {"name": optimizer.name, "options": dict(optimizer.options)},
        "info": asdict(manifest.info),
    }
    write_json(into.actual / TAPE, content)


def read_manifest(folder: Path) -> Manifest:
    """Read tape.json and its tensors.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if one is missing or damaged; BAD_CONFIG if its format is of a newer
            release.
    """
    source = folder / TAPE
    content = read_json(source)
    inputs = need(content, "inputs", dict, source)
    tensors = _read_tensors(folder, need(inputs, "tensors", dict, source), source)
    try:
        values = inputs_from_json(json.dumps(need(inputs, "values", dict, source)), tensors)
    except PadiffError as err:
        raise damaged(source, f"holds broken inputs: {err.message}") from err
    return Manifest(
        model_name=need(content, "model_name", str, source),
        steps=need(content, "steps", int, source),
        inputs=values,
        training=None if content.get("training") is None else need(content, "training", bool, source),
        seed=None if content.get("seed") is None else need(content, "seed", int, source),
        loss=None if content.get("loss") is None else _read_loss(folder, need(content, "loss", dict, source), source),
        optimizer=None if content.get("optimizer") is None else _read_optimizer(content, source),
        info=info_from_json(need(content, "info", dict, source), source),
    )


def _read_loss(folder: Path, loss: Mapping[str, Any], source: Path) -> LossSpec:
    return LossSpec(
        name=need(loss, "name", str, source),
        options=need(loss, "options", dict, source),
        targets=_read_tensors(folder, need(loss, "targets", dict, source), source),
        outputs=tuple(need(loss, "outputs", list, source)),
    )


def _read_optimizer(content: Mapping[str, Any], source: Path) -> OptimizerSpec:
    optimizer = need(content, "optimizer", dict, source)
    return OptimizerSpec(need(optimizer, "name", str, source), need(optimizer, "options", dict, source))


# -- what may be asked of a tape ----------------------------------------------------------------------------------
def check_forward(manifest: Manifest, request: ForwardRequest, step: int, description: ModelDescription) -> None:
    """Refuse a forward in another mode, or from another seed, than the recorded one.

    Args:
        manifest: How the tape was recorded.
        request: The forward. A mode or seed of None asks for nothing, and always holds.
        step: The step that it would replay.
        description: The model as recorded in that step, which tells the mode of each layer.

    Raises:
        PadiffError: BAD_CONFIG, naming both.
    """
    if request.training is not None and any(layer.training != request.training for layer in description.layers):
        modes = {layer.training for layer in description.layers}
        was = f"training={modes.pop()}" if len(modes) == 1 else "some layers in training mode and some not"
        raise _contradiction("the forward", f"training={request.training}", was)
    seed = None if manifest.seed is None else manifest.seed + step
    if request.seed is not None and request.seed != seed:
        raise _contradiction(f"the forward of step {step}", f"seed={request.seed}", f"seed={seed}")


def check_loss(manifest: Manifest, asked: LossSpec, outputs: Sequence[str]) -> None:
    """Refuse another loss than the recorded one.

    Args:
        manifest: How the tape was recorded.
        asked: The loss that is asked for.
        outputs: Names of the model's floating-point outputs, all of which a neutral loss takes unless it names some.

    Raises:
        PadiffError: NOT_SUPPORTED if no backward was recorded, BAD_CONFIG, naming both, if the losses differ.
    """
    recorded = manifest.loss
    if recorded is None:
        raise PadiffError(
            f"the tape of {manifest.model_name!r} holds no backward", reason=Reason.NOT_SUPPORTED, hint=_BACKWARD
        )
    if _plain_loss(asked, outputs) != _plain_loss(recorded, outputs):
        raise _contradiction("the backward", _loss_words(asked, outputs), _loss_words(recorded, outputs))


def check_optimizer(manifest: Manifest, asked: OptimizerSpec | None) -> None:
    """Refuse another optimiser than the recorded one, a step if none was recorded, or no step if one was.

    Args:
        manifest: How the tape was recorded.
        asked: The optimiser that is asked for; None asks for no step.

    Raises:
        PadiffError: BAD_CONFIG, naming both.
    """
    recorded = manifest.optimizer
    if (asked and _plain_optimizer(asked)) != (recorded and _plain_optimizer(recorded)):
        raise _contradiction("the optimiser's step", _optimizer_words(asked), _optimizer_words(recorded))


_BACKWARD = "record it with a backward, or compare the forward alone (diff_phase 'forward')"


def _contradiction(what: str, asked: str, recorded: str) -> PadiffError:
    return PadiffError(
        f"{what} is asked for with {asked}, the tape was recorded with {recorded}",
        reason=Reason.BAD_CONFIG,
        hint="ask for what was recorded, or record again as you want it",
    )


def _plain_loss(loss: LossSpec, outputs: Sequence[str]) -> tuple[object, ...]:
    options = {**NEUTRAL_LOSSES.get(loss.name, {}), **loss.options}
    return loss.name, options, dict(loss.targets), _outputs(loss, outputs)


def _outputs(loss: LossSpec, outputs: Sequence[str]) -> list[str]:
    """Return the outputs that a loss is computed of; to a mean or a sum their order is nothing."""
    taken = [name for name in loss.outputs if name in outputs] if loss.outputs else list(outputs)
    return sorted(taken) if loss.name in ("mean", "sum") else taken


def _loss_words(loss: LossSpec, outputs: Sequence[str]) -> str:
    options = _options({**NEUTRAL_LOSSES.get(loss.name, {}), **loss.options})
    targets = "".join(f", target {name} {tensor.spec}" for name, tensor in loss.targets.items())
    taken = ", ".join(_outputs(loss, outputs))
    over = f"the outputs {taken}" if taken else "no output"
    return f"the loss {loss.name}{f'({options})' if options else ''} over {over}{targets}"


def _plain_optimizer(optimizer: OptimizerSpec) -> tuple[object, ...]:
    return optimizer.name, {**NEUTRAL_OPTIMIZERS.get(optimizer.name, {}), **optimizer.options}


def _optimizer_words(optimizer: OptimizerSpec | None) -> str:
    return "no optimiser" if optimizer is None else f"{optimizer.name}({_options(optimizer.options)})"


def _options(options: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in options.items())


# -- tensors ------------------------------------------------------------------------------------------------------
def _write_tensors(into: DumpFolder, prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    (into.actual / INPUTS).mkdir(exist_ok=True)
    written: dict[str, Any] = {}
    for index, (name, tensor) in enumerate(tensors.items()):
        path = f"{INPUTS}/{prefix}_{index}.npy"
        write_npy(into.actual / path, tensor.stream(name))
        written[name] = {"path": path, **spec_json(tensor.spec)}
    return written


def _read_tensors(folder: Path, entries: Mapping[str, Any], source: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise damaged(source, f"says of the tensor {name!r}: {entry!r}")
        file = open_npy(folder / need(entry, "path", str, source))
        spec = check_spec(file, spec_from_json(entry, source))
        found[name] = TensorStream(name, spec, file.chunks()).collect()
    return found
