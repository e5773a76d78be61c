"""The tables of the page: effects, arms, environment, and every run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from . import words
from .costs import SHOW, arm_means, phase_means
from .data import Report, Run, arm_names, counted
from .markup import Html, element, join
from .words import UNKNOWN, VERDICTS

__all__ = ["badge", "costs_table", "effects_table", "facts", "name_cell", "number_cell", "order_list", "phases_table",
           "runs_table", "scroll", "table", "text_cell"]  # fmt: skip


def badge(word: str, *, more: str = "") -> Html:
    """A verdict as a coloured label with a mark, so that colour is never alone."""
    verdict = VERDICTS[word]
    return element(
        "span", element("span", verdict.mark, aria_hidden="true"), f" {word}{more}", class_=f"badge {verdict.css}"
    )


def scroll(label: str, content: Html) -> Html:
    """A region that scrolls sideways on narrow screens, reachable by keyboard."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def table(head: Sequence[str], rows: Iterable[Html], *, caption: str) -> Html:
    """A sortable table that scrolls sideways where it must; headings that start with # stand above numbers."""
    cells = [
        element("th", element("button", name.lstrip("#"), type="button"), scope="col", aria_sort="none",
                class_="number" if name.startswith("#") else None)
        for name in head
    ]  # fmt: skip
    parts = element("caption", caption), element("thead", element("tr", *cells)), element("tbody", *rows)
    return scroll(caption, element("table", *parts, class_="sortable"))


def name_cell(text: str) -> Html:
    """The name of a row."""
    return element("th", text, scope="row")


def text_cell(*content: object, class_: str | None = None) -> Html:
    """Words, or other content."""
    return element("td", *content, class_=class_)


def number_cell(text: object, value: float | None) -> Html:
    """A number; the exact value is what sorting compares."""
    return element("td", text, class_="number", data_sort=value)


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, as a description list."""
    rows = (element("div", element("dt", name), element("dd", value), class_="all" if name == "command" else None)
            for name, value in pairs)  # fmt: skip
    return element("dl", *rows)


def order_list(analysis: dict[str, Any]) -> Html:
    """Per budget the arms from best to worst at equal steps; arms that cannot be told apart stand together."""
    items = []
    for budget, groups in zip(analysis["budgets"], analysis["ties"], strict=True):
        items.append((budget["label"], words.order(groups)))
    return facts(items)


_EFFECT_HEAD = ("arm", "at", "#effect", "#interval", "#p\u00a0(Holm)", "verdict", "#n", "#smallest … largest",
                "no\u00a0loss", "#detectable")  # fmt: skip


def effects_table(data: Report, field: str, caption: str) -> Html | None:
    """The answers to one kind of question; None without any.

    Args:
        data: a report with an analysis.
        field: "budgets", "targets" or "accuracy".
        caption: what is asked.
    """
    analysis = data["analysis"]
    assert analysis is not None
    decimals = words.gain_decimals(analysis)
    rows = [_effect_row(arm["name"], effect, decimals) for arm in analysis["arms"] for effect in arm[field]]
    return table(_EFFECT_HEAD, rows, caption=caption) if rows else None


def _effect_row(arm: str, effect: dict[str, Any], decimals: int) -> Html:
    detectable, remark = effect["mde_family"], _remark(effect)
    shown = words.ratio(detectable) if effect["kind"] == "target" else words.signed(detectable, decimals)
    return element(
        "tr",
        name_cell(arm),
        text_cell(effect["label"], remark and element("div", remark, class_="remark")),
        number_cell(words.effect_text(effect, decimals), effect["value"]),
        number_cell(words.span_text(effect, decimals), effect["low"]),
        number_cell(words.p_value(effect["p_holm"]), effect["p_holm"]),
        text_cell(badge(effect["verdict"])),
        number_cell(effect["n"], effect["n"]),
        number_cell(words.span_text(effect, decimals, "minimum", "maximum"), effect["minimum"]),
        text_cell({True: "proven", False: "not proven", None: UNKNOWN}[effect["no_loss"]]),
        number_cell(shown, detectable),
    )


def _remark(effect: dict[str, Any]) -> str:
    """The reason, and for targets what the mean curves say where single runs only give a bound."""
    mean = effect.get("mean_curve") or {}
    said = ""
    if effect["bound"] and mean.get("speedup") is not None:
        said = f"mean curves: {words.ratio(mean['speedup'])}"
        if mean.get("low") is not None and mean.get("high") is not None:
            said += f" ({words.ratio(mean['low'])} … {words.ratio(mean['high'])})"
    return "; ".join(filter(None, (effect["reason"], said)))


def costs_table(data: Report) -> Html | None:
    """Means per arm over the runs that count: the training clock by phase, and what else was measured."""
    means = {name: arm_means(data, name) for name in arm_names(data)}
    costs = [cost for cost in SHOW if any(cost in found for found in means.values())]
    if not costs:
        return None
    rows = [
        element("tr", name_cell(name), *(number_cell(SHOW[cost](found.get(cost)), found.get(cost)) for cost in costs))
        for name, found in means.items()
    ]
    return table(("arm", *(f"#{cost}" for cost in costs)), rows, caption="Means per arm over the runs that count")


def phases_table(data: Report) -> Html | None:
    """Mean seconds per run by phase of the training clock, and by reason off it."""
    found = {name: phase_means(data, name) for name in arm_names(data)}
    parts = list(dict.fromkeys(part for phases, _ in found.values() for part in phases))
    reasons = list(dict.fromkeys(reason for _, excluded in found.values() for reason in excluded))
    if not parts:
        return None
    rows = []
    for name, (phases, excluded) in found.items():
        times = [phases.get(part) for part in parts] + [excluded.get(reason) for reason in reasons]
        rows.append(element("tr", name_cell(name), *(number_cell(words.duration(time), time) for time in times)))
    head = ("arm", *(f"#{part}" for part in parts), *(f"#({reason})" for reason in reasons))
    return table(head, rows, caption="Mean time per run; in brackets: not on the training clock")


_RUN_HEAD = ("arm", "#seed", "#attempt", "status", "#steps", "#final metric", "#train time", "#off the clock", "#FLOPs",
             "#peak memory", "#energy", "#machine drift", "weights")  # fmt: skip


def runs_table(data: Report) -> Html:
    """Every attempt at every run; failures in words."""
    caption = f"{len(data['runs'])} runs, of which {len(counted(data))} count"
    energy = any(run["energy"] is not None for run in data["runs"])
    head = [name for name in _RUN_HEAD if energy or name != "#energy"]
    return table(head, (_run_row(run, energy) for run in data["runs"]), caption=caption)


def _run_row(run: Run, energy: bool) -> Html:
    metrics = [point["metric"] for point in run["points"] if point["metric"] is not None]
    final = metrics[-1] if metrics and run["status"] == "done" else None
    steps = run["points"][-1]["step"] if run["points"] else None
    drift = (run["calibration"] or {}).get("ratio")
    off, seed = sum(run["excluded"].values()), run["seed"]
    flags = [element("span", flag, class_="flag") for flag in words.run_flags(run)]
    error = element("div", run["error"], class_="remark") if run["error"] else None
    status = element("span", run["status"], class_="failed" if run["status"] == "failed" else None)
    return element(
        "tr",
        name_cell(run["arm"]),
        number_cell(seed, seed if isinstance(seed, int) else None),
        number_cell(run["attempt"], run["attempt"]),
        text_cell(join([status, *flags], " "), error),
        number_cell(steps or UNKNOWN, steps),
        number_cell(words.number(final), final),
        number_cell(words.duration(run["seconds"]), run["seconds"]),
        number_cell(words.duration(off), off),
        number_cell(words.amount(run["flops"]), run["flops"]),
        number_cell(words.bytes_(run["memory"]), run["memory"]),
        number_cell(words.joules(run["energy"]), run["energy"]) if energy else None,
        number_cell(words.ratio(drift), drift),
        text_cell((run["weights"] or UNKNOWN)[:8], class_="code"),
        class_=None if run["counts"] else "discounted",
    )
