"""Recording changes no bit of outputs, gradients and buffers, in every backend; and where it does, the verification tells."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.align.run.verify_probe import verify_probe
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.model.model import RecordOptions
from tests.contract.conftest import MODELS, Kit


@pytest.mark.parametrize("api_calls", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_recording_changes_no_bit(kit: Kit, name: str, api_calls: bool) -> None:
    model = kit.build(name)
    ids = np.arange(10, dtype=np.int64).reshape(2, 5)
    floats = np.random.RandomState(0).standard_normal((5, 4)).astype(np.float32)
    inputs = as_inputs({"ids": ids} if name == "embedding" else {"x": floats})
    host = HostedModel(model, kit.backend)
    trains = any(info.trainable and info.kind == "parameter" for info in host.describe().parameters)
    loss = parse_loss("projection") if trains else None
    finding = verify_probe(host, inputs, loss=loss, options=RecordOptions(gradients=trains, api_calls=api_calls))
    assert ((), ()) == (finding.disturbed, finding.unsteady)
    assert finding.proved
