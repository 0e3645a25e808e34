"""Try the mutations of one pair, in raw's environment: `python -m benchmarks.mutations.child JOB`.

JOB is JSON: name, base and raw (the fields of Side), inputs (an .npz file), count, seed. Base runs in a worker, raw in this
process, which coordinates as well. Each trial is one line of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.mutations.pairs import ROOT, MutatedPair, Side
from benchmarks.mutations.trial import try_pair
from padiff_rpc.remote.launch import launch


def main(job: dict[str, Any]) -> None:
    """Print a line for each trial."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print is no trial
    with np.load(job["inputs"]) as arrays:
        pair = MutatedPair(
            job["name"], Side(**job["base"]), Side(**job["raw"]), dict(arrays), tuple(job["allow_extra"])
        )
    with launch(pair.base.spec, python=pair.base.python, model_args=pair.base.model_args, cwd=ROOT) as base:
        for trial in try_pair(pair, base, job["count"], job["seed"]):
            print(json.dumps(asdict(trial)), file=told, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
