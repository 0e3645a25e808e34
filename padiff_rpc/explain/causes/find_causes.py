"""Find the causes that the evidence of a first difference bears out, the best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from padiff_rpc.explain.causes.catalogue.added_parameters import added_parameter
from padiff_rpc.explain.causes.catalogue.attention_variants import attention
from padiff_rpc.explain.causes.catalogue.clipping import clipping
from padiff_rpc.explain.causes.catalogue.constants import constants
from padiff_rpc.explain.causes.catalogue.embeddings import padding_row
from padiff_rpc.explain.causes.catalogue.gradients import lost_gradient, tied_parameter
from padiff_rpc.explain.causes.catalogue.linear import linear
from padiff_rpc.explain.causes.catalogue.loss_gradients import loss_gradients
from padiff_rpc.explain.causes.catalogue.loss_reduction import ignored_targets
from padiff_rpc.explain.causes.catalogue.mixtures import mixture
from padiff_rpc.explain.causes.catalogue.modes import modes
from padiff_rpc.explain.causes.catalogue.norms import norms
from padiff_rpc.explain.causes.catalogue.optimizer_update import optimizer_options, update
from padiff_rpc.explain.causes.catalogue.order import order
from padiff_rpc.explain.causes.catalogue.order_of_calls import order_of_calls
from padiff_rpc.explain.causes.catalogue.other_functions import other_function
from padiff_rpc.explain.causes.catalogue.parts import parts
from padiff_rpc.explain.causes.catalogue.picked_positions import picked_positions
from padiff_rpc.explain.causes.catalogue.position_tables import position_tables
from padiff_rpc.explain.causes.catalogue.precision import precision
from padiff_rpc.explain.causes.catalogue.range import out_of_range
from padiff_rpc.explain.causes.catalogue.recurrent import recurrent
from padiff_rpc.explain.causes.catalogue.resampling import resampling
from padiff_rpc.explain.causes.catalogue.sums import weighted_sum
from padiff_rpc.explain.causes.catalogue.unequal_hyperparameters import configuration, hyperparameters
from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.result import Cause

CauseRule = Callable[[Evidence], Sequence[Cause]]

RULES: tuple[CauseRule, ...] = (
    hyperparameters,
    configuration,
    modes,
    lost_gradient,
    tied_parameter,
    other_function,
    norms,
    linear,
    attention,
    position_tables,
    recurrent,
    picked_positions,
    resampling,
    weighted_sum,
    added_parameter,
    mixture,
    padding_row,
    order,
    order_of_calls,
    constants,
    update,
    clipping,
    optimizer_options,
    ignored_targets,
    loss_gradients,
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
