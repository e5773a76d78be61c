"""A user's file as content: the file and the siblings it imports, hashed, importable again from the stored text.

A program that uses a user's file names it by digest. The text travels with the study, so a worker, a resumed study or
a colleague runs exactly the code that was compared, wherever it lay.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .checks import refuse

__all__ = ["Source", "digest_of", "load", "module_of", "read", "sources_of"]


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


_loaded: dict[str, tuple[Source, ModuleType]] = {}
_digest_by_module: dict[str, str] = {}


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
        text = file.read_text(encoding="utf-8")
        files[name] = text
        for module in _imports(text, str(file)):
            waiting += _siblings(root, module)
    first = entry.name
    return Source(((first, files.pop(first)), *sorted(files.items())))


def _imports(text: str, name: str) -> list[str]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise refuse("workload", "valid Python", f"{name}, line {error.lineno}: {error.msg}") from error
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
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
        else:
            break
    return found


def load(source: Source, entry: Path) -> ModuleType:
    """Import the entry of `source` from the file `entry`, once per content.

    Siblings are imported under their plain names; those of an earlier, different source are forgotten first, so that
    an edited helper is read again.
    """
    digest = source.digest
    if digest in _loaded:
        return _loaded[digest][1]
    siblings = {Path(name).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
                for name, _ in source.files[1:]}  # fmt: skip
    for module in siblings:
        sys.modules.pop(module, None)
    name = f"hasten_user_{digest}"
    spec = importlib.util.spec_from_file_location(name, entry)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _digest_by_module[name] = digest  # before it runs: the file may name its own functions
    folder = str(entry.parent.resolve())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        sys.path.remove(folder)
    _loaded[digest] = (source, module)
    return module


def digest_of(module: str) -> str | None:
    """The digest of the user file behind a module name, if it is one."""
    return _digest_by_module.get(module)


def module_of(digest: str) -> ModuleType:
    """The loaded module of a digest."""
    if digest not in _loaded:
        raise refuse("program", "a user file that has been loaded", f"digest {digest}", "Load its workload file first.")
    return _loaded[digest][1]


def sources_of(digests: set[str]) -> list[Source]:
    """The sources of these digests, for handing them to another process."""
    return [_loaded[digest][0] for digest in sorted(digests)]
