"""`hasten methods`: the list, its filters, and one method's card."""

from __future__ import annotations

import pytest

from hasten import methods
from hasten.cli import main


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["methods", *words]) == 0
    return [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_everything_by_component_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    names = listed(capsys)
    assert set(names) == set(methods.catalogue())
    component = {name: factory.card.component for name, factory in methods.catalogue().items()}
    assert names == sorted(names, key=lambda name: (component[name], name))
    assert main(["methods"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.split()[:3] == ["cutmix", "data", "retrofit"]
    assert first.endswith(methods.cutmix.card.summary)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (
            ["--component", "function"],
            ["blurpool", "channels_last", "gradual_pruning", "layer_freezing", "stochastic_depth"],
        ),
        (["--action", "restrict"], ["progressive_resizing", "gradient_clipping"]),
        (["--touches", "optimizer"], ["flash_adamw", "flash_lion", "flash_sgd", "sam"]),
        (["--touches", "losses", "--component", "data"], ["cutmix", "mixup"]),
        (["--component", "function", "--reversible"], ["blurpool", "channels_last", "stochastic_depth"]),
        (["--touches", "precision"], ["flash_adamw", "flash_lion", "flash_sgd"]),
        (["--touches", "compile"], []),
    ],
)
def test_filters(words: list[str], names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, *words) == names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--component", "model"], "methods: expected --component among function, data, optimization, got 'model'"),
        (["--action", "restric"], "got 'restric'. Did you mean restrict"),
        (["--touches", "batches"], "Did you mean batch"),
        (["emma"], "methods: expected the name of a method, got 'emma'. Did you mean ema?"),
        (["ema", "--component", "data"], "methods: expected a name or filters, got both"),
    ],
)
def test_usage_errors(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err


@pytest.mark.parametrize("name", methods.catalogue())
def test_a_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", name]) == 0
    out, card = capsys.readouterr().out, methods.find(name).card
    assert out.startswith(f"{name}(")
    for text in (card.summary, f"{card.component} x {card.action}", card.cost, card.source, card.horizon):
        assert text in out
    for slot, how in card.touches.items():
        assert f"{slot} ({how})" in out
    assert "<class" not in out.splitlines()[0]


def test_arguments_and_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    main(["methods", "sam"])
    assert capsys.readouterr().out.splitlines()[0] == "sam(rho=0.05, epsilon=1e-12, interval=1)"
