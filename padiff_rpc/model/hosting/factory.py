"""Load a model's factory, or any function that the user names, and call it; errors say clearly what went wrong."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.model.hosting.user_errors import user_error
from padiff_rpc.model.spec import ModelSpec, split_place


def load_factory(spec: ModelSpec) -> Callable[..., Any]:
    """Import the file or module of a factory SPEC and return its factory.

    Raises:
        PadiffError: BAD_SPEC where there is no such file, module or function. FACTORY_FAILED where the file raises when
            it is imported.
    """
    if spec.kind != "factory":
        raise PadiffError(f"the SPEC {spec.text!r} names no factory", reason=Reason.BAD_SPEC)
    return _load(spec.target, spec.factory, spec.text, spec.framework)


def load_function(place: str, framework: str = "") -> Callable[..., Any]:
    """Load a function that the user names, such as a loss that a worker offers.

    Args:
        place: `file.py:function` or `package.module:function`.
        framework: The framework whose frames are cut from an error's trace.

    Raises:
        PadiffError: BAD_SPEC and FACTORY_FAILED, as in load_factory().
    """
    target, function = split_place(place, place)
    return _load(target, function, place, framework)


def build_model(spec: ModelSpec, backend: Backend, model_args: Mapping[str, Any] | None = None) -> Any:
    """Call a SPEC's factory as `factory(**model_args)` and return its model.

    Raises:
        PadiffError: BAD_CONFIG for arguments that the factory does not take. FACTORY_FAILED where it raised (the
            trimmed trace is in metadata["traceback"]), or returned no model of this framework. BAD_SPEC as in
            load_factory().
    """
    factory = load_factory(spec)
    arguments = dict(model_args or {})
    _check_arguments(factory, arguments, spec)
    try:
        model = factory(**arguments)
    except (Exception, SystemExit) as err:  # SystemExit: a script's own argument parser must not end a worker
        raise user_error(
            f"the factory {spec.factory!r} of {spec.text!r} raised", err, backend.name, Reason.FACTORY_FAILED
        ) from err
    if not backend.is_model(model):
        kind = type(model)
        raise PadiffError(
            f"the factory {spec.factory!r} of {spec.text!r} returned a {kind.__module__}.{kind.__qualname__}, "
            f"not a {backend.name} model",
            reason=Reason.FACTORY_FAILED,
            hint=f"return the model itself, and name its framework in the SPEC (now {spec.framework}@)",
        )
    return model


def _load(target: str, name: str, text: str, framework: str) -> Callable[..., Any]:
    module = _import_file(target, text, framework) if target.endswith(".py") else _import(target, text, framework)
    value = getattr(module, name, None)
    if callable(value):
        return value
    offered = _callables(module)
    nearest = difflib.get_close_matches(name, offered, n=1)
    raise PadiffError(
        f"{text!r}: {target} has no function {name!r}",
        reason=Reason.BAD_SPEC,
        hint=(f"did you mean {nearest[0]!r}? " if nearest else "") + f"it has {', '.join(offered) or 'none at all'}",
    )


def _import_file(target: str, text: str, framework: str) -> ModuleType:
    path = Path(target).expanduser().resolve()
    if not path.is_file():
        raise PadiffError(
            f"{text!r}: there is no file {str(path)!r}",
            reason=Reason.BAD_SPEC,
            hint="paths are taken from the folder where the command was started",
        )
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path) and module.__name__ != "__main__":
            return module  # the model and its losses may come from one file, which runs once
    _search_first(path.parent)
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_{abs(hash(str(path))):x}"
    loader_spec = importlib.util.spec_from_file_location(name, path)
    if loader_spec is None or loader_spec.loader is None:
        raise PadiffError(f"{text!r}: {str(path)!r} is no Python file", reason=Reason.BAD_SPEC)
    module = importlib.util.module_from_spec(loader_spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        loader_spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:
        del sys.modules[name]
        hint = _package_hint(path, text) if isinstance(err, ImportError) and "relative import" in str(err) else ""
        raise user_error(
            f"{text!r}: importing {target} raised", err, framework, Reason.FACTORY_FAILED, hint=hint
        ) from err
    return module


def _package_hint(path: Path, text: str) -> str:
    """Return how a file that imports its neighbours relatively is named as a module of its package."""
    root, module = path.parent, path.stem
    while (root / "__init__.py").is_file():
        root, module = root.parent, f"{root.name}.{module}"
    if root == path.parent:  # a package without __init__.py, as Python allows
        root, module = root.parent, f"{root.name}.{module}"
    place = text.replace(text.rpartition(":")[0].partition("@")[2] or text.rpartition(":")[0], module)
    return f"a file by itself has no package; start in {str(root)!r} (or put it on PYTHONPATH) and name the module: {place}"


def _import(target: str, text: str, framework: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as err:
        if err.name is not None and (target == err.name or target.startswith(err.name + ".")):
            raise PadiffError(
                f"{text!r}: there is no module {err.name!r} in {sys.executable}",
                reason=Reason.BAD_SPEC,
                hint="modules are looked for in the current folder and in that Python; a file is named as path/to/file.py",
            ) from err
        raise user_error(f"{text!r}: importing {target} raised", err, framework, Reason.FACTORY_FAILED) from err
    except (Exception, SystemExit) as err:
        raise user_error(f"{text!r}: importing {target} raised", err, framework, Reason.FACTORY_FAILED) from err


def _search_first(folder: Path) -> None:
    """Put a folder first on sys.path, as `python file.py` does. It stays: models import neighbours when they first run."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _callables(module: ModuleType) -> list[str]:
    """Return the names of the functions and classes that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _check_arguments(factory: Callable[..., Any], arguments: dict[str, Any], spec: ModelSpec) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return  # a builtin without a signature: its own TypeError will say it
    try:
        signature.bind(**arguments)
    except TypeError as err:
        raise PadiffError(
            f"the factory {spec.factory!r} of {spec.text!r} cannot be called with model arguments "
            f"{sorted(arguments)!r}: {err}",
            reason=Reason.BAD_CONFIG,
            hint=f"it is {spec.factory}{signature}",
        ) from err
