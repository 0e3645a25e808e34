"""Matching of layers that keep a weight in parts: torch's parametrizations against the hooks of torch and paddle."""

from __future__ import annotations

import pytest

from padiff_rpc.match.match import match_models
from tests.match.descriptions import L, describe, failing, links, match, net, routes, torch_linear

Shapes = dict[str, tuple[int, ...]]


def parametrised(kind: str, own: Shapes, kept: Shapes, *steps: L) -> L:
    """Return a layer as torch leaves it whose weight is parametrised by these steps; `kept` is what stands for the weight."""
    originals = L("ParametrizationList", kept, {str(at): step for at, step in enumerate(steps)})
    inside = {"parametrizations": L("ModuleDict", children={"weight": originals})}
    return L(f"Parametrized{kind}", own, inside, module="torch.nn.utils.parametrize")


def step(kind: str, **buffers: tuple[int, ...]) -> L:
    return L(kind, buffers=buffers, module="torch.nn.utils.parametrizations")


def new_linear(width: int = 5) -> L:
    return parametrised(
        "Linear", {"bias": (width,)}, {"original0": (width, 1), "original1": (width, 6)}, step("_WeightNorm")
    )


@pytest.mark.parametrize("width", [6, 5])
def test_a_parametrised_weight_norm_is_the_hooks(width: int) -> None:
    paddle = L("Linear", {"bias": (width,), "weight_g": (width,), "weight_v": (6, width)})
    found = match(net(fc=new_linear(width), out=torch_linear(4, 4)), net(fc=paddle, out=torch_linear(4, 4)))
    assert {
        "fc.parametrizations.weight.original0": ("fc.weight_g", "reshape"),
        "fc.parametrizations.weight.original1": ("fc.weight_v", "transpose"),
        "fc.bias": ("fc.bias", "identity"),
    }.items() <= links(found).items()
    assert not failing(found.unmatched_base) + failing(found.unmatched_raw)
    (alone,) = (entry for entry in found.unmatched_base if entry.name == "fc.parametrizations")
    assert "computes weight by _WeightNorm at every forward; raw has no layer for that" == alone.why
    assert {"fc": "fc", "out": "out"}.items() <= routes(found).items()


def test_a_parametrised_layer_is_found_under_another_name() -> None:
    convolution = parametrised(
        "Conv1d", {"bias": (6,)}, {"original0": (6, 1, 1), "original1": (6, 4, 3)}, step("_WeightNorm")
    )
    paddle = L("Conv1D", {"bias": (6,), "weight_g": (6,), "weight_v": (6, 4, 3)})
    found = match(net(fc=torch_linear(4, 4), one=convolution), net(fc=torch_linear(4, 4), other=paddle))
    assert ("other.weight_v", "identity") == links(found)["one.parametrizations.weight.original1"]
    assert ("other.weight_g", "reshape") == links(found)["one.parametrizations.weight.original0"]


def test_both_weight_norms_of_torch_are_one() -> None:
    old = L("Linear", {"bias": (5,), "weight_g": (5, 1), "weight_v": (5, 6)})
    found = match_models(describe("torch", net(fc=new_linear())), describe("torch", net(fc=old)))
    assert {"identity"} == {rule for _, rule in links(found).values()}
    assert 3 == len(found.links)
    same = describe("torch", net(fc=new_linear()))
    inside = {"fc.parametrizations", "fc.parametrizations.weight", "fc.parametrizations.weight.0"}
    assert inside <= set(routes(match_models(same, same)))


def test_a_parametrised_spectral_norm_is_the_hooks() -> None:
    new = parametrised("Linear", {"bias": (5,)}, {"original": (5, 6)}, step("_SpectralNorm", _u=(5,), _v=(6,)))
    paddle = L("Linear", {"bias": (5,), "weight_orig": (6, 5)}, buffers={"weight_u": (5,), "weight_v": (6,)})
    assert links(match(net(fc=new), net(fc=paddle))) == {
        "fc.parametrizations.weight.original": ("fc.weight_orig", "transpose"),
        "fc.parametrizations.weight.0._u": ("fc.weight_u", "identity"),
        "fc.parametrizations.weight.0._v": ("fc.weight_v", "identity"),
        "fc.bias": ("fc.bias", "identity"),
    }


def test_other_parametrizations_are_no_weight_norm() -> None:
    paddle = L("Linear", {"bias": (5,), "weight_g": (5,), "weight_v": (6, 5)})
    kept: Shapes = {"original0": (5, 1), "original1": (5, 6)}
    of_the_user = L("_WeightNorm", own_class=True)
    for steps in ([of_the_user], [step("_WeightNorm"), of_the_user]):
        found = match(net(fc=parametrised("Linear", {"bias": (5,)}, kept, *steps)), net(fc=paddle))
        assert failing(found.unmatched_base)


def test_a_parametrization_without_counterpart_is_told() -> None:
    orthogonal = parametrised("Linear", {"bias": (5,)}, {"original": (5, 6)}, step("_Orthogonal", base=(6, 6)))
    found = match(net(fc=orthogonal), net(fc=L("Linear", {"weight": (6, 5), "bias": (5,)})))
    (alone,) = (entry for entry in found.unmatched_base if entry.fails)
    assert "fc.parametrizations" == alone.name
    assert ("fc.parametrizations.weight.original",) == alone.tensors
    assert alone.why.startswith("computes weight by _Orthogonal at every forward, from what raw has no counterpart of")
    assert ["fc.weight"] == failing(found.unmatched_raw)


@pytest.mark.parametrize("width", [6, 5])
def test_a_map_names_what_a_parametrised_layer_keeps(width: int) -> None:
    paddle = L("Linear", {"bias": (width,), "weight_g": (width,), "weight_v": (6, width)})
    names = {
        f"{old}.parametrizations.weight.original{at}": f"{new}.weight_{part}"
        for old, new in (("a", "b"), ("b", "a"))
        for at, part in enumerate("gv")
    }
    models = net(a=new_linear(width), b=new_linear(width)), net(a=paddle, b=paddle)
    found = match(*models, parameter_map=names)
    assert ("b.weight_v", "transpose") == links(found)["a.parametrizations.weight.original1"]
    assert ("a.weight_g", "reshape") == links(found)["b.parametrizations.weight.original0"]
    assert {"a": "b", "b": "a"}.items() <= routes(found).items()
