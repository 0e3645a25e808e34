"""Every key of a run file, declared once: its type, its option on the command line, and what its value sets.

A new option of `diff` is one field here. The options of `diff` are made from the fields, in their order (see `options`), the
run file is checked against them (see `runfile`), and an alignment's settings are taken from them (see `plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from padiff_clients.anchor_paths import anchored_path, anchored_place, anchored_program, anchored_spec
from padiff_rpc.align.settings import DiffPhase, ToleranceSource
from padiff_rpc.compare.rules import CompareMode

DTypeName = Literal["float64", "float32", "bfloat16", "float16"]
PLACE = "FILE.py:FUNCTION"
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class Option:
    """The option that stands for a key, and the setting that takes the key's value.

    The kind of the option follows from the type of the field: text, a choice, a number within the field's bounds, or on and off.

    Attributes:
        help: says in `--help` what the option does.
        metavar: stands in `--help` for the value of a text.
        flag: names the option if its name is not the key with dashes. For a key of a side it is the name for one model;
            `diff` puts the side before it (`--device` becomes `--base-device`).
        sets: names the field that takes the value, of AlignSettings or, for a key of [compare], of CompareRules; "" for none.
    """

    help: str
    metavar: str | None = None
    flag: str = ""
    sets: str = ""


@dataclass(frozen=True)
class Anchored:
    """Mark a key whose value holds a path.

    Attributes:
        by: takes the value and the run file's folder, and returns the value with the path taken from that folder.
    """

    by: Callable[[str, str], str]


class SideTable(BaseModel):
    """[base] and [raw]: one model, and what only it gets."""

    model_config = _STRICT
    spec: Annotated[str | None, Anchored(anchored_spec)] = None
    python: Annotated[
        str | None,
        Option("The Python to launch its worker in; default: this one.", "PYTHON"),
        Anchored(anchored_program),
    ] = None
    args: Annotated[dict[str, Any], Option("An argument of its factory; repeatable.", "NAME=JSON", flag="--arg")] = (
        Field(default_factory=dict)
    )
    device: Annotated[str | None, Option("Where it runs, in its framework's words.", "DEVICE")] = None
    dtype: Annotated[DTypeName | None, Option("Cast it to this type.")] = None
    inputs: Annotated[
        str | None, Option("Its own inputs, where the sides take different ones.", "FILE"), Anchored(anchored_place)
    ] = None
    loss: str | None = None
    loss_fn: Annotated[
        str | None, Option("Its own loss: a function of the outputs.", PLACE), Anchored(anchored_place)
    ] = None
    optimizer: str | None = None
    optimizer_fn: Annotated[
        str | None, Option("Its own optimiser: made from the model.", PLACE), Anchored(anchored_place)
    ] = None
    threads: Annotated[int | None, Field(ge=1)] = None
    token_file: Annotated[str | None, Anchored(anchored_path)] = None
    tls_ca: Annotated[str | None, Anchored(anchored_path)] = None


class CompareTable(BaseModel):
    """[compare]: what counts as equal."""

    model_config = _STRICT
    mode: Annotated[CompareMode | None, Option("How tensors are judged; default scaled.", sets="mode")] = None
    atol: Annotated[float | None, Field(ge=0, allow_inf_nan=False), Option("Absolute tolerance.", sets="atol")] = None
    rtol: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False),
        Option("Relative tolerance; default: from the table by dtype.", sets="rtol"),
    ] = None
    allow_dtype_difference: Annotated[
        bool | None, Option("Compare values across dtypes.", sets="allow_dtype_difference")
    ] = None


class MapTable(BaseModel):
    """[map]: pairs on top of the automatic match, base's name first. Its options, --map and --pair, are no keys."""

    model_config = _STRICT
    layers: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, str] = Field(default_factory=dict)
    renames: dict[str, str] = Field(default_factory=dict)
    aoa_statements: list[str] = Field(default_factory=list)
    raw_statements: bool = False


class StoreTable(BaseModel):
    """[store]: how much a launched worker may keep, as text such as "2GiB"."""

    model_config = _STRICT
    memory: Annotated[
        str | None,
        Option("Memory for records in each launched worker, such as 2GiB.", "SIZE", flag="--store-memory"),
    ] = None
    disk: Annotated[str | None, Option("Disk for records beyond that.", "SIZE", flag="--store-disk")] = None


class RunFile(BaseModel):
    """A whole run. Keys for both sides stand at the top level; the same key in [base] or [raw] goes before them."""

    model_config = _STRICT
    base: SideTable = Field(default_factory=SideTable)
    raw: SideTable = Field(default_factory=SideTable)
    inputs: Annotated[
        str | None,
        Option(f"FILE.npz, or {PLACE} that returns a dict or a pair of dicts.", "FILE"),
        Anchored(anchored_place),
    ] = None
    dtype: Annotated[DTypeName | None, Option("Cast both models (and, for float64, the inputs).")] = None
    train: Annotated[
        bool | None,
        Option("Set both models' mode; default: leave it as it is.", flag="--train/--eval", sets="training"),
    ] = None
    steps: Annotated[int | None, Field(ge=1), Option("Steps on the same inputs; default 1.", sets="steps")] = None
    phase: Annotated[DiffPhase | None, Option("What to compare; default both.", sets="diff_phase")] = None
    single_step: Annotated[
        bool | None, Option("Feed raw's layers with base's tensors: own errors only.", sets="single_step")
    ] = None
    api_calls: Annotated[
        bool | None,
        Option("Compare functional calls inside layers too, to tell where one begins to differ.", sets="api_calls"),
    ] = None
    sequential: Annotated[
        bool | None, Option("Run base first and raw when base has ended: two models that do not fit together.")
    ] = None
    verify_probe: Annotated[bool | None, Option("First prove that recording changes no bit.", sets="verify_probe")] = (
        None
    )
    sync_random: Annotated[bool | None, Option("Give raw's dropouts what base's draw.", sets="sync_random")] = None
    repeat: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "Run each side's step so often, and name the layer that is not deterministic; default 1.", sets="repeat"
        ),
    ] = None
    layers: Annotated[list[str], Option("Compare only layers of such routes; repeatable.", "GLOB", sets="layers")] = (
        Field(default_factory=list)
    )
    depth: Annotated[
        int | None,
        Field(ge=0),
        Option("Compare only layers at most so many levels below the root.", sets="depth"),
    ] = None
    fail_fast: Annotated[bool | None, Option("Stop both models at the first difference.", sets="fail_fast")] = None
    tolerance: Annotated[
        ToleranceSource | None,
        Option("What differences are held against: the table, or (auto) this run's own floor too.", sets="tolerance"),
    ] = None
    explain: Annotated[
        bool | None, Option("Run the first difference once more to tell its cause; default: do.", sets="explain")
    ] = None
    strict_inside: Annotated[
        bool | None, Option("Fail differences inside layers too where all that follows agrees.", sets="strict_inside")
    ] = None
    allow_extra: Annotated[
        list[str],
        Option("Accept what one side alone has, by name or route; repeatable.", "GLOB", sets="allow_extra"),
    ] = Field(default_factory=list)
    loss: Annotated[
        str | None, Option("projection (default), mean, sum, mse, cross_entropy, or a worker's.", "LOSS")
    ] = None
    targets: Annotated[
        str | None,
        Option("What mse and cross_entropy compare with: array `target`.", "FILE.npz"),
        Anchored(anchored_path),
    ] = None
    optimizer: Annotated[str | None, Option("Such as 'SGD(lr=0.1)'; none by default.", "OPTIMIZER")] = None
    compare: CompareTable = Field(default_factory=CompareTable)
    assign: Annotated[bool | None, Option("Copy base's weights into raw first; default: do.", sets="assign")] = None
    map: MapTable = Field(default_factory=MapTable)
    seed: Annotated[int | None, Option("Seed of the frameworks' generators; default 0.", sets="seed")] = None
    threads: Annotated[int | None, Field(ge=1), Option("CPU threads of each launched worker.")] = None
    store: StoreTable = Field(default_factory=StoreTable)
    token_file: Annotated[
        str | None, Option("Access token of workers that already run.", "FILE"), Anchored(anchored_path)
    ] = None
    tls_ca: Annotated[
        str | None,
        Option("Certificate authority (PEM) of workers that already run.", "FILE"),
        Anchored(anchored_path),
    ] = None
    connect_timeout_s: Annotated[
        float | None, Field(gt=0), Option("Seconds; default 20.", flag="--connect-timeout")
    ] = None
    json_file: Annotated[
        str | None, Option("Write the whole result there.", "FILE", flag="--json"), Anchored(anchored_path)
    ] = None


M = TypeVar("M", Option, Anchored)


def marked(table: type[BaseModel], mark: type[M]) -> Iterator[tuple[str, M]]:
    """Yield each key of a table that is marked with an Option, or with an Anchored, and its mark."""
    for key, field in table.model_fields.items():
        for one in field.metadata:
            if isinstance(one, mark):
                yield key, one


def settings_of(table: BaseModel) -> dict[str, Any]:
    """Return the values of a table's keys by the settings that they set. A key that is not given sets nothing."""
    values = {option.sets: getattr(table, key) for key, option in marked(type(table), Option) if option.sets}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }
