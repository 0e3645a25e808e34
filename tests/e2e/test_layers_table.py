"""Every parametrised layer class that both frameworks have: assigned, run and compared. The outcome is docs/layers.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import Matching, ParameterLink
from padiff_rpc.match.match import match_models
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.remote.launch import launch
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import Tensor

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "layers.md"
REFRESH = "PADIFF_REFRESH_DOCS=1 .venvs/coordinator/bin/python -m pytest tests/e2e/test_layers_table.py"

EXPLAINED = {
    "spectral_norm_parametrized": "torch's newer power iteration computes u before v, the older one and paddle's v before u: in "
    "train mode they agree once they have converged"
}
"""Layers of which something differs, and why that is the frameworks' doing."""

_VARIANCE = "torch keeps the sample variance, paddle the population's: compared after conversion"
REMARKS = {
    "batch_norm1d": _VARIANCE,
    "batch_norm2d": _VARIANCE,
    "batch_norm3d": _VARIANCE,
    "lstm_cell": "torch returns (h, c), paddle (h, (h, c))",
    "lstm": "paddle runs no backward of it in eval mode",
    "gru": "paddle runs no backward of it in eval mode",
    "rnn": "paddle runs no backward of it in eval mode",
    "gru_cell": "paddle returns (h, h), torch h",
    "rnn_cell": "paddle returns (h, h), torch h",
    "attention": "torch computes out_proj inside the attention, so that only paddle records it as a layer",
    "prelu": "paddle's CPU kernel crashes in backward when the layer's input needs no gradient",
}
ABSENT = (
    (
        "AdaptiveLogSoftmaxWithLoss",
        "AdaptiveLogSoftmaxWithLoss",
        "not assigned: paddle keeps its tail weights in a list outside its parameters",
    ),
    ("SyncBatchNorm", "SyncBatchNorm", "assigned like BatchNorm; not run, for it needs several devices"),
)

RULES = {
    "identity": "as it is",
    "transpose": "[out, in] <-> [in, out]",
    "reshape": "[n] <-> [1, n], [a, b] <-> [a * b]",
    "split": "packed rows (q, k, v) -> one tensor each",
    "split_transpose": "packed rows (q, k, v) -> one transposed tensor each",
    "split_columns": "packed columns (q, k, v) -> one tensor each",
    "split_columns_transpose": "packed columns (q, k, v) -> one transposed tensor each",
    "pack": "one tensor each (q, k, v) -> packed rows",
    "transpose_pack": "one tensor each (q, k, v) -> transposed and packed rows",
    "pack_columns": "one tensor each (q, k, v) -> packed columns",
    "transpose_pack_columns": "one tensor each (q, k, v) -> transposed and packed columns",
}
"""The layout rules in a few words, for the line below the table."""


@dataclass(frozen=True)
class Ran:
    """What the runs gave: in train mode with backward and an SGD step, and forward alone in eval mode."""

    matching: Matching
    train: Result
    evaluation: Result
    classes: dict[str, tuple[str, str]]
    versions: tuple[str, str]


def start(framework: str, factory: str) -> RemoteModel:
    spec = f"{framework}@{ROOT / 'tests' / 'models' / f'layers_{framework}.py'}:{factory}"
    return launch(spec, python=ROOT / ".venvs" / framework / "bin" / "python")


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    generator = np.random.default_rng(7)
    shapes = {
        "rows": (4, 8),
        "sequence": (3, 5, 8),
        "signal": (2, 8, 9),
        "image": (2, 8, 7, 7),
        "volume": (2, 8, 5, 5, 5),
        "key": (3, 4, 5),
        "value": (3, 4, 6),
    }
    inputs = {
        name: Tensor.from_array(generator.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()
    }
    inputs["ids"] = Tensor.from_array(generator.integers(0, 20, (3, 5)))
    base, raw = start("torch", "build"), None
    try:
        raw = start("paddle", "build")
        described = base.describe(), raw.describe()
        sgd = parse_optimizer("SGD(lr=0.1)")
        training = AlignSettings(training=True, base_optimizer=sgd, raw_optimizer=sgd)
        yield Ran(
            matching=match_models(*described),
            train=align(base, raw, inputs, inputs, training),
            evaluation=align(base, raw, inputs, inputs, AlignSettings(training=False, diff_phase="forward")),
            classes={
                route: (described[0].layer(route).class_name, described[1].layer(route).class_name)
                for route in described[0].layer("").children
            },
            versions=(base.info().framework_version, raw.info().framework_version),
        )
    finally:
        base.close()
        if raw is not None:
            raw.close()


def test_every_layer_is_paired_and_nothing_that_matters_is_left(ran: Ran) -> None:
    paired = {pair.base: pair.raw for pair in ran.matching.layers}
    assert {name: paired.get(name) for name in ran.classes} == {name: name for name in ran.classes}
    unmatched = (*ran.matching.unmatched_base, *ran.matching.unmatched_raw)
    assert [entry.name for entry in unmatched if entry.fails] == []
    assert ran.matching.notes == ()


def test_what_differs_is_explained_and_all_else_is_aligned(ran: Ran) -> None:
    results = (ran.train, ran.evaluation)
    differing = {name for name in ran.classes for result in results if "differs" in statuses(result, name).values()}
    assert differing == set(EXPLAINED)


def test_every_layer_was_compared_in_every_stage(ran: Ran) -> None:
    for name in ran.classes:
        assert set(statuses(ran.train, name)) >= {"weights_before", "forward", "backward", "grads", "weights"}, name
        assert set(statuses(ran.evaluation, name)) >= {"weights_before", "forward"}, name


def test_adaptive_log_softmax_of_paddle_hides_its_tail_weights() -> None:
    base, raw = start("torch", "build_adaptive"), None
    try:
        raw = start("paddle", "build_adaptive")
        matching = match_models(base.describe(), raw.describe())
        with pytest.raises(PadiffError) as caught:
            assign_weights(base, raw, matching)
        assert caught.value.reason is Reason.MODELS_DO_NOT_MATCH
        assert {info.name for info in raw.describe().parameters} == {"loss.head_weight", "loss.head_bias"}
    finally:
        base.close()
        if raw is not None:
            raw.close()


def test_the_table_in_docs_is_what_the_runs_gave(ran: Ran) -> None:
    table = render(ran)
    if os.environ.get("PADIFF_REFRESH_DOCS"):
        TABLE.write_text(table, encoding="utf-8")
    written = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    assert written == table, f"docs/layers.md is stale; refresh it with: {REFRESH}"


def statuses(result: Result, layer: str) -> dict[str, str]:
    """Return stage -> "aligned" or "differs", of everything at and below a layer; stages that compared nothing are absent."""
    found: dict[str, str] = {}
    for pair in result.pairs:
        if pair.status == "skipped" or not f"{pair.base_route}.".startswith(f"{layer}."):
            continue
        if pair.status == "fail" or pair.stage not in found:
            found[pair.stage] = "differs" if pair.status == "fail" else "aligned"
    return found


def render(ran: Ran) -> str:
    torch, paddle = ran.versions
    lines = [
        "# Layers that torch and paddle both have",
        "",
        f"Written by `tests/e2e/test_layers_table.py` from a run with torch {torch} and paddle {paddle}, float32 on the CPU:",
        "torch's weights are assigned to paddle, both run on the same inputs, and every stage is compared. *Train* is train",
        "mode without dropout, *eval* is eval mode; *backward* means the gradients of activations and of parameters;",
        "*step* the parameters and buffers after one step of SGD.",
        "",
        "| torch | paddle | parameters, torch to paddle | assigned | train | eval | backward | step | remark |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (base_class, raw_class) in ran.classes.items():
        train, evaluation = statuses(ran.train, name), statuses(ran.evaluation, name)
        cells = [
            base_class,
            raw_class,
            describe_links([link for link in ran.matching.links if f"{link.base_route}.".startswith(f"{name}.")], name),
            "yes" if train["weights_before"] == "aligned" else "no",
            train["forward"],
            evaluation["forward"],
            together(train, "backward", "grads"),
            together(train, "weights", "buffers"),
            "; ".join(text for text in (variant(name), EXPLAINED.get(name, REMARKS.get(name, ""))) if text),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {base} | {raw} |  | | | | | | {why} |" for base, raw, why in ABSENT]
    rules = sorted({link.rule for link in ran.matching.links} - {"identity"})
    lines += ["", "The rules: " + "; ".join(f"*{rule}* is {RULES[rule]}" for rule in rules) + "."]
    return "\n".join(lines) + "\n"


def variant(name: str) -> str:
    """Say what sets apart a layer that stands in the table more than once."""
    return {
        "linear_square": "square weight",
        "linear_without_bias": "without bias",
        "layer_norm_2d": "over two dimensions",
        "prelu_per_channel": "one slope per channel",
        "lstm_deep_bidirectional": "two layers, bidirectional",
        "gru_deep_bidirectional": "two layers, bidirectional",
        "rnn_deep_bidirectional": "two layers, bidirectional",
        "attention_other_sizes": "with kdim and vdim",
        "weight_norm": "under weight_norm",
        "spectral_norm": "under spectral_norm",
        "weight_norm_parametrized": "under torch's parametrizations.weight_norm, paddle's weight_norm over the same axis",
        "spectral_norm_parametrized": "under torch's parametrizations.spectral_norm",
    }.get(name, "")


def together(found: dict[str, str], *stages: str) -> str:
    values = {found[stage] for stage in stages if stage in found}
    return "differs" if "differs" in values else "aligned" if values else "not compared"


def describe_links(links: list[ParameterLink], layer: str) -> str:
    if len(links) > 6:
        counts = [f"{sum(link.rule == rule for link in links)} {rule}" for rule in RULES]
        return f"{len(links)} tensors: " + ", ".join(count for count in counts if not count.startswith("0 "))
    return ", ".join(describe_link(link, layer) for link in links)


def describe_link(link: ParameterLink, layer: str) -> str:
    base, raw = (" + ".join(name.removeprefix(f"{layer}.") for name in names) for names in (link.base, link.raw))
    text = base if base == raw else f"{base} → {raw}"
    return text if link.rule == "identity" else f"{text} ({link.rule})"
