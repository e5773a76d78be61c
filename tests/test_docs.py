"""The documentation is true: its code runs, its commands parse, its links lead somewhere, its tables match the source.

A Python block of a page runs after the ones before it, in one namespace and one empty folder for each page. Studies run
in this process; that they do in others is shown by the examples. Two comments before a block change that:

    <!-- file: wave.py -->      the block is written to that file, which later blocks may import or name
    <!-- no-run: reason -->     the block is not run, for that reason
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import hasten
from hasten.methods import catalogue

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "LOG.md"]
FENCE = re.compile(
    r"(?:^<!-- (?P<word>[a-z-]+): *(?P<value>[^\n]*?) *-->\n)?^```(?P<lang>\S*)\n(?P<code>.*?)^```$", re.M | re.S
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Blocks ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts at, and the comment before it."""

    lang: str
    code: str
    line: int
    word: str = ""
    value: str = ""


def blocks_of(text: str) -> list[Block]:
    return [
        Block(m["lang"], m["code"], text.count("\n", 0, m.start("code")) + 1, m["word"] or "", m["value"] or "")
        for m in FENCE.finditer(text)
    ]


def run_page(text: str, name: str) -> int:
    """Run the Python blocks of a page in the current folder; returns how many were run or written."""
    namespace, done = {"__name__": "page"}, 0
    for block in blocks_of(text):
        if block.lang != "python":
            continue
        if block.word == "no-run":
            assert block.value, f"{name}, line {block.line}: no-run needs a reason"
            continue
        if block.word == "file":
            Path(block.value).write_text(block.code, encoding="utf-8")
            importlib.invalidate_caches()
        else:
            shifted = "\n" * (block.line - 1) + block.code  # so that a traceback shows the line of the page
            exec(compile(shifted, name, "exec"), namespace)
        done += 1
    return done


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """An empty current folder whose files can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module, loaded in list(sys.modules.items()):
        if str(getattr(loaded, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[module]


WITH_CODE = [page for page in PAGES if any(block.lang == "python" for block in blocks_of(page.read_text("utf-8")))]


LONG = {  # whole studies, run among the longer tests: what is named here does the same in the default run
    "docs/guides/compare_two_recipes.md": "examples/02_compare.py",
    "docs/guides/share_studies.md": "tests/bench/test_merge.py and test_publish.py",
}


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=name_of(p), marks=[pytest.mark.slow] * (name_of(p) in LONG)) for p in WITH_CODE],
)
def test_python_blocks_run(page, empty_folder, capsys, no_processes):
    text = page.read_text(encoding="utf-8")
    if "hasten.compare(" in text:
        pytest.importorskip("sklearn", reason="needs the extra bench")
    assert run_page(text, name_of(page)) > 0


def test_the_runner_itself(empty_folder):
    page = """
<!-- file: part.py -->
```python
value = 1
```

```python
import part
total = part.value + 1
```

```python
assert total == 2
```

<!-- no-run: needs a GPU -->
```python
raise RuntimeError
```

```sh
not python
```
"""
    assert run_page(page, "page") == 3
    with pytest.raises(AssertionError, match="no-run needs a reason"):
        run_page(page.replace("no-run: needs a GPU", "no-run: "), "page")
    with pytest.raises(AssertionError) as caught:
        run_page(page.replace("total == 2", "total == 3"), "page")
    assert caught.traceback[-1].lineno + 1 == 13


# Commands -------------------------------------------------------------------------------------------------------------


def commands_of(page: Path) -> list[str]:
    """The commands in the console and sh blocks of a page."""
    found = []
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.lang in ("console", "sh"):
            lines = block.code.replace("\\\n", " ").splitlines()
            prompt = "$ " if block.lang == "console" else ""
            found += [line.removeprefix(prompt).strip() for line in lines if line.startswith(prompt) and line.strip()]
    return found


COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


def app_of(verb: str):
    """The verb as `hasten.cli` gives it to cyclopts."""
    import cyclopts

    found = getattr(importlib.import_module(f"hasten.cli.{verb}"), verb)
    if isinstance(found, cyclopts.App):
        return found
    app = cyclopts.App(name=verb, default_parameter=cyclopts.Parameter(negative=()))
    app.default(found)
    return app


def options_of(app) -> set[str]:
    """The options of a verb; what is given without a name is named as if it had one."""
    import cyclopts

    default = cyclopts.Parameter(negative=())
    names = [n for argument in app.assemble_argument_collection(default_parameter=default) for n in argument.names]
    return {name if name.startswith("-") else f"--{name.lower()}" for name in names}


def parts_of(verb: str, section: str) -> dict[str, tuple[object, str]]:
    """What a section says of a verb; of one that has verbs of its own, what each of its parts says."""
    app = app_of(verb)
    verbs = [name for name in app if not name.startswith("-")]
    if not verbs:
        return {verb: (app, section)}
    texts = dict(re.findall(rf"^### hasten {verb} (\w+)\n(.*?)(?=^### |\Z)", section, flags=re.M | re.S))
    assert set(texts) == set(verbs)
    return {f"{verb} {name}": (app[name], texts[name]) for name in verbs}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("hasten ")])
def test_hasten_commands_parse(command):
    pytest.importorskip("cyclopts", reason="needs the extra bench")
    from hasten.cli import VERBS
    from hasten.cli.arms import parse_arms
    from hasten.methods import find
    from hasten.schedules import parse

    _, verb, *words = shlex.split(command)
    assert verb in VERBS
    _, bound, _ = app_of(verb).parse_args(words, exit_on_error=False, print_error=False)
    given = bound.arguments
    if verb == "compare" and "arms" in given:
        assert parse_arms(given["arms"])
    if verb == "schedule":
        parse(given["spec"])
    if verb == "methods" and "name" in given:
        find(given["name"])


def test_a_wrong_command_is_noticed():
    cyclopts = pytest.importorskip("cyclopts", reason="needs the extra bench")
    with pytest.raises(cyclopts.CycloptsError):
        app_of("compare").parse_args(["digits", "--sedes", "3"], exit_on_error=False, print_error=False)


def test_other_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    for command in COMMANDS:
        first, *rest = shlex.split(command)
        assert first in ("hasten", "make", "pip"), command
        if first == "make":
            assert set(rest) <= targets, command


def test_the_command_line_page_lists_every_verb_and_option():
    pytest.importorskip("cyclopts", reason="needs the extra bench")
    from hasten.cli import VERBS

    text = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## hasten (\w+)\n(.*?)(?=^## )", text, flags=re.M | re.S))
    assert set(sections) == set(VERBS)
    for verb, (app, section) in {k: v for name in VERBS for k, v in parts_of(name, sections[name]).items()}.items():
        rows = re.findall(r"^\| (`.*?) \|", section, flags=re.M)
        listed = {word for row in rows for word in re.findall(r"`([^`]+)`", row)}
        named = {word if word.startswith("-") else f"--{word.lower()}" for word in listed}
        assert named == options_of(app), verb


def test_every_environment_variable_is_listed():
    text = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src/hasten").rglob("*.py")]
    used = {name for source in sources for name in re.findall(r"\bHASTEN_[A-Z_]*[A-Z]\b", source)}
    assert used == set(re.findall(r"^\| `(HASTEN_\w+)`", text, flags=re.M))


# The catalogue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_method_is_documented(name):
    card = catalogue()[name].card
    where = f"{card.component.value} \N{MULTIPLICATION SIGN} {card.action.value}"
    assert (ROOT / f"docs/methods/{name}.md").is_file()
    for page, link in (("README.md", f"docs/methods/{name}.md"), ("docs/methods/index.md", f"{name}.md")):
        assert f"| [{name}]({link}) | {where} |" in (ROOT / page).read_text(encoding="utf-8"), page
    reference = (ROOT / "docs/reference/methods.md").read_text(encoding="utf-8")
    assert f".. autofunction:: hasten.methods.{name}\n" in reference


def test_the_taxonomy_table_is_the_catalogue():
    from hasten.program import Action, Component

    text = (ROOT / "docs/concepts/taxonomy.md").read_text(encoding="utf-8")
    header = f"| | {' | '.join(action.value for action in Action)} |"
    assert header in text
    rows = {row[0]: row[1] for row in re.findall(r"^\| \*\*(\w+)\*\* (\|.*)\|$", text, flags=re.M)}
    for component in Component:
        cells = rows[component.value].removeprefix("|").split("|")
        for action, cell in zip(Action, cells, strict=True):
            here = {
                name
                for name, factory in catalogue().items()
                if (factory.card.component, factory.card.action) == (component, action)
            }
            assert set(re.findall(r"\[(\w+)\]", cell)) == here, (component, action)


# Tables that repeat the source ----------------------------------------------------------------------------------------


def test_the_formats_page_names_every_column():
    from hasten.bench.report.export import COLUMNS
    from hasten.bench.stats import Row
    from hasten.bench.store import _TABLES, SCHEMA

    text = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    columns = set(re.findall(r"(\w+) (?:TEXT|INTEGER|REAL)", _TABLES))
    assert columns >= {"arm", "fingerprint", "metric"}
    assert columns <= named
    assert f"`study.sqlite`, schema {SCHEMA}" in text
    assert set(COLUMNS) | set(inspect.signature(Row).parameters) <= named


def test_the_workload_guide_names_every_setting():
    from hasten.bench import workloads
    from hasten.bench.workloads import base

    source = inspect.getsource(base) + inspect.getsource(workloads.arms_of)
    read = set(re.findall(r'get(?:attr)?\((?:\w+, )?"([A-Z_]+)"', source))
    assert {"DURATION", "LEARNING_RATE", "ARMS"} <= read
    text = (ROOT / "docs/guides/bring_your_own_workload.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"`([A-Z_]{4,})`", text))


def test_every_public_module_has_a_reference_page():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    rooms = [module.name for module in pkgutil.iter_modules(hasten.__path__) if not module.name.startswith("_")]
    for room in set(rooms) - {"bench", "cli"}:
        assert f".. automodule:: hasten.{room}\n" in pages, room


def test_changelog_and_log():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.search(rf"^## \[(Unreleased\]: )?{re.escape(version)}\b", changelog, flags=re.M)
    assert f"\n## {version}\n" in (ROOT / "LOG.md").read_text(encoding="utf-8")


# Links ----------------------------------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors_of(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", without_blocks(page.read_text("utf-8")), flags=re.M)}


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page):
    prose = re.sub(r"`[^`\n]*`", "", without_blocks(page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


def test_docstrings_name_pages_that_exist():
    for path in (ROOT / "src/hasten").rglob("*.py"):
        for page in re.findall(r"\bdocs/[\w/]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{path.name}: {page}"


# Docstrings -----------------------------------------------------------------------------------------------------------


def test_every_module_is_imported_and_its_examples_are_collected(request):
    names = [module.name for module in pkgutil.walk_packages(hasten.__path__, "hasten.")]
    assert len(names) > 50
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != "cyclopts":  # the command line without the extra bench
                raise
    # pytest itself runs the examples in docstrings: as part of the default run, and under this option.
    assert request.config.getoption("doctestmodules")
    assert "src/hasten" in request.config.getini("testpaths")
