"""Method cards and the small immutable mapping they are made of."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten._core.card import EXACT, HORIZONS, TOUCHES, Action, Card, Component, Map

ITEMS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3))


def card(**changes) -> Card:
    fields = {
        "summary": "anti-aliased down-sampling",
        "component": "function",
        "action": "replace",
        "touches": {"surgery": "append"},
    }
    return Card(**{**fields, **changes})


@given(ITEMS)
def test_map_is_its_dictionary(items):
    mapping = Map(items)
    assert dict(mapping) == items
    assert len(mapping) == len(items)
    assert list(mapping) == sorted(items)
    assert all(mapping[name] == value for name, value in items.items())
    assert eval(repr(mapping), {"Map": Map}) == mapping


@given(ITEMS, ITEMS)
def test_maps_are_equal_and_hash_alike_when_their_items_are(one, two):
    assert (Map(one) == Map(two)) == (one == two)
    backwards = Map(dict(reversed(one.items())))
    assert backwards == Map(one)
    assert hash(backwards) == hash(Map(one))
    assert Map({**one, **two}) == Map(one | two)


def test_map_cannot_be_changed():
    mapping = Map({"a": 1}, b=2)
    assert dict(mapping) == {"a": 1, "b": 2}
    with pytest.raises(TypeError):
        mapping["a"] = 2
    with pytest.raises(KeyError):
        mapping["c"]
    with pytest.raises(AttributeError):
        mapping.c = 3


def test_map_survives_pickling():
    mapping = Map(a=1)
    assert pickle.loads(pickle.dumps(mapping)) == mapping


def test_card_coerces_to_immutable_values():
    made = card(after=["a", "b"], needs={"images"}, exact=["resume"], conflicts={"x": "both replace the loss"})
    assert made.component is Component.FUNCTION
    assert made.action is Action.REPLACE
    assert made.touches == Map(surgery="append")
    assert made.after == frozenset({"a", "b"})
    assert made.needs == frozenset({"images"})
    assert made.exact == frozenset({"resume"})
    assert hash(made) == hash(dataclasses.replace(made))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.summary = "other"


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("how", TOUCHES)
def test_known_values(horizon, how):
    assert card(horizon=horizon, touches={"loss": how}, exact=EXACT).touches["loss"] == how


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"summary": "  "}, "Card: expected a one-line summary"),
        ({"horizon": "never"}, "horizon among none, reversible, irreversible, got 'never'"),
        ({"exact": {"speed"}}, "exact among resume, workers, compile, microbatch, ddp, got "),
        ({"touches": {"loss": "alter"}}, r"touches\['loss'\] among replace, wrap, append, got 'alter'"),
        ({"component": "model"}, "'model' is not a valid Component"),
        ({"action": "retro"}, "'retro' is not a valid Action"),
    ],
)
def test_bad_cards(changes, text):
    with pytest.raises(ValueError, match=text):
        card(**changes)
