"""What a power cut can leave on a disk: a model of files, and every state that recorded operations allow.

The model, a little stricter than POSIX and than the file systems in use:

- What was written to a file before an `fsync` of it that returned is on the disk. Of what was written after, any prefix
  is, for each file independently of the others; a write of more than 512 bytes (a sector) can be cut in the middle.
- What was created, renamed or removed in a folder before an `fsync` of the folder that returned is on the disk. Of what
  was done to names after, any prefix is. A rename is atomic: the name stands for the old file or for the new one.
- A kill without a power cut loses nothing that was written: those states are among the ones above.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
Tree = dict[str, bytes | None]  # path -> content, or None for a folder


@dataclass(eq=False)
class Item:
    """A file or a folder, as the disk surely has it and what may or may not have reached it since."""

    content: Any  # bytes of a file; name -> Item of a folder
    pending: list[tuple[Any, ...]] = field(default_factory=list)

    def sync(self) -> None:
        self.content = self.after(len(self.pending))
        self.pending = []

    def after(self, count: int) -> Any:
        """The content with the first `count` pending operations done."""
        content = dict(self.content) if isinstance(self.content, dict) else bytearray(self.content)
        for operation, *arguments in self.pending[:count]:
            _OPERATIONS[operation](content, *arguments)
        return content if isinstance(content, dict) else bytes(content)

    def now(self) -> Any:
        return self.after(len(self.pending))


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, length: int) -> None:
    del content[length:]
    content.extend(bytes(length - len(content)))


def _rename(names: dict[str, Item], old: str, new: str) -> None:
    names[new] = names.pop(old)


_OPERATIONS = {
    "write": _write,
    "truncate": _truncate,
    "add": dict.__setitem__,
    "remove": dict.__delitem__,
    "rename": _rename,
}


class Disk:
    """Files below `root`, as a recorded process changes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Item({})
        self.open: dict[int, Item] = {}

    def find(self, path: str) -> tuple[Item, str]:
        """The folder that holds `path`, and its name there."""
        *parents, name = Path(path).relative_to(self.root).parts
        folder = self.top
        for parent in parents:
            folder = folder.now()[parent]
        return folder, name

    def do(self, operation: str, fd: int, a: int, path: str, other: str, data: bytes) -> None:
        """Follow one record of the recorder."""
        if operation == "open":
            if Path(path) == self.root:
                self.open[fd] = self.top
                return
            folder, name = self.find(path)
            if a:
                folder.pending.append(("add", name, Item(b"")))
            self.open[fd] = folder.now()[name]
        elif operation == "mkdir":
            folder, name = self.find(path)
            folder.pending.append(("add", name, Item({})))
        elif operation == "unlink":
            folder, name = self.find(path)
            folder.pending.append(("remove", name))
        elif operation == "rename":
            folder, name = self.find(path)
            folder.pending.append(("rename", name, self.find(other)[1]))
        elif operation == "write":
            cuts = [0, len(data) // 2 // SECTOR * SECTOR, len(data)]
            for start, end in itertools.pairwise(sorted(set(cuts))):
                self.open[fd].pending.append(("write", a + start, data[start:end]))
        elif operation == "truncate":
            self.open[fd].pending.append(("truncate", a))
        elif operation == "sync":
            self.open[fd].sync()
        elif operation == "close":
            del self.open[fd]

    def states(self) -> Iterator[Tree]:
        """Every tree that a power cut now can leave."""
        return _trees(self.top, "")


def _trees(item: Item, path: str) -> Iterator[Any]:
    for count in range(len(item.pending) + 1):
        content = item.after(count)
        if isinstance(content, bytes):
            yield {path: content}
            continue
        inside = [list(_trees(child, f"{path}/{name}".lstrip("/"))) for name, child in sorted(content.items())]
        for chosen in itertools.product(*inside):
            tree: Tree = {path: None}
            for part in chosen:
                tree.update(part)
            yield tree


def records(log: Path) -> Iterator[tuple[str, int, int, str, str, bytes]]:
    """The records of `recorder.c`."""
    with log.open("rb") as file:
        while header := file.readline():
            operation, fd, a, _, *sizes = header.decode().split()
            size, path, other = map(int, sizes)
            paths = file.read(path).decode(), file.read(other).decode()
            yield operation, int(fd), int(a), *paths, file.read(size)


def crash_states(log: Path, root: Path) -> list[tuple[Tree, int]]:
    """Every different tree that a power cut can leave, each with the last mark that the process had set by then.

    Between two syncs the possible states only grow, so it is enough to look before each sync and at the end.
    """
    disk, mark, found = Disk(root), -1, dict[tuple, tuple[Tree, int]]()

    def look() -> None:
        for tree in disk.states():
            found[tuple(sorted(tree.items()))] = (tree, mark)  # a later mark demands more

    for record in records(log):
        if record[0] == "sync":
            look()
        if record[0] == "mark":
            mark = record[2]
        else:
            disk.do(*record)
    look()
    return list(found.values())


def write(tree: Tree, root: Path) -> None:
    """Put a tree on a real disk."""
    for path, content in sorted(tree.items()):
        if content is None:
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).write_bytes(content)
