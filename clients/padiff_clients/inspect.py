"""`padiff-rpc inspect`: show a model's layers, parameters, buffers and hyper-parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from padiff_clients.console import show
from padiff_clients.open_models import opened
from padiff_clients.options import as_run_of_one, option
from padiff_clients.plan import plan_one
from padiff_clients.report_errors import handled
from padiff_clients.run_keys import RunFile, SideTable
from padiff_rpc.compare.differing_hyperparameters import CONFIG
from padiff_rpc.model.model import LayerInfo, ModelDescription, ModelInfo, ParameterInfo
from padiff_rpc.report.json_file import check_writable, write_json
from padiff_rpc.report.layout import fold
from padiff_rpc.report.trees import TreeEntry, guides

SCHEMA = "padiff-rpc/description/1"


@click.command()
@click.argument("spec")
@option(SideTable, "python")
@option(SideTable, "args", flag="--model-arg")
@option(SideTable, "device")
@option(SideTable, "dtype")
@option(RunFile, "token_file", help="Access token of a worker that already runs.")
@option(RunFile, "tls_ca", help="Certificate authority (PEM) of a worker that already runs.")
@option(RunFile, "connect_timeout_s")
@option(RunFile, "json_file", help="Write the description there.")
@handled
def inspect(**options: Any) -> None:
    """Show a model's layer tree with classes, hyper-parameters, parameters and buffers."""
    run = as_run_of_one(options)
    plan = plan_one(run)
    if run.json_file:
        check_writable(Path(run.json_file))
    with opened([plan]) as (model,):
        info, description = model.info(), model.describe()
    if run.json_file:
        write_json(Path(run.json_file), {"schema": SCHEMA, "info": asdict(info), "model": _plain(asdict(description))})
    show(lambda console: _print(info, description, console))


def _plain(value: Any) -> Any:
    """Write NaN and Inf among hyper-parameters as text, since JSON has no such numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def _print(info: ModelInfo, description: ModelDescription, console: Console) -> None:
    console.print(
        Text.assemble((description.class_name, "bold"), f"  {info.framework} {info.framework_version} on {info.device}")
    )
    counts = {
        kind: [one.spec.count for one in description.parameters if one.kind == kind] for kind in ("parameter", "buffer")
    }
    console.print(
        f"{len(description.layers):,} layers, {len(counts['parameter']):,} parameters ({sum(counts['parameter']):,} elements), "
        f"{len(counts['buffer']):,} buffers ({sum(counts['buffer']):,} elements)"
    )
    console.print()
    ascii_only = not console.encoding.lower().startswith("utf")
    nodes = [_node(layer, description) for layer in description.layers]
    for layer, node, lead in zip(description.layers, nodes, guides(nodes, ascii_only), strict=True):
        indent = 2 * node.depth + 4
        head = Text.assemble((lead, "dim"), (f"{node.label}  " if node.label else ""), (layer.class_name, "cyan"))
        values = ", ".join(
            f"{name}={value!r}" for name, value in layer.hyperparameters.items() if not name.startswith(CONFIG)
        )
        head = Text.assemble(
            head,
            ("  " + values if values else "", "dim"),
            f"  (also {', '.join(layer.aliases)})" if layer.aliases else "",
        )
        for line in (head, *_parameters(layer, description, indent)):
            console.print(fold(line, console.width, indent + 2), no_wrap=True, overflow="ignore", crop=False)


def _node(layer: LayerInfo, description: ModelDescription) -> TreeEntry:
    depth, parent = 0, ""
    routes = {one.route for one in description.layers}
    parts = layer.route.split(".") if layer.route else []
    for at in range(len(parts)):
        above = ".".join(parts[:at])
        if above in routes:
            depth, parent = depth + 1, above
    return TreeEntry(layer.route, depth, layer.route[len(parent) :].lstrip("."), layer.class_name)


def _parameters(layer: LayerInfo, description: ModelDescription, indent: int) -> Iterator[Text]:
    for name in layer.parameters:
        info = description.parameter(name)
        own = name[len(layer.route) :].lstrip(".")
        yield Text.assemble(" " * indent, f"{own}  ", (str(info.spec), "green"), (_remarks(name, info), "dim"))


def _remarks(name: str, info: ParameterInfo) -> str:
    remarks = []
    if info.kind == "buffer":
        remarks.append("buffer")
    elif not info.trainable:
        remarks.append("frozen")
    tied = [other for other in (info.name, *info.aliases) if other != name]
    if tied:
        remarks.append(f"tied to {', '.join(tied)}")
    return f"  {', '.join(remarks)}" if remarks else ""
