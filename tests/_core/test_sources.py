"""A user's file as content: what it imports is hashed with it, an edit is another program, errors say where."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hasten._core import sources
from hasten._core.call import bind, call, resolve


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Modules that a test imports are forgotten after it."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def files(folder: str = "", **texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / folder

    return files


def load(path: Path) -> ModuleType:
    return sources.load(sources.read(path), path)


def names(path: Path) -> list[str]:
    return [name for name, _ in sources.read(path).files]


def test_a_file_is_its_content(write: Callable[..., Path]) -> None:
    one, two = write("a", main="X = 1\n") / "main.py", write("b", main="X = 1\n") / "main.py"
    assert sources.read(one) == sources.read(two)
    assert len(sources.read(one).digest) == 16
    two.write_text("X = 1  # a comment counts\n")
    assert sources.read(one).digest != sources.read(two).digest
    other = one.rename(one.with_name("other.py"))
    assert sources.read(other).digest != sources.read(write("c", main="X = 1\n") / "main.py").digest


def test_line_ends_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    path.write_bytes(b"X = 1\nY = 2\n")
    digest = sources.read(path).digest
    path.write_bytes(b"X = 1\r\nY = 2\r\n")
    assert sources.read(path).digest == digest


def test_sibling_imports_are_hashed_however_they_are_written(write: Callable[..., Path]) -> None:
    files = {
        "main": "import one, os\nfrom two import x\ndef f():\n    import package.deep\n    import bare.inner\n",
        "one": "import three as t\n",
        "two": "x = 1\n",
        "three": "",
        "unused": "",
        "package/__init__": "from . import beside\nfrom .deep import y\n",
        "package/deep": "from ..package import other\ny = 1\n",
        "package/beside": "",
        "package/other": "",
        "beside": "# not this one: the import is relative\n",
        "bare/inner": "",
    }
    folder = write(**files)
    assert names(folder / "main.py") == [
        "main.py", "bare/inner.py", "one.py", "package/__init__.py", "package/beside.py", "package/deep.py",
        "package/other.py", "three.py", "two.py",
    ]  # fmt: skip


def test_a_circle_of_imports_is_read_once(write: Callable[..., Path]) -> None:
    folder = write(main="import one\n", one="import two\n", two="import one\nimport main\n")
    assert names(folder / "main.py") == ["main.py", "one.py", "two.py"]


def test_an_edited_sibling_is_another_source_and_is_read_again(write: Callable[..., Path]) -> None:
    folder = write(
        main="from helper import VALUE\nimport helper\ndef get():\n    return helper.VALUE\n", helper="VALUE = 1\n"
    )
    first = load(folder / "main.py")
    digest = sources.read(folder / "main.py").digest
    write(helper="VALUE = 2\n")
    second = load(folder / "main.py")
    assert sources.read(folder / "main.py").digest != digest
    assert (first.VALUE, second.VALUE) == (1, 2)
    assert (first.get(), second.get()) == (1, 2)
    assert bind(first.get) != bind(second.get)
    assert bind(first.get).build()() == 1


def test_the_same_content_is_loaded_once(write: Callable[..., Path]) -> None:
    path = write(main="X = object()\n") / "main.py"
    assert load(path) is load(path)


def test_siblings_of_one_name_in_two_folders_do_not_meet(write: Callable[..., Path]) -> None:
    """Two workloads in one session, each with its own helper.py, whose functions are re-exported."""
    text = "from helper import loss\n"
    one = load(write("a", main=text, helper="def loss():\n    return 'a'\n") / "main.py")
    two = load(write("b", main=text, helper="def loss():\n    return 'b'\n") / "main.py")
    targets = [bind(one.loss), bind(two.loss)]
    assert [target.target.split(":")[2] for target in targets] == ["helper", "helper"]
    assert [target.build()() for target in targets] == ["a", "b"]


def test_code_names_its_content(write: Callable[..., Path]) -> None:
    path = write(main="def f(x=1):\n    return x\nclass A:\n    class B:\n        pass\n") / "main.py"
    module, digest = load(path), sources.read(path).digest
    assert bind(module.f).target == f"user:{digest}:f"
    assert call(module.A.B).target == f"user:{digest}:A.B"
    assert isinstance(call(module.A.B).build(), module.A.B)
    assert resolve(f"user:{digest}:f") is module.f
    assert sources.module_of(digest) is module


def test_a_file_may_name_its_own_functions_while_it_is_imported(write: Callable[..., Path]) -> None:
    text = "from hasten.program import bind\ndef f():\n    return 7\nCALL = bind(f)\n"
    assert load(write(main=text) / "main.py").CALL.build()() == 7


def test_an_ordinary_import_of_a_loose_file_is_hashed_too(write: Callable[..., Path]) -> None:
    """A script's own helper: without its content in the program, an edit would meet the old results."""
    folder = write(my_loose_methods="import my_loose_constant\ndef f():\n    return 1\n", my_loose_constant="C = 1\n")
    sys.path.insert(0, str(folder))
    module = importlib.import_module("my_loose_methods")
    before = bind(module.f)
    assert before.target == f"user:{sources.read(folder / 'my_loose_methods.py').digest}:f"
    assert before.build() is module.f
    write(my_loose_constant="C = 2\n")
    assert bind(module.f) != before
    assert {source.files[0][0] for source in sources.sources_of([before.target.split(":")[1]])} == {
        "my_loose_methods.py"
    }


def test_code_of_packages_and_of_the_library_is_named_by_name(write: Callable[..., Path]) -> None:
    folder = write(**{"my_loose_package/__init__": "", "my_loose_package/part": "def f():\n    return 1\n"})
    sys.path.insert(0, str(folder))
    part = importlib.import_module("my_loose_package.part")
    assert bind(part.f).target == "my_loose_package.part:f"
    assert sources.place_of(Path) is None
    assert sources.place_of(pytest.raises) is None


def test_writing_and_loading_elsewhere(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = write("a", **{"main": "from deep.helper import x\n", "deep/helper": "x = 'ü'\n"})
    source = sources.read(folder / "main.py")
    entry = source.write(tmp_path / "stored")
    assert entry == tmp_path / "stored" / source.digest / "main.py"
    assert sources.read(entry) == source
    assert sources.load(source, entry).x == "ü"
    assert (source, entry) in sources.entries()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\ndef f(:\n    pass\n", r"expected valid Python, got .*main\.py, line 2: "),
        (
            "x = 1\n\nraise KeyError('gone')\n",
            r"a file that can be imported, got .*main\.py, line 3: KeyError: 'g",
        ),
        (
            "import no_such_module_here\n",
            r"main\.py, line 1: ModuleNotFoundError: No module named 'no_such",
        ),
        ("def f():\n    return y\n\nf()\n", r"main\.py, line 2: NameError"),
        ("x = '\x00'\n", "expected valid Python, got .*main.py"),
    ],
)
def test_a_broken_file_is_refused_with_the_line(text: str, reason: str, write: Callable[..., Path]) -> None:
    path = write(main=text) / "main.py"
    before = set(sys.modules)
    for _ in range(2):  # nothing half-loaded is left to be found the second time
        with pytest.raises(ValueError, match=reason):
            load(path)
    assert not [name for name in set(sys.modules) - before if name.startswith("hasten_user_")]
    assert str(path.parent) not in sys.path


def test_a_broken_sibling_is_named(write: Callable[..., Path]) -> None:
    folder = write(main="import helper\n", helper="\n\n1 +\n")
    with pytest.raises(ValueError, match=r"helper\.py, line 3: "):
        load(folder / "main.py")
    write(helper="\n\nx = 1 / 0\n")
    with pytest.raises(ValueError, match=r"helper\.py, line 3: ZeroDivisionError"):
        load(folder / "main.py")


def test_ctrl_c_while_a_file_is_imported_is_not_its_error(write: Callable[..., Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(write(main="raise KeyboardInterrupt\n") / "main.py")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a Python file that exists, got .*`hasten new workload` writes one"):
        sources.read(tmp_path / "absent.py")
    with pytest.raises(ValueError, match="expected a Python file that exists"):
        sources.read(tmp_path)
    (tmp_path / "latin.py").write_bytes(b"x = '\xfc'\n")
    with pytest.raises(ValueError, match="expected text in UTF-8, got .*latin.py: invalid start byte at byte 5"):
        sources.read(tmp_path / "latin.py")
    (tmp_path / "notes.txt").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"expected a Python file, got .*notes\.txt\. Its name must end in \.py"):
        load(tmp_path / "notes.txt")


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a user file that has been loaded, got digest feedfeedfeedfeed"):
        sources.module_of("feedfeedfeedfeed")
    with pytest.raises(KeyError):
        sources.sources_of(["feedfeedfeedfeed"])
