"""The page, the table and the words of a pruning study: from data alone, real and made up."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from tests.bench.report.test_markup import read

from hasten.bench.pruning import PruneStudy, words
from hasten.bench.pruning.charts import figures
from hasten.bench.pruning.page import render
from hasten.bench.pruning.results import _analysis, _rows
from hasten.bench.pruning.terminal import table
from hasten.bench.report.page import vega_bundle
from hasten.bench.report.words import MINUS, TIMES

STRATEGIES = ["random", "kept", "spread", "cut@channel"]
RATIOS = [1.0, 2.0, 8.0]
# By compression "kept" is better, by theoretical speed-up "spread" is: its layers that are used often lose as much.
LEVELS = {"random": (0.5, 0.1), "kept": (0.88, 0.80), "spread": (0.86, 0.70), "cut@channel": (0.80, 0.60)}
SPEEDS = {"random": (2.0, 8.5), "kept": (1.4, 2.2), "spread": (2.0, 9.0), "cut@channel": (2.1, 8.4)}


def run(arm: str, point: int, seed: int, metric: float, speed: float = 1.0, **more: Any) -> dict[str, Any]:
    removed = arm == "cut@channel"
    ratio = RATIOS[point]
    cost = {
        "parameters": 1000 / ratio if removed else 1000, "nonzero": 1000 / ratio, "compression": ratio, "macs": 5000,
        "macs_nonzero": 5000 / speed, "speedup": speed, "where": "cpu, 1 thread", "removed": removed,
        "bytes": {"dense": 4000, "csr": 900, "bitmap": 700, "2:4": None},
        "latency": {"ms": 2.0, "low": 1.9, "high": 2.1},
        "relative": {"ratio": (0.4 if point == 2 else 0.7) if removed or arm == "smaller" else 1.0 + 0.001 * seed,
                     "low": 0.9, "high": 1.1},
    }  # fmt: skip
    return {
        "arm": arm, "seed": seed, "point": point, "ratio": ratio, "attempt": 0, "status": "done", "counts": True,
        "flags": [], "metric": metric + 0.0001 * (seed * seed), "before": metric - 0.2, "seconds": 3.0, "off": 1.0,
        "cost": cost, "weights": "0123456789abcdef", "error": "", **more,
    }  # fmt: skip


def made(*, seeds: int = 4, minimize: bool = False, smaller: bool = True, **study: Any) -> dict[str, Any]:
    """The data of a study whose results are known."""
    runs = [run("start", 0, seed, 0.9) for seed in range(seeds)]
    for seed in range(seeds):
        runs.append(run("unpruned", 0, seed, 0.9))
        for arm in STRATEGIES:
            runs += [run(arm, k + 1, seed, LEVELS[arm][k] + 0.0002 * seed, SPEEDS[arm][k]) for k in (0, 1)]
        if smaller:
            runs += [run("smaller", k + 1, seed, (0.87, 0.75)[k], (1.8, 7.0)[k], before=None) for k in (0, 1)]
    if minimize:
        for one in runs:
            one["metric"] = 3 - one["metric"]
            one["before"] = None if one["before"] is None else 3 - one["before"]
    narrow = [
        {"ratio": ratio, "parameters": 1000 / ratio, "change": f"width {9 - k}"} for k, ratio in enumerate(RATIOS[1:])
    ]
    asked = {
        "title": "made: pruning", "workload": "made", "summary": "made up", "metric": "accuracy", "minimize": minimize,
        "strategies": STRATEGIES, "ratios": RATIOS, "pattern": "unstructured", "seeds": list(range(seeds)),
        "steps": {"train": 100, "finetune": 20}, "rate": 0.3, "held_out": {"samples": 64, "by": "accuracy"},
        "parameters": {"total": 1000, "prunable": 990}, "classifier": True, "smaller": narrow if smaller else [],
        "without_smaller": "" if smaller else "its model takes no width", "created": "2026-01-02 03:04:05",
        "command": "hasten prune made", "status": "complete", **study,
    }  # fmt: skip
    return {
        "version": 1, "kind": "prune", "study": asked, "rows": _rows(runs, asked), "analysis": _analysis(runs, asked),
        "runs": runs, "environment": {"torch": "x", "load at start": None}, "notes": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return made()


def test_the_flip_of_the_ranking_is_said_in_words(data: dict[str, Any]) -> None:
    said = words.answer(data)
    order = "kept > spread > cut@channel > random"
    assert said[0] == f"At equal compression (on average up to 8{TIMES}) kept keeps most: {order}."
    flip = next(text for text in said if text.startswith("The ranking flips"))
    assert re.search(r"at equal compression kept keeps more than spread \(\+0\.0\d+ on average\), at equal ", flip)
    assert re.search(rf"at equal theoretical speed-up less \({MINUS}0\.0\d+, up to 2\.2{TIMES}\)\.$", flip)


def test_the_smaller_dense_model_is_judged(data: dict[str, Any]) -> None:
    said = " ".join(words.answer(data))
    assert "trained for as long, is better than random, spread and cut@channel; worse than kept" in said
    alone = " ".join(words.answer(made(smaller=False)))
    assert "There is no smaller dense control: its model takes no width." in alone


def test_what_was_measured_is_said_of_masks_and_of_what_is_removed(data: dict[str, Any]) -> None:
    said = words.answer(data)
    assert said[-2].endswith(f"its predictions were measured at 1.00{TIMES} the dense model's time.")
    assert (
        said[-1]
        == f"With what is masked taken out, predictions take 0.40{TIMES} to 0.70{TIMES} the dense model's time."
    )


def test_two_seeds_prove_nothing() -> None:
    data = made(seeds=2)
    said = words.answer(data)
    assert said[0].endswith("cannot be told apart.")
    assert not [text for text in said if text.startswith("The ranking flips")]
    assert any("2 seeds do not resolve it" in text for text in said)
    assert {one["verdict"] for one in data["analysis"]["effects"]} == {"not distinguishable"}


def test_a_lower_metric_is_better_where_the_workload_says_so(data: dict[str, Any]) -> None:
    turned = made(minimize=True)
    assert turned["analysis"]["ranking"] == data["analysis"]["ranking"]
    assert [one["verdict"] for one in turned["analysis"]["effects"]] == [
        one["verdict"] for one in data["analysis"]["effects"]
    ]
    change = next(row for row in turned["rows"] if row["arm"] == "random" and row["point"] == 2)["change"]
    assert change["value"] == pytest.approx(-0.8, abs=0.01)  # above 0 is better, whatever the metric
    assert "accuracy (lower is better)" in str([figure.spec() for figure in figures(turned)])


def test_only_models_that_are_smaller_have_a_curve_by_measured_time(data: dict[str, Any]) -> None:
    pairs = {(pair["one"], pair["other"]): pair for pair in data["analysis"]["pairs"]}
    assert pairs["cut@channel", "smaller"]["latency"] is not None
    assert all(pair["latency"] is None for names, pair in pairs.items() if names != ("cut@channel", "smaller"))
    assert [place["at"] for place in data["analysis"]["orders"]["latency"]] == [2.0]


def test_the_table_fits_and_is_ascii_where_it_must(data: dict[str, Any]) -> None:
    text = table(data, width=60, color=False, unicode=True)
    assert max(map(len, text.splitlines())) <= 60
    assert "▲ 0.880" in text
    assert "order at equal theoretical speed-up" in text
    plain = table(data, width=100, color=False, unicode=False)
    assert plain.isascii()
    assert "\x1b[" in table(data, width=100, color=True, unicode=True)


def test_a_study_that_has_just_begun_has_a_table_and_a_page() -> None:
    data = made()
    data["rows"], data["runs"] = [], []
    data["analysis"] = _analysis([], data["study"])
    data["study"]["status"] = "running"
    assert "This study is not complete (running)." in table(data, width=100, color=False, unicode=True)
    assert "No strategy has a whole curve yet." in render(data)


# The page -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def markup(data: dict[str, Any]) -> str:
    return render(data)


def test_the_page_is_one_file_that_loads_nothing(markup: str, data: dict[str, Any]) -> None:
    assert markup.startswith("<!doctype html>\n<html")
    assert len(markup.encode()) < 1.5e6
    tags = read(markup).tags
    assert not [attributes for _, attributes in tags if attributes.keys() & {"src", "href", "srcset", "action"}]
    assert markup == render(copy.deepcopy(data))


def test_every_number_is_on_the_page(markup: str) -> None:
    body = markup.replace(vega_bundle(), "")
    for wanted in ("theoretical speed-up", "measured time", "5,000", "700", "width 9", "0.40", "hasten prune made"):
        assert wanted in body
    assert body.count('data-chart="') == 4


def test_names_from_outside_are_text(data: dict[str, Any]) -> None:
    hostile = copy.deepcopy(data)
    hostile["study"]["title"] = "<script>alert(1)</script>\x1b[31m"
    hostile["study"]["summary"] = '"><img src=x onerror=alert(1)>'
    hostile["notes"] = ["</script><script>alert(2)</script>"]
    found = render(hostile).replace(vega_bundle(), "")
    assert "<script>alert" not in found
    assert "<img" not in found
    assert "\x1b" not in found + table(hostile, width=80, color=False, unicode=True)


def test_charts_have_every_arm_with_its_interval(data: dict[str, Any]) -> None:
    drawn = {figure.name: figure for figure in figures(data)}
    assert list(drawn) == ["compression-metric", "speedup-metric", "latency-metric", "compression-before"]
    spec = str(drawn["compression-metric"].spec())
    for arm in ("unpruned", *STRATEGIES, "smaller"):
        assert arm in spec
    assert f"Outside the frame: random (0.101 at 8{TIMES})." in drawn["compression-metric"].caption


def test_a_real_study_draws_too(finished: PruneStudy) -> None:
    assert len(figures(finished.data)) == 4
    assert "channel_l2@channel" in finished.table()
    assert "<title>blobs: pruning by" in render(finished.data)


def test_few_seeds_and_a_classifier_that_is_not_known_are_said() -> None:
    assert "3 seeds resolve large differences only" in words.grounds(made(seeds=3))[-1]
    assert words.grounds(made(seeds=1))[-1].startswith("Fewer than 3 seeds prove nothing")
    assert not [text for text in words.grounds(made()) if "classifier" in text]
    unknown = words.grounds(made(classifier=False))
    assert any("No layer of the model is known as its classifier" in text for text in unknown)


def test_a_run_that_failed_is_said_once(data: dict[str, Any]) -> None:
    lost = {**run("kept", 2, 3, 0.0), "status": "failed", "error": "the metric became nan."}
    notes = ["kept, seed 3: failed: the metric became nan.", "the disk is full."]
    told = words.caveats({**data, "runs": [*data["runs"], lost], "notes": notes})
    assert told == [f"kept at 8{TIMES}, seed 3, failed: the metric became nan.", "the disk is full."]


def test_one_strategy_is_not_ranked_and_none_is_said_first(data: dict[str, Any]) -> None:
    alone = copy.deepcopy(data)
    alone["analysis"]["ranking"] = [["random"]]
    assert words.answer(alone)[0].startswith("random has a whole curve")
    alone["analysis"]["ranking"] = []
    assert words.answer(alone)[0] == "No strategy has a whole curve yet."
