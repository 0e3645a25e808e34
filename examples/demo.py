"""The demo: align both example pairs, then find the bug planted in each. Exits 0 when all four came out as told."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """One run of `padiff-rpc diff`, and what it must say."""

    title: str
    run_file: str
    exit_status: int
    layer: str | None = None  # raw's route of the first divergence


CASES = (
    Case("ResNet-50 on photographs, torch against paddle", "resnet50/diff.toml", 0),
    Case("MiniLM (pretrained) on sentences, torch against paddle", "minilm/diff.toml", 0),
    Case("ResNet-50 with ReLU6 for ReLU in one block", "resnet50/diff_relu6.toml", 1, "layer2.1.relu"),
    Case(
        "MiniLM with a wrong LayerNorm epsilon in encoder layer 3",
        "minilm/diff_layernorm.toml",
        1,
        "encoder.layer.3.attention.output.LayerNorm",
    ),
)


def main() -> int:
    outcomes = [run(case) for case in CASES]
    print("\n== demo: what was expected, and what came out " + "=" * 40)
    for case, (ok, said, seconds) in zip(CASES, outcomes, strict=True):
        print(f"  {'ok    ' if ok else 'FAILED'}  {case.title}: {said} ({seconds:.0f} s)")
    if all(ok for ok, _, _ in outcomes):
        print("\nNext: write a run file for your own pair (examples/README.md), then: padiff-rpc diff RUN.toml")
        return 0
    return 1


def run(case: Case) -> tuple[bool, str, float]:
    """Run a case with its output shown; return whether it came out as told, what it said, and the seconds it took."""
    run_file = EXAMPLES / case.run_file
    print(f"\n== {case.title}\n$ padiff-rpc diff {run_file.relative_to(EXAMPLES.parent)}", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result_file = Path(folder) / "result.json"
        command = [sys.executable, "-m", "padiff_clients", "diff", str(run_file), "--json", str(result_file)]
        status = subprocess.run(command, check=False).returncode
        result = json.loads(result_file.read_text()) if result_file.exists() else None
    seconds = time.monotonic() - begun
    divergence = result and result["first_divergence"]
    layer = divergence["raw"]["route"] if divergence else None
    said = f"exit status {status}" + (f", first divergence at {layer!r}" if layer is not None else "")
    return status == case.exit_status and layer == case.layer, said, seconds


if __name__ == "__main__":
    sys.exit(main())
