"""Align one pair of the zoo: launch both workers, match, run, compare, and say whether what came out is right."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padiff_clients.report_errors import ALIGNED, BAD_USAGE, DIFFERS, WORKER_FAILED, describe
from rich.console import Console

from padiff_rpc.align.align import align
from padiff_rpc.align.prepare import match_described
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import WORKER_REASONS, PadiffError
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.per_side import PerSide
from padiff_rpc.remote.launch import launch
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.report.json_file import write_result
from padiff_rpc.report.terminal import print_result
from padiff_rpc.result import Result
from tests.zoo.pairs import ENVIRONMENTS, Twin, ZooPair

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(__file__).resolve().parent / "models"
RESULTS = ROOT / "build" / "zoo"
"""Where the text and the JSON of each run lie."""
_TEXT_COLUMNS = 140


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        matching: is the map of layers and parameters; None where the workers did not come up.
        result: is the result; None where the pair was refused or a worker failed.
        error: says why there is no result.
    """

    matching: Matching | None
    result: Result | None
    error: PadiffError | None = None

    @property
    def named(self) -> str | None:
        """The base route of the layer that the result names; None where it names none."""
        divergence = self.result.first_divergence if self.result else None
        return divergence.base.route if divergence else None

    @property
    def exit_status(self) -> int:
        """What `padiff-rpc diff` would exit with."""
        if self.result:
            return ALIGNED if self.result.aligned else DIFFERS
        return WORKER_FAILED if self.error and self.error.reason in WORKER_REASONS else BAD_USAGE

    @property
    def verdict(self) -> str:
        """The verdict in a few words."""
        if self.error:
            return f"refused: {self.error.reason.name}"
        if self.result and self.result.aligned:
            return "aligned"
        return "differs" if self.named is None else f"differs at {self.named or 'the model itself'}"

    def right(self, differs_at: tuple[str, ...]) -> bool:
        """Tell whether a pair came out as it must: aligned, or different at one of these base routes, if there are any."""
        if self.result is None:
            return False
        return self.named in differs_at if differs_at else self.result.aligned


def run_pair(pair: ZooPair, name: str, raw_arguments: Mapping[str, Any] | None = None) -> Outcome:
    """Run a pair, and leave its text and its JSON in RESULTS.

    Args:
        pair: is the pair.
        name: is what the files are called.
        raw_arguments: are further arguments of raw's factory.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    report = RESULTS / f"{name}.txt"
    for stale in (report, RESULTS / f"{name}.json"):
        stale.unlink(missing_ok=True)
    settings, matching = AlignSettings(**pair.settings), None
    try:
        with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
            # Both at once: importing the libraries takes seconds.
            starting = [
                pool.submit(_start, "torch", pair.base, {}),
                pool.submit(_start, "paddle", pair.raw, raw_arguments or {}),
            ]
            models = PerSide(*(stack.enter_context(future.result()) for future in starting))
            matching = match_described(models.map(lambda model: model.describe()), settings)
            inputs = as_inputs(pair.inputs)
            result = align(models.base, models.raw, inputs, inputs, settings)
    except PadiffError as err:
        report.write_text(describe(err), encoding="utf-8")
        return Outcome(matching, None, err)
    write_result(RESULTS / f"{name}.json", result)
    with report.open("w", encoding="utf-8") as file:
        print_result(result, Console(file=file, width=_TEXT_COLUMNS))
    return Outcome(matching, result)


def _start(framework: str, twin: Twin, arguments: Mapping[str, Any]) -> RemoteModel:
    return launch(
        f"{framework}@{MODELS / f'{framework}_zoo.py'}:build",
        python=ROOT / ".venvs" / ENVIRONMENTS[twin.library] / "bin" / "python",
        model_args={**twin.arguments, **arguments},
    )
