"""Which further abilities the models have: what an alignment asks of them beside the Model seam."""

from __future__ import annotations

from padiff_rpc.model.model import Native, Stating, Storing, TakingGradients, Transporting
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tape.recorded_model import RecordedModel
from tests.align.pairs import hosted


def test_a_hosted_model_hands_out_its_own_objects_and_tells_of_its_store() -> None:
    model = hosted("mlp")
    abilities = (Native, Storing, Stating, TakingGradients, Transporting)
    assert (True, True, True, True, False) == tuple(isinstance(model, ability) for ability in abilities)


def test_a_remote_model_tells_of_its_store_and_of_its_transport() -> None:
    assert issubclass(RemoteModel, Storing)
    assert issubclass(RemoteModel, Stating)
    assert issubclass(RemoteModel, TakingGradients)
    assert isinstance(RemoteModel.transport, property)
    assert not hasattr(RemoteModel, "native_layer")


def test_a_dump_has_none_of_these_abilities() -> None:
    names = ("native_layer", "memory", "store_figures", "checkpoint_statements", "write_gradients", "transport")
    assert [] == [name for name in names if hasattr(RecordedModel, name)]
