"""The factory of mutated models: `FRAMEWORK@benchmarks/mutations/mutated.py:build`, run in the repository's root."""

from __future__ import annotations

from typing import Any

from benchmarks.mutations.apply import Fired, apply
from benchmarks.mutations.frameworks import framework_of
from benchmarks.mutations.mutation import Mutation
from padiff_rpc.model.hosting.factory import load_function

SPEC_PLACE = "benchmarks/mutations/mutated.py:build"


def build(framework: str, place: str, model_args: dict[str, Any], mutation: dict[str, Any]) -> Any:
    """Build the model that `place` names, and mutate it."""
    return build_counted(framework, place, model_args, mutation)[0]


def build_counted(
    framework: str, place: str, model_args: dict[str, Any], mutation: dict[str, Any]
) -> tuple[Any, Fired]:
    """Build it as build() does, and return the count of the mutation's effects as well."""
    model = load_function(place)(**model_args)
    return model, apply(framework_of(framework), model, Mutation(**mutation))
