"""A model's own class states how another library's checkpoint becomes the model's; what it cannot state is an error."""

from __future__ import annotations

from typing import Any

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.numpy_framework import nn

STATEMENTS = ["model.w^T -> w", "model.b -> b"]


class Stated(nn.Linear):
    """A Linear whose class states what its configuration holds."""

    def __init__(self, answer: Any) -> None:
        super().__init__(2, 3)
        self.config = answer

    @classmethod
    def _gen_aoa_config(cls, config: Any) -> Any:
        if isinstance(config, Exception):
            raise config
        return config


def test_the_statements_are_those_of_the_class_for_the_models_configuration() -> None:
    assert tuple(STATEMENTS) == HostedModel(Stated({"aoa_statements": STATEMENTS})).checkpoint_statements()


def test_a_class_without_statements_has_none() -> None:
    assert () == HostedModel(nn.Linear(2, 3)).checkpoint_statements()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (KeyError("num_experts"), "Stated._gen_aoa_config raised: KeyError: 'num_experts'"),
        ({"statements": STATEMENTS}, "returned no list of AOA statements"),
        ({"aoa_statements": [print]}, "returned no list of AOA statements"),
        ({"aoa_statements": STATEMENTS, "aoa_config_reverse": True}, "lead away from the model"),
    ],
)
def test_a_class_that_cannot_state_them_fails(answer: Any, why: str) -> None:
    with pytest.raises(PadiffError) as caught:
        HostedModel(Stated(answer)).checkpoint_statements()

    assert caught.value.reason is Reason.MODEL_FAILED
    assert why in caught.value.message
