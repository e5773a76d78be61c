"""The catalogue as a list: complete cards, stable JSON, helpful refusals, and methods of other people's packages."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest
from tests.contract.battery import IMAGES, NAMES, PLACES, SMALL, TEXT, WORKLOADS, checked

from hasten import methods
from hasten._core.card import EXACT
from hasten.bench.plan import make_plan
from hasten.bench.workloads import NAMES as BUILT_IN
from hasten.bench.workloads import load
from hasten.program import Card, Method, MethodFactory, Program, ProgramError, plug_ins

DOCS = Path(__file__).parents[2] / "docs" / "methods"


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_complete(name: str) -> None:
    factory = methods.find(name)
    card = factory.card
    assert isinstance(factory, MethodFactory)
    assert isinstance(card, Card)
    for text in (card.summary, card.cost, card.source):
        assert text.strip()
        assert "\n" not in text
    assert card.summary.endswith(".")
    assert card.touches
    assert card.exact <= set(EXACT)
    assert all(reason.strip() for reason in card.conflicts.values())
    assert all(methods.find(other).card.conflicts.get(name) for other in card.conflicts), "said from both sides"
    assert inspect.getdoc(factory)
    assert getattr(methods, name) is factory
    assert name in methods.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_a_page(name: str) -> None:
    """The idea, a snippet, when it pays and when not, and the paper that the card names."""
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith("# ")
    assert "```python" in page
    assert re.search(r"pays", page)
    number = re.search(r"\d{4}\.\d{4,5}", methods.find(name).card.source)
    assert number is None or number[0] in page


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_has_a_default_and_a_type(name: str) -> None:
    factory = methods.find(name)
    for parameter in factory.__signature__.parameters.values():
        assert parameter.default is not inspect.Parameter.empty
        assert parameter.annotation in (int, float, str, bool)
    assert factory() == factory(**{p.name: p.default for p in factory.__signature__.parameters.values()})
    with pytest.raises(TypeError, match="nonsense"):
        factory(nonsense=1)


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_json_is_the_program(where: str, name: str) -> None:
    program = WORKLOADS[where].program.then(SMALL[name], SMALL["label_smoothing"].named("another"))
    text = program.to_json()
    again = Program.from_json(text, trust=True)
    assert again == program
    assert again.fingerprint() == program.fingerprint()
    assert again.to_json() == text
    assert Method.of(name, SMALL[name].call) == SMALL[name]


@pytest.mark.parametrize("workload", BUILT_IN)
def test_programs_of_built_in_workloads_need_no_trust(workload: str) -> None:
    loaded = load(workload)
    for name in NAMES:
        program = loaded.program.then(SMALL[name])
        assert Program.from_json(program.to_json()) == program


def test_a_misspelt_method_is_met_with_near_names() -> None:
    with pytest.raises(ValueError, match=r"expected the name of a method, got 'blurpol'\. Did you mean blurpool\?"):
        methods.find("blurpol")
    with pytest.raises(ValueError, match=r"Known: blurpool, channels_last, .*stochastic_depth\."):
        methods.find("xyzzy")


@pytest.mark.parametrize("name", sorted({name for name in NAMES if ("text", name) not in PLACES}))
def test_a_workload_that_lacks_what_a_method_needs_refuses_it(name: str) -> None:
    with pytest.raises(ValueError, match=rf"arm 'arm': {name}: expected a workload with .* got .*Leave {name} out for"):
        checked(TEXT.program.then(SMALL[name]), TEXT)


def test_a_method_that_finds_nothing_is_an_error_before_anything_runs() -> None:
    with pytest.raises(ProgramError, match="arm 'blur': blurpool: expected something to change in this model, found"):
        make_plan(IMAGES, {"base": [], "blur": [methods.blurpool(min_channels=1000)]}, points=1)
    with pytest.raises(ProgramError, match="stochastic_depth: expected something to change"):
        make_plan(IMAGES, {"base": [], "deep": [methods.stochastic_depth(branches="nothing")]}, points=1)


PLUG_IN = '''
from hasten.program import Card, method
from hasten.data import mixup
from hasten.program import bind

@method(Card("Their own method.", "data", "retrofit", {"batch": "append"}))
def theirs(program, name, alpha: float = 0.5):
    """Theirs."""
    return program.append("batch", name, bind(mixup, alpha=alpha), stage=60)

@method(Card("Takes a name that is taken.", "data", "retrofit", {"batch": "append"}))
def mixup_(program, name):
    return program
mixup_.name = "mixup"

def no_method():
    pass
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *points: str, text: str = PLUG_IN) -> None:
    """A package on the path with a `.dist-info`, as pip leaves one."""
    (folder / "their_package").mkdir()
    (folder / "their_package" / "__init__.py").write_text("")
    (folder / "their_package" / "speedups.py").write_text(text)
    info = folder / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[hasten.methods]", *points]))
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.startswith("their_package")]:
        monkeypatch.delitem(sys.modules, name)


def test_methods_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "theirs = their_package.speedups:theirs")
    assert [point.name for point in plug_ins()] == ["theirs"]
    assert "their_package" not in sys.modules  # listing imports nothing
    found = methods.find("theirs")
    assert set(methods.catalogue()) == {*NAMES, "theirs"}
    program = IMAGES.program.replace(data=load("digits").program.data).then(found(0.25), SMALL["sam"])
    assert program.batch[0].call["alpha"] == 0.25
    assert "their_package.speedups:theirs" in program.to_json()


def test_their_code_is_trusted_because_it_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "theirs = their_package.speedups:theirs")
    program = load("digits").program.then(methods.find("theirs")())
    assert Program.from_json(program.to_json()) == program
    monkeypatch.undo()
    with pytest.raises(ValueError, match="expected catalogue code only"):
        Program.from_json(program.to_json())


@pytest.mark.parametrize(
    ("point", "text", "reason"),
    [
        ("theirs = their_package.speedups:no_method", PLUG_IN, "expected a method named 'theirs' at their_package"),
        ("other = their_package.speedups:theirs", PLUG_IN, "expected a method named 'other' at their_package"),
        ("mixup = their_package.speedups:mixup_", PLUG_IN, "expected a name that is free, for their_package.*'mixup'"),
        (
            "theirs = their_package.speedups:missing",
            PLUG_IN,
            "expected a plug-in that can be loaded, got their_package",
        ),
        (
            "theirs = their_package.speedups:theirs",
            "import does_not_exist",
            "expected a plug-in that can be loaded, got",
        ),
    ],
)
def test_bad_plug_ins_are_refused_by_name(
    point: str, text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, point, text=text)
    with pytest.raises(ValueError, match=reason):
        methods.catalogue()
