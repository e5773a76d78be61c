"""Which arm pays? Train two of them from two seeds each, and print the answer.

    python examples/02_compare.py

The study is tiny, so that it ends in seconds, and two seeds prove nothing: the answer says so. Leave out `seeds`,
`duration` and `points` for one that means something. Run it twice: the second time finds the finished runs.
"""

from __future__ import annotations

import hasten
from hasten.methods import blurpool


def main():
    arms = {"base": [], "blur": [blurpool()]}
    study = hasten.compare("digits", arms, seeds=2, duration="2ep", points=2, out="runs/example", quiet=True)
    print(study.table())
    for arm, sentence in study.verdicts().items():
        print(f"{arm}: {sentence}")
    print(f"Report: {study.report()}")


if __name__ == "__main__":
    main()
