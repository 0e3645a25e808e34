"""Put a proxy around one model that records its runs and dumps them: create_model."""

from __future__ import annotations

import functools
import inspect
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
from padiff_rpc.tape.write_report import Run, write_report
from padiff_rpc.tape.writing import writing
from padiff_rpc.tensors.tensor import TensorStream

_ELSEWHERE = "choose a folder that can be written to and has room, with set_dump_root_path() or the dump's own path"


def create_model(model: Any, name: str | None = None, dump_freq: int = 1) -> ProxyModel:
    """Return a proxy of a model, which runs it, records its runs and dumps them.

    Args:
        model: a torch.nn.Module, a paddle.nn.Layer, or a model that launch() or connect() returned. A proxy is returned as it is.
        name: the name of the model and of its folder below get_dump_root_path(). By default it is the name of the model's class,
            with a number if another living proxy has that name.
        dump_freq: n to record every n-th step, as try_dump() counts them, beginning with the first. The other steps run without
            being recorded.

    Raises:
        PadiffError: BAD_CONFIG if dump_freq is below 1, if no folder can have the name, or if `model` is no model.
    """
    if isinstance(model, ProxyModel):
        return model
    return ProxyModel(model, name, dump_freq)


class ProxyModel:
    """A model with its lists of layers, the records of its runs and the means to dump them. create_model() makes it.

    All else is asked of the model itself: `proxy.parameters()`, `proxy.eval()`. Losses and optimisers stay the user's. Layers are
    given as objects, or by route (`encoder.layers.0`) or glob. If the model lives in another process, layers are given by route
    or glob only, inputs as arrays, and a loss by name, and there is no object of it here to ask.

    Attributes:
        model: the original model.
        name: the name of the model in dumps and messages, and of its folder.
        framework: "torch", "paddle" or "numpy".
        dump_freq: n if every n-th step is recorded.
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
        """Run forward and return what the model returns; record the run if this step is one of every dump_freq.

        A model in another process is sent arrays, and tensors of any framework as arrays. It returns an array, or a dict of
        arrays by name if there are several outputs.

        Raises:
            PadiffError: BAD_INPUTS for inputs that a model in another process cannot take; else as the worker raises it.
        """
        return self._host.call(args, kwargs, self._record_options() if self._records_now else None)

    def backward(self, loss: Any) -> Any:
        """Run backward from a loss, and record it if the forward before it was recorded.

        Args:
            loss: the loss, a tensor of the model's framework. For a model in another process it is a name ("mean", or one that
                the worker offers) or a LossSpec.

        Returns:
            None, or for a model in another process the loss as a number.

        Raises:
            PadiffError: BAD_CONFIG for a loss of another kind; else as the model raises it.
        """
        return self._host.backward(loss)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the model: `parameters`, `state_dict`, `train`, `to`, `sublayers`, a layer, ...

        A method that returns the model itself (torch's `train()`) returns the proxy here.

        Raises:
            AttributeError: the model has none of that name, or lives in another process; it says what to use there.
        """
        if name.startswith("__") or "_host" not in self.__dict__:  # asked by copy and pickle, before there is a model
            raise AttributeError(f"a ProxyModel has no {name!r}")
        value = self._host.attribute(name)
        if not inspect.ismethod(value) or value.__self__ is not self.model:
            return value

        @functools.wraps(value)
        def method(*args: Any, **kwargs: Any) -> Any:
            returned = value(*args, **kwargs)
            return self if returned is self.model else returned

        return method

    # -- which layers -------------------------------------------------------------------------------------------------
    def update_black_list(self, layers: Any, mode: ListMode = "all") -> None:
        """Leave layers out of recording, dumps and comparison.

        Args:
            layers: layers of the model, as objects, routes or globs; one or a list.
            mode: what to leave out: the layers "self", their "sublayers", or "all" of these.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model; BAD_CONFIG for another mode.
        """
        self._lists.blacken(layers, mode)

    def update_white_list(self, layers: Any, mode: ListMode = "self") -> None:
        """Record, dump and compare only these layers, those given before, and the model itself.

        From then on the black list has no effect.

        Args:
            layers: layers of the model, as objects, routes or globs; one or a list.
            mode: what to keep: the layers "self", their "sublayers", or "all" of these.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model; BAD_CONFIG for another mode.
        """
        self._lists.whiten(layers, mode)

    def update_black_list_with_class(self, layer_class: type | str, mode: ListMode = "self") -> None:
        """Leave out every layer of a class.

        Args:
            layer_class: the class itself, whose subclasses count too, or its name ("Linear"), with or without its module.
            mode: what to leave out: the layers "self", their "sublayers", or "all" of these.

        Raises:
            PadiffError: UNKNOWN_NAME if the model has no such layer; BAD_CONFIG for what is no class or name, or another mode.
        """
        self._lists.blacken(self._lists.of_class(layer_class), mode)

    def update_white_list_with_class(self, layer_class: type | str, mode: ListMode = "self") -> None:
        """Record, dump and compare only the layers of a class, those given before, and the model itself.

        Args:
            layer_class: the class itself, whose subclasses count too, or its name ("Linear"), with or without its module.
            mode: what to keep: the layers "self", their "sublayers", or "all" of these.

        Raises:
            PadiffError: UNKNOWN_NAME if the model has no such layer; BAD_CONFIG for what is no class or name, or another mode.
        """
        self._lists.whiten(self._lists.of_class(layer_class), mode)

    def set_layer_map(self, layers: Any) -> None:
        """Set the layer map: these layers correspond, in order, to the layers of the other model's map.

        Their sublayers are left out of recording, dumps and comparison.

        Args:
            layers: layers of the model, as objects, routes or globs; one or a list. They replace the map that was set before.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model; BAD_CONFIG for a layer that is given twice.
        """
        self._lists.map(layers)

    def auto_layer_map(self, place: Literal["base", "raw"]) -> bool:
        """Set the layer map to the outermost layers for whose class a special initialiser is known; print each of them.

        Args:
            place: the side that this model will be on, "base" or "raw".

        Returns:
            True if there is such a layer.

        Raises:
            PadiffError: BAD_CONFIG for another place.
        """
        one_of("place of auto_layer_map", place, ("base", "raw"))
        routes = auto_layer_map(self._description(), place)
        for route in routes:
            log(f"{place} model {self.name}: {route!r} is added to the layer map")
        self._lists.map(routes)
        return bool(routes)

    @property
    def layer_map(self) -> tuple[str, ...]:
        """The routes of the layers in the layer map, in the order in which they were given."""
        return self._lists.layer_map

    def selection(self) -> Selection:
        """Return which layers are left out of recording, dumps and comparison, and why.

        They are left out by the lists, as sublayers of the layer map's layers, or by PADIFF_SIKP_WRAP_LAYER.
        """
        selection = self._lists.selection()
        if not skip_wrap_layers():
            return selection
        mapped = set(self._lists.layer_map)
        wraps = {route: why for route, why in wrap_layers(self._description()).left_out.items() if route not in mapped}
        return Selection({**wraps, **selection.left_out})

    # -- dumps --------------------------------------------------------------------------------------------------------
    def try_dump(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """End a step: dump report and parameters if this step is one of every dump_freq, and forget what was recorded.

        Args:
            dump_path: the folder to dump to. By default it is NAME/step_N/rank_R below get_dump_root_path(), and appears whole or
                not at all.

        Raises:
            PadiffError: BAD_CONFIG if the folder cannot be written, or another living model dumps there.
        """
        if self._records_now:
            self._dump_step(dump_path)
        self.clear_report()
        self._step += 1

    def dump_report(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write report.json and its tensors: the inputs, outputs and gradients of layers, recorded since clear_report().

        Args:
            dump_path: the folder to dump to, by default as for try_dump().

        Raises:
            PadiffError: BAD_CONFIG if the folder cannot be written, or another living model dumps there.
        """
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            self._write_report(DumpFolder.of(folder))

    def dump_params(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write params.json and its tensors: the values and gradients of the parameters, and the buffers.

        Args:
            dump_path: the folder to dump to, by default as for try_dump().

        Raises:
            PadiffError: BAD_CONFIG if the folder cannot be written, or another living model dumps there.
        """
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            write_params(folder, *self._head(), self._values, self._gradients)

    def dump_weights(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write weights.json and its tensors: the values of the parameters, and the buffers.

        Args:
            dump_path: the folder to dump to, by default as for try_dump().

        Raises:
            PadiffError: BAD_CONFIG if the folder cannot be written, or another living model dumps there.
        """
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            write_weights(folder, *self._head(), self._values)

    def dump_grads(self, dump_path: str | os.PathLike[str] | None = None) -> None:
        """Write grads.json and its tensors: the gradients of the parameters.

        Args:
            dump_path: the folder to dump to, by default as for try_dump().

        Raises:
            PadiffError: BAD_CONFIG if the folder cannot be written, or another living model dumps there.
        """
        folder = self._folder(dump_path)
        with writing("a dump", folder, _ELSEWHERE):
            write_grads(folder, *self._head(), self._gradients)

    @property
    def dump_path(self) -> str:
        """The folder of this model's dumps, below get_dump_root_path() as it is now: `step_N/rank_R` lie in it."""
        return str(self._folders.folder)

    @property
    def report(self) -> tuple[Run, ...]:
        """What was recorded since clear_report(): one Run for each forward, with the backward after it."""
        return tuple(self._host.runs())

    def clear_report(self) -> None:
        """Forget all forwards and backwards that were recorded so far."""
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
            write_params(into, *self._head(), self._values, self._gradients)
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

    def _head(self) -> tuple[Header, ModelDescription, Selection]:
        """Return what each dump of parameters begins with."""
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
