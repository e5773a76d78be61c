"""Do the methods add up? Interactions in words; a description, never a verdict."""

from __future__ import annotations

from typing import Any

from . import words
from .data import Report
from .markup import Html, element
from .tables import number_cell, table, text_cell
from .words import TIMES, UNKNOWN, joined, ratio

__all__ = ["INTERACTIONS", "interaction_cell", "interaction_lines", "interaction_sentence", "interactions_table"]

INTERACTIONS = (
    "An arm with several methods beside arms with some of them shows whether effects add up. “May be chance” stands "
    "where the interval leaves it open. Many readings, none corrected for their number: a description, no verdicts."
)


def interaction_cell(item: dict[str, Any]) -> str:
    """Which arms an interaction is about; methods without their arguments.

    >>> interaction_cell({"kind": "pair", "arm": "both", "parts": ["blur", "ls"], "method": ""})
    'blur and ls together'
    >>> interaction_cell({"kind": "left_out", "arm": "both", "parts": ["ls"], "method": "blurpool(min_channels=16)"})
    'blurpool inside both'
    """
    if item["kind"] == "pair":
        return f"{joined(item['parts'])} together"
    return f"{item['method'].split('(')[0]} inside {item['arm']}"


def interaction_sentence(item: dict[str, Any], decimals: int, *, span: bool = False) -> str:
    """What an interaction says, in words, with its interval if asked for, and whether the interval leaves it open."""
    value, bound = item["value"], item["bound"]
    if value is None or bound == "?":
        return "unknown"
    if bound:
        return f"{'at least' if bound == '>=' else 'at most'} {_size(item | {'bound': ''}, decimals)}"
    said = (_pair if item["kind"] == "pair" else _inside)(item, value, decimals)
    low, high, neutral = item["low"], item["high"], 0.0 if item["axis"] == "budget" else 1.0
    if low is None or high is None:
        return f"{said}, without an interval"
    said += f" ({words.span_text(_effect(item), decimals)})" if span else ""
    return f"{said}, may be chance" if low <= neutral <= high else said


def _effect(item: dict[str, Any]) -> dict[str, Any]:
    """The same in the form of an effect: a gain for budgets, a factor for targets."""
    return item | {"kind": item["axis"]}


def _size(item: dict[str, Any], decimals: int) -> str:
    """The estimate with its sign or as a factor, and the direction of its bound."""
    return words.effect_text(_effect(item), decimals)


def _amount(value: float, decimals: int) -> str:
    """The size of a gain without its sign; "" where it rounds to nothing."""
    text = words.fixed(abs(value), decimals)
    return "" if float(text) == 0 else text


def _pair(item: dict[str, Any], value: float, decimals: int) -> str:
    if item["axis"] == "target":
        product = "the product of their speedups"
        return product if ratio(value) == f"1.00{TIMES}" else f"{ratio(value)} {product}"
    amount = _amount(value, decimals)
    return f"{amount} {'more' if value > 0 else 'less'} than the sum of both" if amount else "the sum of both"


def _inside(item: dict[str, Any], value: float, decimals: int) -> str:
    if item["axis"] == "target":
        return "as fast with it" if ratio(value) == f"1.00{TIMES}" else f"{ratio(value)} as fast with it"
    amount = _amount(value, decimals)
    return f"{amount} {'better' if value > 0 else 'worse'} with it" if amount else "as good with it"


def interaction_lines(data: Report) -> list[str]:
    """One sentence per cell of the designs, about the longest budget where something is known."""
    decimals, last = words.gain_decimals(data["analysis"]), {}
    for item in (data["analysis"] or {}).get("interactions") or ():
        cell = (item["kind"], item["arm"], *item["parts"], item["method"])
        if item["axis"] == "budget" and (item["value"] is not None or cell not in last):
            last[cell] = item
    return [
        f"{interaction_cell(item)}, at {item['label']}: {interaction_sentence(item, decimals, span=True)}."
        for item in last.values()
    ]


_HEAD = ("arms", "at", "in words", "#size", "#interval", "#p, alone", "#n")


def interactions_table(data: Report) -> Html | None:
    """Every interaction with its size, its interval and what it means; None without a design."""
    items = (data["analysis"] or {}).get("interactions") or ()
    if not items:
        return None
    decimals = words.gain_decimals(data["analysis"])
    rows = (_row(item, decimals) for item in items)
    return table(_HEAD, rows, caption="How methods combine (describes, decides nothing)")


def _row(item: dict[str, Any], decimals: int) -> Html:
    remark = element("div", item["reason"], class_="remark") if item["reason"] else None
    return element(
        "tr",
        element("th", interaction_cell(item), scope="row", class_="wrap"),
        text_cell(item["label"].split(" (")[0]),
        text_cell(interaction_sentence(item, decimals), remark, class_="said"),
        number_cell(_size(item, decimals), item["value"]),
        number_cell(words.span_text(_effect(item), decimals), item["low"]),
        number_cell(words.p_value(item["p"]), item["p"]),
        number_cell(item["n"] or UNKNOWN, item["n"]),
    )
