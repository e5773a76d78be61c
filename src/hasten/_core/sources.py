"""A user's file as content: the file and the siblings it imports, hashed, importable again from the stored text.

A program that uses a user's file names it by digest. The text travels with the study, so a worker, a resumed study or
a colleague runs exactly the code that was compared, wherever it lay.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import operator
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .checks import refuse

__all__ = ["Source", "entries", "load", "module_of", "place_of", "read", "sources_of"]

_PREFIX = "hasten_user_"  # the name a user's file is imported under: this and its digest


@dataclass(frozen=True)
class Source:
    """The text of a user's file and its sibling imports: `files` are (relative path, text), the first is the entry."""

    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over names and texts."""
        state = hashlib.sha256()
        for name, text in self.files:
            state.update(f"{name}\x00{text}\x00".encode())
        return state.hexdigest()[:16]

    def write(self, folder: Path) -> Path:
        """Write the files under `folder/<digest>/`; returns the entry's path."""
        root = folder / self.digest
        for name, text in self.files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return root / self.files[0][0]


@dataclass(frozen=True)
class _Loaded:
    source: Source
    modules: dict[str, ModuleType]  # by the names they were imported under, the entry first


_loaded: dict[str, _Loaded] = {}  # by digest


def read(path: str | Path) -> Source:
    """Read a user's file and, recursively, the sibling modules it imports."""
    entry = Path(path)
    if not entry.is_file():
        raise refuse("workload", "a Python file that exists", str(path), "`hasten new workload` writes one.")
    root, files = entry.parent, {}
    waiting = [entry]
    while waiting:
        file = waiting.pop(0)
        name = file.relative_to(root).as_posix()
        if name in files:
            continue
        files[name] = text = _text(file)
        for module in _imports(text, file, package=name.split("/")[:-1]):
            waiting += _siblings(root, module)
    first = entry.name
    return Source(((first, files.pop(first)), *sorted(files.items())))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise refuse("workload", "text in UTF-8", f"{file}: {error.reason} at byte {error.start}") from error


def _imports(text: str, file: Path, *, package: list[str]) -> list[str]:
    """The dotted names that a file in `package` (its folders below the root) imports; relative ones resolved."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise refuse("workload", "valid Python", f"{file}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise refuse("workload", "valid Python", f"{file}: {error}") from error
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            around = package[: max(0, len(package) + 1 - node.level)] if node.level else []
            base = [*around, *(node.module.split(".") if node.module else [])]
            found += [".".join([*base, alias.name]) for alias in node.names]
    return found


def _siblings(root: Path, module: str) -> list[Path]:
    """The files of `root` that importing `module` would run."""
    parts, found, folder = module.split("."), [], root
    for part in parts:
        if (folder / part / "__init__.py").is_file():
            folder = folder / part
            found.append(folder / "__init__.py")
        elif (folder / f"{part}.py").is_file():
            found.append(folder / f"{part}.py")
            break
        elif (folder / part).is_dir():  # a package without __init__.py
            folder = folder / part
        else:
            break
    return found


def load(source: Source, entry: Path) -> ModuleType:
    """Import the entry of `source` from the file `entry`, once per content.

    Siblings are imported under their plain names; those of an earlier, different source are forgotten first, so that
    an edited helper is read again.

    Raises:
        ValueError: the file raises an error; the message says where.
    """
    digest = source.digest
    if digest in _loaded:
        return module_of(digest)
    siblings = [file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file, _ in source.files[1:]]
    for sibling in siblings:
        sys.modules.pop(sibling, None)
    name = f"{_PREFIX}{digest}"
    spec = importlib.util.spec_from_file_location(name, entry)
    if spec is None or spec.loader is None:
        raise refuse("workload", "a Python file", str(entry), "Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _loaded[digest] = _Loaded(source, {name: module})  # before it runs: the file may name its own functions
    sys.path.insert(0, folder := str(entry.parent.resolve()))
    importlib.invalidate_caches()
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name], _loaded[digest]
        if not isinstance(error, Exception):
            raise
        raise refuse("workload", "a file that can be imported", _where(error, entry)) from error
    finally:
        with contextlib.suppress(ValueError):  # the file may have changed the path itself
            sys.path.remove(folder)
    _loaded[digest].modules.update({name: sys.modules[name] for name in siblings if name in sys.modules})
    return module


def _where(error: Exception, entry: Path) -> str:
    """The error in words, after the last line of the user's own files on the way to it."""
    folder = str(entry.parent.resolve())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(entry)
    return f"{place}: {type(error).__name__}: {error}"


def place_of(code: Any) -> str | None:
    """Where a function or class of a user's file lives: `digest`, or `digest:sibling`; None for installed code.

    The file of a module that was imported in the ordinary way (a script's own helper) is read here, so that a program
    changes when code that it names does.
    """
    module, qualname = code.__module__, code.__qualname__
    if module.startswith(_PREFIX):
        return module.removeprefix(_PREFIX)
    for digest, loaded in reversed(_loaded.items()):
        with contextlib.suppress(AttributeError):
            if module in loaded.modules and operator.attrgetter(qualname)(loaded.modules[module]) is code:
                return f"{digest}:{module}"
    return _adopt(module)


def _adopt(name: str) -> str | None:
    """The digest of an imported module that is a loose file: neither installed nor part of a package."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None or file is None or not file.endswith(".py") or "." in name or hasattr(module, "__path__"):
        return None
    folder = Path(file).resolve().parent
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    if folder in installed or {"site-packages", "dist-packages"} & set(folder.parts):
        return None
    source = read(file)
    _loaded.setdefault(source.digest, _Loaded(source, {f"{_PREFIX}{source.digest}": module}))
    return source.digest


def module_of(place: str) -> ModuleType:
    """The loaded module of a place: the entry of `digest`, or the sibling of `digest:sibling`."""
    digest, _, sibling = place.partition(":")
    found = _loaded[digest].modules.get(sibling or f"{_PREFIX}{digest}") if digest in _loaded else None
    if found is None:
        raise refuse("program", "a user file that has been loaded", f"digest {place}", "Load its workload file first.")
    return found


def sources_of(digests: Iterable[str]) -> list[Source]:
    """The sources of these digests, for handing them to another process."""
    return [_loaded[digest].source for digest in sorted(digests)]


def entries() -> list[tuple[Source, Path]]:
    """(source, file) of everything loaded, for loading it in another process of this study."""
    found = [(loaded.source, loaded.modules[f"{_PREFIX}{digest}"].__file__) for digest, loaded in _loaded.items()]
    return [(source, Path(file)) for source, file in found if file is not None]
