"""create_model: a proxy around one model that records its runs and dumps them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from padiff_rpc.compare.rules import one_of
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.dump_folders import ProxyFolder
from padiff_rpc.interface.lists import LayerLists, ListMode
from padiff_rpc.interface.messages import log
from padiff_rpc.interface.places import as_path
from padiff_rpc.interface.proxy_host import DistantHost, LocalHost, ProxyHost, is_model
from padiff_rpc.interface.ranks import current_rank
from padiff_rpc.interface.switches import api_check, skip_wrap_layers
from padiff_rpc.match.scope import wrap_layers
from padiff_rpc.match.special_init import auto_layer_map
from padiff_rpc.model.model import ModelDescription, RecordOptions
from padiff_rpc.model.selection import Selection
from padiff_rpc.tape.header import Header
from padiff_rpc.tape.tensor_files import DumpFolder
from padiff_rpc.tape.write_params import write_grads, write_params, write_weights
from padiff_rpc.tape.write_report import write_report
from padiff_rpc.tape.writing import writing
from padiff_rpc.tensors.tensor import TensorStream

_ELSEWHERE = "choose a folder that can be written to and has room, with set_dump_root_path() or the dump's own path"


def create_model(model: Any, name: str | None = None, dump_freq: int = 1) -> ProxyModel:
    """Return a proxy of a torch.nn.Module, a paddle.nn.Layer, or a model that launch() or connect() gave.

    name: its folder's name below get_dump_root_path(); its class's by default, with a number where another living proxy
    has that one. dump_freq: only every so many steps, as try_dump() counts them, are recorded; the others run bare. A
    proxy is returned as it is. BAD_CONFIG for a dump_freq below 1, a name that is no folder's, or what is no model.
    """
    if isinstance(model, ProxyModel):
        return model
    return ProxyModel(model, name, dump_freq)


class ProxyModel:
    """One model, its lists, and the report of its runs. `model` is the original; losses and optimisers stay the user's.

    In a worker's model layers are named by route (`encoder.layers.0`), glob or class name, inputs are keyword arguments,
    and a loss is given by name.
    """

    def __init__(self, model: Any, name: str | None, dump_freq: int) -> None:
        if isinstance(dump_freq, bool) or not isinstance(dump_freq, int) or dump_freq < 1:
            raise PadiffError(f"dump_freq is {dump_freq!r}, it must be 1 or more", reason=Reason.BAD_CONFIG)
        self.model = model
        self.dump_freq = dump_freq
        self._host: ProxyHost = DistantHost(model) if is_model(model) else LocalHost(model)
        description = self._host.model.describe()
        self.framework: str = description.framework
        self._folders = ProxyFolder(name, description.class_name)
        self.name: str = self._folders.name
        self._lists = LayerLists(description, self._host.route_of)
        self._step = 0

    # -- running ------------------------------------------------------------------------------------------------------
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run forward and return what the model returns; recorded in every dump_freq-th step."""
        return self._host.call(args, kwargs, self._record_options() if self._records_now else None)

    def backward(self, loss: Any) -> Any:
        """Run backward from a loss; recorded as the forward before it was."""
        return self._host.backward(loss)

    # -- which layers -------------------------------------------------------------------------------------------------
    def update_black_list(self, layers: Any, mode: ListMode = "all") -> None:
        """Leave layers out. layers: instances, routes or globs; mode: the layers ("self"), their "sublayers", or "all"."""
        self._lists.blacken(layers, mode)

    def update_white_list(self, layers: Any, mode: ListMode = "self") -> None:
        """Keep only these layers (and the model's own outputs); from then on the black list is without effect."""
        self._lists.whiten(layers, mode)

    def update_black_list_with_class(self, layer_class: type | str, mode: ListMode = "self") -> None:
        """Leave out every layer of a class, given itself or by name."""
        self._lists.blacken(self._lists.of_class(layer_class), mode)

    def update_white_list_with_class(self, layer_class: type | str, mode: ListMode = "self") -> None:
        """Keep only the layers of a class, given itself or by name."""
        self._lists.whiten(self._lists.of_class(layer_class), mode)

    def set_layer_map(self, layers: Any) -> None:
        """Say which layers correspond, in order, to those of the other model's map; their sublayers are left out."""
        self._lists.map(layers)

    def auto_layer_map(self, place: Literal["base", "raw"]) -> bool:
        """Map every layer that a special initialiser is known for; place: "base" or "raw". True where one was found."""
        one_of("place of auto_layer_map", place, ("base", "raw"))
        routes = auto_layer_map(self._description(), place)
        for route in routes:
            log(f"{place} model {self.name}: {route!r} is added to the layer map")
        self._lists.map(routes)
        return bool(routes)

    @property
    def layer_map(self) -> tuple[str, ...]:
        """The routes of the mapped layers, in order."""
        return self._lists.layer_map

    def selection(self) -> Selection:
        """Return which layers are left out of recording, dumps and comparison, and why."""
        selection = self._lists.selection()
        if not skip_wrap_layers():
            return selection
        mapped = set(self._lists.layer_map)
        wraps = {route: why for route, why in wrap_layers(self._description()).left_out.items() if route not in mapped}
        return Selection({**wraps, **selection.left_out})

    # -- dumps --------------------------------------------------------------------------------------------------------
    def try_dump(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """End a step: dump report and parameters if it is one of every dump_freq, clear the report, count on.

        dump_path: the very folder to dump to; by default step_N/rank_R below the model's own.
        """
        if self._records_now:
            self._dump_step(dump_path)
        self.clear_report()
        self._step += 1

    def dump_report(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write report.json and its tensors: what the layers took and returned, and the gradients, since the last clear."""
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            self._write_report(DumpFolder.of(folder))

    def dump_params(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write params.json: the parameters' values and gradients, and the buffers."""
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            write_params(folder, *self._held(), self._values, self._gradients)

    def dump_weights(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write weights.json: the parameters' values and the buffers."""
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            write_weights(folder, *self._held(), self._values)

    def dump_grads(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write grads.json: the parameters' gradients."""
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            write_grads(folder, *self._held(), self._gradients)

    def clear_report(self) -> None:
        """Forget what was recorded so far."""
        self._host.forget()

    def _dump_step(self, dump_path: str | os.PathLike[str] | None) -> None:
        """Dump report and parameters. By default the step's folder appears whole, or not at all."""
        final = self._folder(dump_path)
        if dump_path is not None or final.exists():  # the user's own folder, or one that single dumps went to before
            self.dump_params(final)
            self.dump_report(final)
            return
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        into = DumpFolder(partial, str(final))
        with writing("a dump", final, _ELSEWHERE):
            write_params(into, *self._held(), self._values, self._gradients)
            self._write_report(into)
            partial.replace(final)

    @property
    def _records_now(self) -> bool:
        return self._step % self.dump_freq == 0

    def _record_options(self) -> RecordOptions:
        selection = self.selection()
        routes = tuple(layer.route for layer in self._description().layers if selection.keeps(layer.route))
        return RecordOptions(routes=routes, api_calls=api_check())

    def _description(self) -> ModelDescription:
        return self._host.model.describe()

    def _header(self) -> Header:
        info = self._host.model.info()
        return Header(self.name, self.framework, self.layer_map, device=info.device, info=info)

    def _held(self) -> tuple[Header, ModelDescription, Selection]:
        return self._header(), self._description(), self.selection()

    def _write_report(self, into: DumpFolder) -> None:
        runs, read = self._host.runs(), self._host.read_activations
        write_report(into, self._header(), self._description(), runs, read, selection=self.selection())

    def _values(self, names: Sequence[str]) -> Iterator[TensorStream]:
        return self._host.model.read_parameters(names, "value")

    def _gradients(self, names: Sequence[str]) -> Iterator[TensorStream]:
        return self._host.model.read_parameters(names, "gradient")

    def _folder(self, dump_path: str | os.PathLike[str] | None) -> Path:
        if dump_path is not None:
            return as_path(dump_path)
        return self._folders.of_step(self._step, current_rank(self.framework))
