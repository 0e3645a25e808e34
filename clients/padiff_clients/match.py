"""`padiff-rpc match`: show which layers and tensors of two models correspond, and write it as a map to edit."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from padiff_clients.console import show
from padiff_clients.open_models import opened
from padiff_clients.options import as_run, map_options, option
from padiff_clients.plan import map_settings, plan_sides
from padiff_clients.report_errors import ALIGNED, DIFFERS, handled
from padiff_clients.run_keys import RunFile, SideTable
from padiff_clients.runfile import load_run_file, merge
from padiff_rpc.align.prepare import match_described, with_raw_statements
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.aoa.write_statements import write_statements
from padiff_rpc.match.layer_map import LayerPair, Matching, ParameterLink
from padiff_rpc.match.map_lines import layer_lines, to_settle
from padiff_rpc.match.stars import alike
from padiff_rpc.match.written_map import map_as_toml
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import PerSide
from padiff_rpc.report.json_file import check_writable, write_json, write_text
from padiff_rpc.report.layout import columns, fold
from padiff_rpc.report.terminal import print_list
from padiff_rpc.report.unmatched_lines import failing_lines, harmless_lines
from padiff_rpc.result import Unmatched

SCHEMA = "padiff-rpc/map/1"
_SHOWN = 4
"""How many tensors that AOA statements cannot say are named."""


def _side_options(command: Any) -> Any:
    for side in ("raw", "base"):
        for key in ("dtype", "device", "args", "python"):
            command = option(SideTable, key, side=side)(command)
        command = click.option(f"--{side}", f"{side}_spec", metavar="SPEC", help=f"The model of {side}.")(command)
    return command


@click.command()
@click.argument("run_file", metavar="[RUN.toml]", required=False)
@_side_options
@map_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the map there, to edit it and to give it to --map: FILE.toml, or FILE.aoa.",
)
@option(RunFile, "token_file")
@option(RunFile, "tls_ca")
@option(RunFile, "connect_timeout_s")
@option(RunFile, "json_file", help="Write the whole map there.")
@handled
def match(run_file: str | None, output: str | None, **options: Any) -> None:
    """Show which layers and tensors of two models correspond, by which rule, and what has no partner.

    No model is run. Exit status 1 where something lacks a partner that it needs.
    """
    run = merge(load_run_file(Path(run_file)) if run_file else RunFile(), as_run(options))
    for path in filter(None, (output, run.json_file)):
        check_writable(Path(path))
    with opened(plan_sides(run)) as (base, raw):
        described = PerSide(base.describe(), raw.describe())
        maps = with_raw_statements(raw, AlignSettings(**map_settings(run)))
    found = match_described(described, maps)
    described = found.in_parts(described)
    if output:
        as_text = _as_aoa if Path(output).suffix == ".aoa" else map_as_toml
        write_text(Path(output), as_text(described.base, described.raw, found))
    if run.json_file:
        write_json(Path(run.json_file), _as_json(described, found))
    show(lambda console: _print(described, found, console))
    sys.exit(DIFFERS if _alone_that_fail(found) else ALIGNED)


def _as_aoa(base: ModelDescription, raw: ModelDescription, found: Matching) -> str:
    """Return the map as AOA statements; BAD_CONFIG where they cannot say all of it, since half a map would load half a model."""
    made = write_statements(found, PerSide(base, raw))
    if made.unsaid:
        shown = [f"{name}: {why}" for name, why in list(made.unsaid.items())[:_SHOWN]]
        more = len(made.unsaid) - len(shown)
        raise PadiffError(
            f"AOA statements cannot say all of this map: {'; '.join(shown)}" + (f"; and {more} more" if more else ""),
            reason=Reason.BAD_CONFIG,
            hint="write it as FILE.toml",
        )
    head = f"# {base.framework} {base.class_name} -> {raw.framework} {raw.class_name}"
    return "\n".join([head, *made.statements, ""])


def _as_json(described: PerSide[ModelDescription], found: Matching) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "classes": {side: model.class_name for side, model in described.items()},
        "layers": [asdict(pair) for pair in found.layers],
        "links": [
            {
                "base": link.base,
                "raw": link.raw,
                "rule": link.rule,
                "kind": link.kind,
                "undecided": link in found.undecided,
            }
            for link in found.links
        ],
        "unmatched": {
            "base": [asdict(one) for one in found.unmatched_base],
            "raw": [asdict(one) for one in found.unmatched_raw],
        },
        "notes": _notes(described, found),
    }


def _notes(described: PerSide[ModelDescription], found: Matching) -> list[str]:
    routes = [layer.route for layer in described.base.layers]
    return [*found.sentences, *to_settle("layers", layer_lines(found.guessed_routes, routes))]


def _print(described: PerSide[ModelDescription], found: Matching, console: Console) -> None:
    names = described.map(lambda model: f"{model.class_name} ({model.framework})")
    counts = [f"{len(found.layers)} pairs of layers", f"{len(found.links)} links of tensors"]
    alone = _alone_that_fail(found)
    console.print(Text.assemble((f"{names.base} = {names.raw}", "bold"), f"  {', '.join(counts)}"))
    layers = [(pair.base or "(the model)", pair.raw or "(the model)") for pair in found.layers]
    links = [(*link.base, *link.raw) for link in found.links]
    undecided = found.undecided
    _section("layers", _lines(layers, [(1, _how(pair)) for pair in found.layers]), console)
    _section("tensors", _lines(links, [(len(link.base), _rule(link, undecided)) for link in found.links]), console)
    entries = PerSide(found.unmatched_base, found.unmatched_raw)
    notes = _notes(described, found)
    harmless = [line for side, some in entries.items() for line in harmless_lines(side, some, notes)]
    print_list("without a partner, and needing none", harmless, console)
    print_list("notes", [Text(note) for note in notes], console)
    for side, some in entries.items():
        print_list(f"only {side} has, and needs a partner", failing_lines(some), console)
    lacking = f"{len(alone)} {'lacks' if len(alone) == 1 else 'lack'} a partner"
    verdict = f"{lacking} that is needed" if alone else "nothing lacks a partner that it needs"
    console.print(fold(f"\n{verdict}", console.width, 0))


def _alone_that_fail(found: Matching) -> list[Unmatched]:
    return [one for one in (*found.unmatched_base, *found.unmatched_raw) if one.fails]


def _how(pair: LayerPair) -> str:
    if pair.how in ("explicit", "parameters"):
        return "certain (map)"
    return "certain" if pair.certain else f"inferred ({pair.how})"


def _rule(link: ParameterLink, undecided: Collection[ParameterLink]) -> str:
    return f"{link.rule}, undecided" if link in undecided else link.rule


def _lines(rows: Sequence[tuple[str, ...]], labels: Sequence[tuple[int, str]]) -> list[list[str]]:
    """Return a line for rows that differ in their numbers only: how many there are, the label, and the names.

    Args:
        rows: names of base, and then of raw.
        labels: how many of these names are base's, and what is said of them, for each row.
    """
    lines: list[list[str]] = []
    for one in alike(rows, labels):
        count, label = labels[one.rows[0]]
        base, raw = (", ".join(names) for names in (one.names[:count], one.names[count:]))
        lines.append([str(len(one.rows)), label, base if base == raw else f"{base} = {raw}"])
    return lines


def _section(title: str, rows: list[list[str]], console: Console) -> None:
    if not rows:
        return
    console.print(Text(f"\n{title}", "bold"))
    for line in columns(rows, console.width, indent=2, right={0}):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
