"""The one input of every report: plain data, as JSON holds it.

The driver of a study writes it, the page, the terminal table, the charts and the exports read it, and a report stored
years ago is the same dict again. The types below are documentation and validator at once: `validate` walks the same
annotations. Every key is present except in `total=False` types; what is unknown is None. NaN and infinity never occur.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypedDict, cast

from ..._core.checks import check, describe, near, refuse
from .upgrade import ANALYSIS_VERSION, VERSION, upgrade

__all__ = ["VERSION", "Arm", "Calibration", "CurveCalibration", "CurveLevels", "Inference", "Level", "Point", "Power"]
__all__ += ["Report", "Run", "Schedule", "Study", "arm_names", "counted", "prepare", "printable", "validate"]

Seed = int | str


class Arm(TypedDict):
    """One arm: its methods as they were written, and how its program differs from the baseline's."""

    name: str
    methods: list[str]  # "blurpool(min_channels=16)"
    fingerprint: str
    differences: list[str]  # "surgery: + blurpool"


class Schedule(TypedDict):
    """Learning-rate multiplier over steps."""

    step: list[float]
    multiplier: list[float]


class Study(TypedDict):
    """What was asked."""

    title: str
    workload: str
    summary: str  # one sentence about the workload
    curve: Literal["cyclic", "separate", "branch"]
    curve_reason: str  # why this kind
    baseline: str
    seeds: list[Seed]  # planned
    created: str  # ISO 8601
    command: str
    duration: str  # "15ep"
    budgets: list[str]  # labels, one per point
    ends: list[float]  # optimizer steps of the points
    metric: str
    minimize: bool
    target: float | None
    arms: list[Arm]
    schedule: dict[str, Schedule]  # by arm, or {"all": ...}
    status: str  # "complete", "budget", "interrupted", "running", or in words why it is not complete
    clock_excludes: list[str]


class Inference(TypedDict, total=False):
    """What one prediction of the evaluated model costs; a key is missing where it could not be measured."""

    ms: float
    flops: float
    parameters: int


class Calibration(TypedDict, total=False):
    """Seconds of the calibration kernel before and after the run; `ratio`: the slower one over the study's median."""

    before: float
    after: float
    ratio: float


class Point(TypedDict):
    """One evaluation; `metric` in the user's own units and sign."""

    point: int
    step: int
    epoch: float
    seconds: float
    metric: float | None
    train_loss: float | None
    flops: float | None
    memory: int | None  # peak bytes of the run so far
    energy: float | None  # joules on the training clock so far


class Run(TypedDict):
    """One attempt at one run, whether or not it counts."""

    arm: str
    seed: Seed
    attempt: int
    status: Literal["running", "done", "failed", "stopped", "interrupted"]
    counts: bool  # False for an attempt that was repeated
    flags: list[str]  # "drifted", "resumed"
    seconds: float  # on the training clock
    phases: dict[str, float]  # seconds by phase, on the clock
    excluded: dict[str, float]  # seconds off the clock, by reason
    flops: float | None
    memory: int | None  # peak bytes
    energy: float | None  # joules on the training clock; None where the machine does not tell
    inference: Inference | None
    weights: str | None  # digest of the final weights
    calibration: Calibration | None
    error: str | None
    points: list[Point]


class Power(TypedDict):
    """What the study could detect, in words and numbers."""

    text: str
    mde: dict[str, Any]


class Level(TypedDict):
    """One budget of one kind of curve: the mean over seeds, and how far it lies from separate runs, in pairs."""

    metric: float  # in the user's own units and sign
    low: float | None  # t interval of the mean
    high: float | None
    bias: float | None  # this kind minus separate runs, mean of the paired differences; None for separate runs
    bias_low: float | None
    bias_high: float | None
    n: int  # seeds


class CurveLevels(TypedDict):
    """One kind of curve of the calibrated arm."""

    kind: Literal["cyclic", "separate", "branch"]
    steps: int  # optimizer steps of a whole curve from one seed
    seconds: float | None  # training time of a whole curve from one seed, mean
    levels: list[Level]  # one per budget


class CurveCalibration(TypedDict):
    """What the kind of curve does to the levels: one arm, measured in every kind from the same seeds."""

    arm: str
    budgets: list[str]
    kinds: list[CurveLevels]  # separate runs first


class Report(TypedDict):
    """Everything a report shows. `analysis` is `Analysis.to_json()`; None with fewer than one complete pair."""

    version: int
    study: Study
    analysis: dict[str, Any] | None
    calibration: CurveCalibration | None
    runs: list[Run]  # empty where only the analysis is known (somebody's own logs)
    power: Power | None
    environment: dict[str, Any]
    notes: list[str]


def validate(data: Any) -> Report:
    """`data` as a `Report`, after checking version, keys and types; older versions are brought up to date first.

    Args:
        data: what `json.loads` returned, or what a study's driver built.

    Raises:
        ValueError: not a report, another version, a missing or unknown key, a value of the wrong type or not finite.
            The message names the place, as `study.arms[0].name`.

    >>> validate({"version": 99})
    Traceback (most recent call last):
    ValueError: report: expected version 2, got 99. Update hasten to read a newer report.
    """
    check(isinstance(data, dict) and "version" in data, "report", "the data of a report: a dict with a version", data,
          "Pass what hasten.bench.report.to_json wrote.")  # fmt: skip
    data = upgrade(data)
    check(data["version"] == VERSION and type(data["version"]) is int, "report", f"version {VERSION}", data["version"],
          "Update hasten to read a newer report.")  # fmt: skip
    _check(data, Report, "")
    _check_analysis(data["analysis"])
    known = set(arm_names(data))
    for place, name in [("study.baseline", data["study"]["baseline"])] + [
        (f"runs[{i}].arm", run["arm"]) for i, run in enumerate(data["runs"])
    ]:
        check(name in known, "report", f"an arm of the study in {place}", name, near(name, known))
    return cast(Report, data)


def _check_analysis(analysis: dict[str, Any] | None) -> None:
    if analysis is None:
        return
    version = analysis.get("version")
    check(version == ANALYSIS_VERSION, "report", f"analysis.version {ANALYSIS_VERSION}", version,
          "Pass Analysis.to_json() of this version of hasten.")  # fmt: skip
    for key, kind in {"baseline": str, "arms": list, "budgets": list, "targets": list, "notes": (list, tuple)}.items():
        check(isinstance(analysis.get(key), kind), "report", f"analysis.{key}", analysis.get(key), "Pass to_json().")


def _check(value: Any, kind: Any, place: str) -> None:
    """Raise unless `value` has the type `kind`, all the way down."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        _check_keys(value, kind, place)
    elif kind is Any:
        _check_finite(value, place)
    elif origin is types.UnionType:
        fitting = [option for option in arguments if _fits(value, option)]
        _expect(bool(fitting), place, " or ".join(map(_name, arguments)), value)
        _check(value, fitting[0], place)
    elif origin is Literal:
        _expect(value in arguments, place, " or ".join(map(repr, arguments)), value)
    elif origin in (list, dict):
        _expect(_fits(value, kind), place, f"a {origin.__name__}", value)
        pairs = enumerate(value) if origin is list else value.items()
        for key, item in pairs:
            _check(item, arguments[-1], f"{place}[{key!r}]")
    else:
        _expect(_fits(value, kind), place, _name(kind), value)
        _check_finite(value, place)


def _check_keys(value: Any, kind: Any, place: str) -> None:
    hints = typing.get_type_hints(kind)
    _expect(isinstance(value, dict), place or "the report", "a dict", value)
    for key in value:
        if key not in hints:
            raise refuse("report", f"a known key in {place or 'the report'}", describe(key), near(str(key), hints))
    for key, hint in hints.items():
        where = f"{place}.{key}".lstrip(".")
        if key not in value and key not in kind.__required_keys__:
            continue
        if key not in value:
            raise refuse("report", f"{where} ({_name(hint)})", "nothing", "Write None where it is unknown.")
        _check(value[key], hint, where)


def _fits(value: Any, kind: Any) -> bool:
    """Is `value` of this type, looking only at the surface?"""
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    surface = typing.get_origin(kind) or kind
    if surface in (int, float):
        return isinstance(value, (int, float) if surface is float else int) and not isinstance(value, bool)
    return isinstance(value, surface)


def _check_finite(value: Any, place: str) -> None:
    for number in _floats(value):
        _expect(math.isfinite(number), place, "a finite number (null where it is unknown)", number)


def _floats(value: Any) -> Iterator[float]:
    """Every float in a piece of plain data."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _floats(item)


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind).replace("typing.", "")


def _expect(condition: bool, place: str, expected: str, value: Any) -> None:
    if not condition:
        raise refuse("report", f"{expected} in {place}", describe(value), "This is not what a study's driver writes.")


def arm_names(data: Any) -> list[str]:
    """Names of the arms: the baseline first, then in the order of the study."""
    baseline = data["study"]["baseline"]
    return sorted((arm["name"] for arm in data["study"]["arms"]), key=lambda name: name != baseline)


def counted(data: Report, arm: str | None = None) -> list[Run]:
    """The attempts that count, of one arm or of all."""
    return [run for run in data["runs"] if run["counts"] and arm in (None, run["arm"])]


def printable(value: Any) -> Any:
    r"""Plain data whose texts hold printable characters only; others are written as their escapes.

    Names come from outside: a control character could move a terminal's cursor, a bidirectional override turn a line
    of the page around.

    >>> printable({"arm\x1b[31m": ["a\u202eb"]})
    {'arm\\x1b[31m': ['a\\u202eb']}
    """
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else " " if c in "\n\r\t" else ascii(c)[1:-1] for c in value)
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def prepare(data: Any) -> Report:
    """`data` for showing: validated, printable, and the arms of the analysis in the order of the study.

    Raises:
        ValueError: see `validate`.
    """
    report: Report = printable(validate(data))
    if report["analysis"] is not None:
        order = arm_names(report)
        report["analysis"]["arms"].sort(key=lambda arm: order.index(arm["name"]))
    return report
