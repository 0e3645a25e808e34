"""Explain the first divergence of a result: gather its evidence while the models live, and let the rules judge it."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.gather_evidence import gather_evidence
from padiff_rpc.explain.causes.find_causes import find_causes
from padiff_rpc.model.model import Inputs
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Result


def explain_first(result: Result, prepared: Prepared, steps: Sequence[StepResult], inputs: PerSide[Inputs]) -> None:
    """Add to a result what may have made its first divergence, where the settings ask for that.

    Args:
        result: is the result, which gains causes, and a note where the tensors could not be had.
        prepared: are the matched models and the settings.
        steps: are the results of the run.
        inputs: are the arguments of each side's forward.
    """
    divergence = result.first_divergence
    if divergence is None or not prepared.settings.explain:
        return
    gathered = gather_evidence(prepared, steps, divergence, inputs)
    if gathered.lacks:
        result.notes.append(f"causes were looked for without tensors: {gathered.lacks}")
    try:
        result.causes = find_causes(gathered.evidence)
    except (ArithmeticError, LookupError, MemoryError, ValueError) as err:  # the verdict of a long run is worth more
        result.notes.append(f"the search for causes failed: {type(err).__name__}: {err}")
