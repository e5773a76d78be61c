"""HTML that is safe by construction: text is escaped where an element is made, and only elements are `Html`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

__all__ = ["Html", "element", "join", "json_script"]

_VOID = frozenset({"br", "hr", "input", "meta"})


class Html(str):
    """A string that is markup already."""

    __slots__ = ()


def _safe(child: object) -> str:
    return child if isinstance(child, Html) else html.escape(str(child), quote=False)


def join(children: Iterable[object], between: str = "") -> Html:
    """Children side by side; whatever is not `Html` is escaped."""
    return Html(html.escape(between).join(_safe(child) for child in children))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """One element; children and attribute values are escaped.

    Args:
        tag: its name, from our own code.
        children: `Html`, or anything else as text; None is left out.
        attributes: `class_` is class, `data_sort` is data-sort; None and False are left out, True stands alone.

    >>> element("b", "a < b", class_="x", hidden=True)
    '<b class="x" hidden>a &lt; b</b>'
    """
    text = [f"<{tag}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        text.append(f" {name}" if value is True else f' {name}="{html.escape(str(value))}"')
    body = join(child for child in children if child is not None)
    return Html("".join(text) + (">" if tag in _VOID else f">{body}</{tag}>"))


def json_script(name: str, data: Any) -> Html:
    """`data` in a script element that is not executed, for `JSON.parse(document.getElementById(name).textContent)`.

    Inside a script element only `</` and `<!--` can end or change the parser's state, so `<` is written as an escape
    of JSON; U+2028 and U+2029 are escaped by `ensure_ascii`.

    >>> json_script("d", {"arm": "</script>"})
    '<script type="application/json" id="d">{"arm":"\\\\u003c/script>"}</script>'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="{html.escape(name)}">{text}</script>')
