"""Does a verdict survive? The rule, its words and its table; pure functions of verdicts and plain data.

A verdict makes up to two claims: "pays" that the arm has been shown to pay somewhere, "costs" that it has been shown to
cost somewhere, "mixed" both. "Tie" and "not proven" claim nothing. A variant

    confirms      the verdict if it makes the same claims;
    contradicts   it if it makes a claim that the original does not make (pays -> costs, and also pays -> mixed);
    leaves it open in every other case: "not proven" in a variant is neither survival nor refutation, it may be a matter
                  of seeds.

Where the original claims nothing, there is nothing to confirm and nothing to contradict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .report import words
from .report.data import printable
from .report.terminal import GAP, _blocks, _Cell, _grid, _Style, _style, _verdict

__all__ = ["ORIGINAL", "answer", "arm_row", "notes_of", "sentence", "table"]

ORIGINAL = "original"
CLAIMS = {"pays": {"pays"}, "costs": {"costs"}, "mixed": {"pays", "costs"}}
CONFIRMED, UNPROVEN, CONTRADICTED = "confirmed", "unproven", "contradicted"


def answer(original: str, variant: str) -> str:
    """What a variant's verdict says about the original's: "confirmed", "unproven" or "contradicted".

    >>> answer("pays", "pays"), answer("pays", "not proven"), answer("pays", "mixed"), answer("not proven", "costs")
    ('confirmed', 'unproven', 'contradicted', 'unproven')
    """
    claimed, found = CLAIMS.get(original, set()), CLAIMS.get(variant, set())
    if not claimed:
        return UNPROVEN
    return CONFIRMED if found == claimed else CONTRADICTED if found - claimed else UNPROVEN


def sentence(original: str, variants: Mapping[str, str]) -> str:
    """An arm's verdict and what became of it.

    Args:
        original: its verdict in the original study.
        variants: variant -> its verdict there.

    >>> sentence("pays", {"width": "pays", "norm": "pays", "batch": "not proven"})
    'pays; survives in 2 of 3 variants: not proven with batch.'
    >>> sentence("pays", {"width": "costs", "norm": "pays"})
    'pays; survives in 1 of 2 variants: contradicted with width (costs).'
    """
    if not variants:
        return f"{original}; no variant has a verdict yet."
    by_verdict: dict[str, list[str]] = {}
    for name, verdict in variants.items():
        by_verdict.setdefault(verdict, []).append(name)
    if original not in CLAIMS:
        elsewhere = [f"{word} with {words.joined(by_verdict[word])}" for word in CLAIMS if word in by_verdict]
        aside = f" ({'; '.join(elsewhere)})" if elsewhere else ""
        return f"{original} on the original: nothing to confirm{aside}."
    rest = [f"{verdict} with {words.joined(names)}" for verdict, names in by_verdict.items()
            if answer(original, verdict) == UNPROVEN]  # fmt: skip
    against = [f"{name} ({verdict})" for name, verdict in variants.items() if answer(original, verdict) == CONTRADICTED]
    rest += [f"contradicted with {words.joined(against)}"] if against else []
    tail = f": {'; '.join(rest)}" if rest else ""
    return f"{original}; survives in {_share(original, variants)}{tail}."


def _share(original: str, variants: Mapping[str, str]) -> str:
    survived = sum(answer(original, verdict) == CONFIRMED for verdict in variants.values())
    total = len(variants)
    if survived == total:
        return f"all {total} variants" if total > 1 else "the one variant"
    return f"{survived or 'none'} of {total} variant{'s' * (total > 1)}"


def arm_row(name: str, original: str, variants: Mapping[str, str]) -> dict[str, Any]:
    """An arm as plain data: its verdicts, the three counts, the sentence."""
    answers = [answer(original, verdict) for verdict in variants.values()]
    counts = {word: answers.count(word) for word in (CONFIRMED, UNPROVEN, CONTRADICTED)}
    text = sentence(original, variants)
    return {"name": name, "original": original, "variants": dict(variants), **counts, "sentence": text}


def notes_of(studies: int, alpha: float) -> list[str]:
    """What to keep in mind when several studies are read together.

    Args:
        studies: how many have a verdict, the original included.
        alpha: error rate of each.
    """
    return [
        "A verdict survives in a variant that gives the same verdict. Not proven is neither survival nor refutation: "
        "more seeds may decide.",
        f"Each study is corrected on its own (Holm, {words.percent(alpha)}). That some verdict of {studies} studies is "
        f"false has a chance of up to {words.percent(min(1.0, round(studies * alpha, 6)))}.",
    ]


# The table ------------------------------------------------------------------------------------------------------------


def table(
    data: dict[str, Any], *, width: int | None = None, color: bool | None = None, unicode: bool | None = None
) -> str:
    """The answer in a terminal: arms down, variants across, a sentence for each arm, and what to keep in mind.

    Args:
        data: `Robustness.data`.
        width, color, unicode: as in `hasten.bench.report.terminal.table`.
    """
    data, style = printable(data), _style(width, color, unicode)
    lines = [style.paint(line, "bold") for line in style.wrap(f"{data['workload']}: does the verdict survive?")]
    lines += ["", *_changes(style, data)]
    if data["arms"]:
        lines += ["", *_verdicts(style, data), "", *_sentences(style, data)]
    missing = [f"without {name}: {reason}" for name, reason in data["unavailable"].items()]
    lines += ["", *(line for text in missing for line in _hanging(style, text, "  "))] if missing else []
    lines += ["", *(line for text in data["notes"] for line in _hanging(style, text, "- "))] if data["notes"] else []
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _changes(style: _Style, data: dict[str, Any]) -> list[str]:
    room = max(map(len, data["changes"]), default=0)
    pairs = [(f"{name.ljust(room)}{GAP}", change) for name, change in data["changes"].items()]
    return [line for name, change in pairs for line in _hanging(style, change, name)]


def _hanging(style: _Style, text: str, first: str) -> list[str]:
    """The text in lines, the first one after `first` and the others below its beginning."""
    lines = style.wrap(text, indent=" " * len(first)) or [""]
    return [first + lines[0][len(first) :], *lines[1:]]


def _verdicts(style: _Style, data: dict[str, Any]) -> list[str]:
    """Arms down, the original and the variants across, in as many blocks as the width needs."""
    columns = [[_Cell("arm"), *(_Cell(style.name(arm["name"])) for arm in data["arms"])]]
    columns.append([_Cell(ORIGINAL), *(_verdict(arm["original"]) for arm in data["arms"])])
    names = data["arms"][0]["variants"]
    columns += [[_Cell(name), *(_verdict(arm["variants"][name]) for arm in data["arms"])] for name in names]
    grids = [_grid(style, list(zip(*block, strict=True)), left=len(block)) for block in _blocks(style, columns)]
    return [line for grid in grids for line in ("", *grid)][1:]


def _sentences(style: _Style, data: dict[str, Any]) -> list[str]:
    pairs = [(f"{style.name(arm['name'])}: ", arm["sentence"]) for arm in data["arms"]]
    return [line for name, text in pairs for line in style.wrap(name + text)]
