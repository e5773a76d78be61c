"""`hasten methods`: the list, its filters, one card."""

from __future__ import annotations

import pytest

from hasten.cli import UsageError
from hasten.cli.methods import card_text, methods
from hasten.methods import catalogue, mixup


def listed(capsys: pytest.CaptureFixture[str], **filters: object) -> set[str]:
    assert methods(**filters) == 0  # type: ignore[arg-type]
    return {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_the_list_is_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == set(catalogue())


def test_filters_keep_what_the_cards_say(capsys: pytest.CaptureFixture[str]) -> None:
    cards = {name: factory.card for name, factory in catalogue().items()}
    assert listed(capsys, component="data") == {n for n, c in cards.items() if c.component == "data"}
    assert listed(capsys, action="remove") == {n for n, c in cards.items() if c.action == "remove"}
    assert listed(capsys, touches="losses") == {n for n, c in cards.items() if "losses" in c.touches}
    assert "layer_freezing" not in listed(capsys, reversible=True)
    assert listed(capsys, component="data", action="restrict") == {"progressive_resizing"}


def test_one_method_shows_its_arguments_and_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert methods("mixup") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("mixup(alpha=0.2, per_sample=False)")
    assert "data x retrofit" in shown
    assert "cutmix" in shown
    assert "1710.09412" in shown


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_card_says_what_it_costs_and_where_it_comes_from(name: str) -> None:
    shown = card_text(catalogue()[name])
    assert "cost:" in shown
    assert catalogue()[name].card.source in shown
    assert catalogue()[name].card.source


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"name": "mixap"}, "Did you mean mixup"),
        ({"component": "datta"}, "Did you mean data"),
        ({"action": "delete"}, "--action among remove"),
        ({"touches": "loss_es"}, "Did you mean"),
    ],
)
def test_what_does_not_exist_is_a_matter_of_usage(filters: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        methods(**filters)  # type: ignore[arg-type]


def test_a_factory_shows_its_signature() -> None:
    assert "alpha" in repr(mixup)
