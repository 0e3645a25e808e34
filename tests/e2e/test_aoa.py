"""AOA statements that are written load, through Paddle's own engine, the weights that an assignment writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.align.assign.in_raw_layout import in_raw_layout
from padiff_rpc.match.aoa.read_statements import read_statements
from padiff_rpc.match.aoa.write_statements import write_statements
from padiff_rpc.match.layer_map import Matching, ParameterLink
from padiff_rpc.model.model import ModelDescription, ParameterInfo
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec
from tests.e2e.workers import python_of

pytestmark = pytest.mark.e2e

BASE = {
    "norm.weight": (6,),
    "out.weight": (6, 8),
    "q.weight": (8, 6),
    "k.weight": (4, 6),
    "v.weight": (4, 6),
    "q.bias": (8,),
    "k.bias": (4,),
    "v.bias": (4,),
    "gate.weight": (10, 6),
    "up.weight": (10, 6),
    "packed.weight": (16, 6),
    "grouped.weight": (16, 6),
    "heads.weight": (12, 6),
    "kv.weight": (6, 8),
    "one": (3,),
    "two": (3,),
    "embed": (7, 6),
    "narrow.weight": (4, 6),
    "experts": (2, 3, 4),
    "half_experts": (2, 3, 4),
    "unused": (2,),
}
RAW = {
    "norm.weight": (6,),
    "out.weight": (8, 6),
    "qkv.weight": (6, 16),
    "qkv.bias": (16,),
    "up_gate.weight": (6, 20),
    "a.weight": (6, 8),
    "b.weight": (6, 4),
    "c.weight": (6, 4),
    "g.a.weight": (6, 8),
    "g.b.weight": (6, 4),
    "g.c.weight": (6, 4),
    "x.weight": (6, 6),
    "y.weight": (6, 6),
    "mixed_kv.weight": (12, 8),
    "two": (3,),
    "one": (3,),
    "embed": (7, 6),
    "head": (6, 7),
    "narrow.weight": (6, 4),
    "experts": (2, 4, 3),
    "half_experts": (2, 4, 3),
    "own": (2,),
}
LINKS = [
    (("norm.weight",), ("norm.weight",), "identity"),
    (("out.weight",), ("out.weight",), "transpose"),
    (("q.weight", "k.weight", "v.weight"), ("qkv.weight",), "transpose_pack_columns@2"),
    (("q.bias", "k.bias", "v.bias"), ("qkv.bias",), "pack@2"),
    (("up.weight", "gate.weight"), ("up_gate.weight",), "transpose_pack_columns"),
    (("packed.weight",), ("a.weight", "b.weight", "c.weight"), "split_transpose"),
    (("grouped.weight",), ("g.a.weight", "g.b.weight", "g.c.weight"), "split_transpose@2"),
    (("heads.weight",), ("x.weight", "y.weight"), "split_transpose@3"),
    (("kv.weight", "kv2.weight"), ("mixed_kv.weight",), "pack@2"),
    (("one",), ("two",), "identity"),
    (("two",), ("one",), "identity"),
    (("embed",), ("embed",), "identity"),
    (("embed",), ("head",), "transpose"),
    (("narrow.weight",), ("narrow.weight",), "transpose"),
    (("experts",), ("experts",), "swap_last"),
    (("half_experts",), ("half_experts",), "swap_last"),
]
HALF = {"narrow.weight", "half_experts"}
"""What raw holds in float16."""


def described(framework: str, shapes: dict[str, tuple[int, ...]]) -> ModelDescription:
    halves = HALF if framework == "paddle" else set()
    infos = (
        ParameterInfo(name, "parameter", TensorSpec(DType.F16 if name in halves else DType.F32, shape), True)
        for name, shape in shapes.items()
    )
    return ModelDescription(framework, "Net", (), tuple(infos))


def test_paddles_engine_loads_what_an_assignment_writes(tmp_path: Path) -> None:
    shapes = {**BASE, "kv2.weight": (6, 8)}
    models = PerSide(described("torch", shapes), described("paddle", RAW))
    links = [ParameterLink("", "", base, raw, rule, "parameter") for base, raw, rule in LINKS]
    written = write_statements(Matching((), tuple(links), (), ()), models)
    random = np.random.RandomState(0)
    base = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    loaded = through_paddle(tmp_path, written.statements, base)

    assert written.unsaid == {}
    specs = models.map(lambda model: {info.name: info.spec for info in model.parameters})
    for link in links:
        tensors = [Tensor.from_array(base[name]) for name in link.base]
        for name, tensor in in_raw_layout(link, tensors, [specs.raw[name] for name in link.raw]):
            np.testing.assert_array_equal(loaded[name], tensor.to_array().astype(loaded[name].dtype), err_msg=name)
    assert np.isnan(loaded["own"]).all()


def test_statements_as_paddle_writes_them_are_read_as_its_engine_reads_them(tmp_path: Path) -> None:
    statements = [
        "q.weight^T, k.weight^T, v.weight^T -> qkv.weight, fused_qkv, num_heads=4, num_key_value_groups=2",
        "q.bias, k.bias, v.bias -> qkv.bias, fused_qkv_old, num_heads=4, num_key_value_groups=2, axis=0",
        "gate.weight^T, up.weight^T -> up_gate.weight, fused_ffn",
        'out.weight -> t, permute="[1, 0]"',
        "t -> out.weight",
    ]
    models = PerSide(described("torch", BASE), described("paddle", RAW))
    specs = models.map(lambda model: {info.name: info.spec for info in model.parameters})
    random = np.random.RandomState(0)
    base = {name: random.standard_normal(shape).astype(np.float32) for name, shape in BASE.items()}
    made = {"qkv.weight", "qkv.bias", "up_gate.weight", "out.weight"}

    loaded = through_paddle(tmp_path, [*statements, *(f"_ -> {name}" for name in RAW if name not in made)], base)

    entries, notes = read_statements(statements, specs)
    assert (notes, {name for entry in entries for name in entry.raw}) == ([], made)
    for entry in entries:
        link = ParameterLink("", "", entry.base, entry.raw, entry.rule, "parameter")
        tensors = [Tensor.from_array(base[name]) for name in entry.base]
        ((name, tensor),) = in_raw_layout(link, tensors, [specs.raw[name] for name in entry.raw])
        np.testing.assert_array_equal(loaded[name], tensor.to_array(), err_msg=name)


def through_paddle(folder: Path, statements: list[str], base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return raw's tensors as Paddle's engine makes them of base's."""
    raw = {name: (shape, "float16" if name in HALF else "float32") for name, shape in RAW.items()}
    (folder / "job.json").write_text(json.dumps({"statements": statements, "raw": raw}))
    np.savez(folder / "base.npz", **base)
    script = Path(__file__).with_name("aoa_engine.py")
    files = [folder / name for name in ("job.json", "base.npz", "raw.npz")]
    ran = subprocess.run([python_of("paddle"), script, *files], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return dict(np.load(folder / "raw.npz"))
