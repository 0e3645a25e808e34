"""Find the causes that the evidence of a first difference bears out, the best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.rules.attention_variants import attention
from padiff_rpc.explain.causes.rules.constants import constants
from padiff_rpc.explain.causes.rules.embeddings import padding_row
from padiff_rpc.explain.causes.rules.gradients import lost_gradient
from padiff_rpc.explain.causes.rules.linear import linear
from padiff_rpc.explain.causes.rules.loss_reduction import ignored_targets
from padiff_rpc.explain.causes.rules.modes import modes
from padiff_rpc.explain.causes.rules.norms import norms
from padiff_rpc.explain.causes.rules.optimizer_update import optimizer_options, update
from padiff_rpc.explain.causes.rules.order import order
from padiff_rpc.explain.causes.rules.other_functions import other_function
from padiff_rpc.explain.causes.rules.parts import parts
from padiff_rpc.explain.causes.rules.precision import precision
from padiff_rpc.explain.causes.rules.range import out_of_range
from padiff_rpc.explain.causes.rules.resampling import resampling
from padiff_rpc.explain.causes.rules.sums import weighted_sum
from padiff_rpc.explain.causes.rules.unequal_hyperparameters import configuration, hyperparameters
from padiff_rpc.result import Cause

CauseRule = Callable[[Evidence], Sequence[Cause]]

RULES: tuple[CauseRule, ...] = (
    hyperparameters,
    configuration,
    modes,
    lost_gradient,
    other_function,
    norms,
    linear,
    attention,
    resampling,
    weighted_sum,
    padding_row,
    order,
    constants,
    update,
    optimizer_options,
    ignored_targets,
    parts,
    out_of_range,
    precision,
)
"""Each looks at all the evidence by itself, and says nothing where it finds none for its kind of cause."""


def find_causes(evidence: Evidence) -> list[Cause]:
    """Return the causes that the evidence bears out, the best first; of one name, the best alone."""
    best: dict[str, Cause] = {}
    with np.errstate(all="ignore"):
        for rule in RULES:
            for cause in rule(evidence):
                if cause.name not in best or best[cause.name].score < cause.score:
                    best[cause.name] = cause
    return sorted(best.values(), key=lambda cause: -cause.score)
