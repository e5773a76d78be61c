"""What leaves this machine: texts without the places of one person's disk.

Commands, notes, errors and logs name files by their full path, and a path tells a user name, a customer, a project.
An archive and a published page keep the end of such a path, which is what a reader needs: "/home/ann/acme/train.py"
becomes ".../train.py".
"""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import Any

__all__ = ["without_places"]

# Names of arms, workloads and the like identify runs: they stay as they are.
NAMES = frozenset({"name", "arm", "baseline", "title", "workload", "fingerprint", "identity"})
HOMES = ("home", "Users")  # what comes below is a person
PACKAGES = ("site-packages", "dist-packages")

_PART = r"[^\s/'\"<>|:;,()\[\]{}\\]+"
_PLACE = re.compile(
    r"""(?P<quote>["'])(?:file://)?(?:/|[A-Za-z]:[\\/]|\\\\)[^"'\n]*[/\\][^"'\n]*(?P=quote)"""  # may hold spaces
    rf"""|(?<![\w.~/])(?:file://)?(?:/{_PART}){{2,}}/?"""
    rf"""|(?<!\w)[A-Za-z]:(?:[\\/]+{_PART})+|\\\\{_PART}(?:\\+{_PART})+"""
)


def without_places(value: Any, folder: Path | None = None) -> Any:
    """Plain data or a text whose absolute paths are cut to their ends; names of arms and workloads stay.

    Args:
        value: a text, or dicts and lists of texts.
        folder: the study's own folder, whose files keep their path below it.

    >>> without_places("OSError: /home/ann/acme/data/x.npz is missing (log: /tmp/s/logs/base-0.log)", Path("/tmp/s"))
    'OSError: .../x.npz is missing (log: logs/base-0.log)'
    >>> without_places({"name": "/a/b", "command": "hasten compare '/home/ann/my work/w.py' --out=/home/ann"})
    {'name': '/a/b', 'command': 'hasten compare .../w.py --out=...'}
    """
    if isinstance(value, str):
        return _text(value, _own(folder))
    if isinstance(value, dict):
        return {key: item if key in NAMES else _entry(key, item, folder) for key, item in value.items()}
    return [without_places(item, folder) for item in value] if isinstance(value, (list, tuple)) else value


def _entry(key: str, item: Any, folder: Path | None) -> Any:
    if key == "command" and isinstance(item, str):
        return _command(item, _own(folder))
    return without_places(item, folder)


def _own(folder: Path | None) -> list[str]:
    """How the files of a study's folder begin, as it is called and as it is."""
    if folder is None:
        return []
    return list(dict.fromkeys(f"{path}/" for path in (folder.absolute(), folder.resolve())))


def _text(text: str, own: list[str]) -> str:
    for start in own:
        text = text.replace(start, "")
    with contextlib.suppress(RuntimeError):  # no home is known
        home = str(Path.home())
        if len(Path(home).parts) > 2:
            text = re.sub(rf"{re.escape(home)}(?=[/\\])", "/home/~", text)  # a home with spaces or in a strange place
    return _PLACE.sub(lambda found: _end(found[0], found["quote"] or ""), text)


def _command(text: str, own: list[str]) -> str:
    """A command word by word, because a path that holds a space is one word."""
    try:
        words = shlex.split(text)
    except ValueError:
        return _text(text, own)
    found = [_word(word, own) for word in words]
    return shlex.join(found) if found != words else text


def _word(word: str, own: list[str]) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if not re.match(r"/[^/]|[A-Za-z]:[\\/]|\\\\", value):
        return _text(word, own)
    return f"{option}{equals}{_end(value, '')}"


def _end(path: str, quote: str) -> str:
    """The last part of a path; of a file of Python or of a package the part inside it."""
    parts = [part for part in re.split(r"[/\\]+", path.strip(quote).removeprefix("file://")) if part]
    for place, part in enumerate(parts[:-1]):
        if part in PACKAGES or (re.fullmatch(r"python\d[\d.]*", part) and parts[place + 1] not in PACKAGES):
            return f"{quote}.../{'/'.join(parts[place + 1 :])}{quote}"
    person = len(parts) == 2 and parts[0] in HOMES
    return f"{quote}...{'' if person or not parts else '/' + parts[-1]}{quote}"
