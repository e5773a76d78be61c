"""The tables of the page: verdicts at a glance, effects, arms, environment, and every run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from . import words
from .data import Report, Run, counted
from .markup import Html, element, join
from .words import VERDICTS, duration, number

__all__ = ["badge", "effects_table", "facts", "glance", "order_list", "runs_table", "scroll", "table"]


def badge(word: str, *, more: str = "") -> Html:
    """A verdict as a coloured label with a mark, so that colour is never alone."""
    verdict = VERDICTS[word]
    return element("span", element("span", verdict.mark, aria_hidden="true"), f" {word}{more}", class_=f"badge {verdict.css}")


def scroll(label: str, content: Html) -> Html:
    """A region that scrolls sideways on narrow screens, reachable by keyboard."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def table(head: Sequence[str], rows: Iterable[Html], *, caption: str, sortable: bool = False) -> Html:
    """A table with column headings; sortable ones get buttons that the page's script listens to."""
    cells = [
        element("th", element("button", name, type="button") if sortable else name, scope="col",
                aria_sort="none" if sortable else None)
        for name in head
    ]  # fmt: skip
    body = element("tbody", *rows)
    kind = "sortable" if sortable else None
    return element(
        "table", element("caption", caption), element("thead", element("tr", *cells)), body, class_=kind
    )


def _cell(text: object, value: float | None = None, *, class_: str | None = None, numeric: bool = True) -> Html:
    """A cell; numbers carry their exact value for sorting."""
    return element("td", text, class_=class_ or ("number" if numeric else None), data_sort=value if numeric else None)


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, as a description list."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs))


def glance(data: Report, field: str, heading: str) -> Html | None:
    """One row per arm, one column per budget or target: the verdicts in one look.

    Args:
        data: a report with an analysis.
        field: "budgets" or "targets".
        heading: what the columns are.
    """
    analysis = data["analysis"]
    assert analysis is not None
    arms = [arm for arm in analysis["arms"] if arm[field]]
    if not arms:
        return None
    head = [element("th", element("span", "arm", class_="hidden"), scope="col")]
    for axis in analysis[field]:
        label, _, more = axis["label"].partition(" (")
        head.append(element("th", label, more and element("small", more.rstrip(")")), scope="col"))
    rows = [
        element("tr", element("th", arm["name"], scope="row"), *(_glance_cell(effect) for effect in arm[field]))
        for arm in arms
    ]
    return element("table", element("caption", heading), element("thead", element("tr", *head)),
                   element("tbody", *rows), class_="glance")  # fmt: skip


def _glance_cell(effect: dict[str, Any]) -> Html:
    verdict = VERDICTS[effect["verdict"]]
    mark = element("span", verdict.mark, class_="mark", aria_hidden="true")
    said = element("span", f"{effect['verdict']}, ", class_="hidden")
    title = "; ".join(filter(None, (effect["verdict"], f"95 % interval {words.interval_text(effect)}", effect["reason"])))
    return element("td", mark, said, words.effect_text(effect), class_=verdict.css, title=title)


def order_list(analysis: dict[str, Any]) -> Html:
    """Per budget the arms from best to worst at equal steps; arms that cannot be told apart stand together."""
    items = []
    for budget, groups in zip(analysis["budgets"], analysis["ties"], strict=True):
        named = [" = ".join(group) for group in groups]
        text = " > ".join(named) if len(named) > 1 else "no order is proven" if named else "unknown"
        items.append((budget["label"], text))
    return facts(items)


_EFFECT_HEAD = ("arm", "question", "effect", "95 % interval", "p (Holm)", "verdict", "seeds", "smallest … largest",
                "no loss", "detectable", "remark")  # fmt: skip


def effects_table(data: Report) -> Html:
    """Every question with its answer, sortable."""
    analysis = data["analysis"]
    assert analysis is not None
    rows = [
        _effect_row(arm["name"], effect)
        for field in ("budgets", "targets", "accuracy") for arm in analysis["arms"] for effect in arm[field]
    ]  # fmt: skip
    return table(_EFFECT_HEAD, rows, caption="Every question and its answer", sortable=True)


def _effect_row(arm: str, effect: dict[str, Any]) -> Html:
    show = words.ratio if effect["kind"] == "target" else words.signed
    low, high = effect["minimum"], effect["maximum"]
    return element(
        "tr",
        element("th", arm, scope="row"),
        _cell(words.question(effect), numeric=False),
        _cell(words.effect_text(effect), effect["value"]),
        _cell(words.interval_text(effect), effect["low"]),
        _cell(words.p_value(effect["p_holm"]), effect["p_holm"]),
        _cell(badge(effect["verdict"]), numeric=False),
        _cell(effect["n"], effect["n"]),
        _cell("–" if low is None else f"{show(low)} … {show(high)}", low),
        _cell({True: "proven", False: "not proven", None: "–"}[effect["no_loss"]], numeric=False),
        _cell(show(effect["mde_family"]), effect["mde_family"]),
        _cell(_remark(effect), numeric=False, class_="remark"),
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


_RUN_HEAD = ("arm", "seed", "attempt", "status", "final metric", "train time", "off the clock", "FLOPs", "peak memory",
             "machine drift", "flags", "weights or error")  # fmt: skip


def runs_table(data: Report) -> Html:
    """Every attempt at every run, sortable; failures in words."""
    return table(_RUN_HEAD, map(_run_row, data["runs"]), sortable=True,
                 caption=f"{len(data['runs'])} runs, of which {len(counted(data))} count")  # fmt: skip


def _run_row(run: Run) -> Html:
    metrics = [point["metric"] for point in run["points"] if point["metric"] is not None]
    final = metrics[-1] if metrics and run["status"] == "done" else None
    drift = run["calibration"] and run["calibration"]["ratio"]
    off = sum(run["excluded"].values())
    flags = words.run_flags(run)
    seed = run["seed"]
    return element(
        "tr",
        element("th", run["arm"], scope="row"),
        _cell(seed, seed if isinstance(seed, int) else None),
        _cell(run["attempt"], run["attempt"]),
        _cell(run["status"], numeric=False, class_="failed" if run["status"] == "failed" else None),
        _cell(number(final), final),
        _cell(duration(run["seconds"]), run["seconds"]),
        _cell(duration(off), off),
        _cell(words.amount(run["flops"]), run["flops"]),
        _cell(words.bytes_(run["memory"]), run["memory"]),
        _cell(words.ratio(drift), drift),
        _cell(join((element("span", flag, class_="flag") for flag in flags), " "), numeric=False),
        _cell(run["error"] or (run["weights"] or "–")[:12], numeric=False, class_="remark" if run["error"] else "code"),
        class_=None if run["counts"] else "discounted",
    )
