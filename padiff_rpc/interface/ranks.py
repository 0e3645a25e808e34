"""Read from the environment, where a launcher sets it, which process of a training run this is, and of how many."""

from __future__ import annotations

import os

from padiff_rpc.errors import PadiffError, Reason

_VARIABLES = {
    # paddle.distributed.launch sets the first, torchrun the second; then Open MPI's, Slurm's and PMI's own.
    "paddle": ("PADDLE_TRAINER_ID", "RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "PMI_RANK"),
    "torch": ("RANK", "PADDLE_TRAINER_ID", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "PMI_RANK"),
}

_SIZES = ("PADDLE_TRAINERS_NUM", "WORLD_SIZE")


def current_rank(framework: str) -> int:
    """Return the rank of this process, from 0; 0 if no launcher has set one.

    Args:
        framework: "torch" or "paddle"; the variables of its own launcher are read first.

    Raises:
        PadiffError: BAD_CONFIG if the variable's value is no number.
    """
    for name in _VARIABLES.get(framework, _VARIABLES["torch"]):
        value = os.environ.get(name)
        if value is None:
            continue
        if not value.isdecimal():
            raise PadiffError(
                f"the environment variable {name} is {value!r}, which is no rank",
                reason=Reason.BAD_CONFIG,
                hint="a launcher sets it to 0, 1, ...; unset it where there is none",
            )
        return int(value)
    return 0


def world_size() -> int | None:
    """Return how many processes the launcher started; None if no variable says so."""
    values = (os.environ.get(name, "") for name in _SIZES)
    return next((int(value) for value in values if value.isdecimal() and int(value) > 0), None)
