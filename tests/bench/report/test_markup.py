from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.report.markup import Html, element, join, json_script

PLAIN = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\x00")
)  # a parser changes these two


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(PLAIN, PLAIN)
def test_any_text_arrives_as_text_and_any_value_as_that_value(text: str, value: str) -> None:
    reader = read(element("p", text, class_=value))
    assert reader.tags == [("p", {"class": value})]
    assert reader.text == text


@given(PLAIN)
def test_any_text_survives_a_json_script(text: str) -> None:
    reader = read(json_script("data", {"name": text}))
    assert reader.tags == [("script", {"type": "application/json", "id": "data"})]
    assert json.loads(reader.text) == {"name": text}
    assert "\u2028" not in json_script("data", "\u2028\u2029")


def test_elements_nest_and_only_elements_are_markup() -> None:
    inner = element("b", "x")
    assert element("p", inner, "<i>", None) == "<p><b>x</b>&lt;i&gt;</p>"
    assert join(["a", Html("<br>"), "<"], " & ") == "a &amp; <br> &amp; &lt;"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert element("td", 3, data_sort=0, hidden=True, id=None, lang=False) == '<td data-sort="0" hidden>3</td>'
