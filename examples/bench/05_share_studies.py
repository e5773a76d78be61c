"""Two halves of a study: beside each other on a page, put together, and packed into one file.

    python examples/bench/05_share_studies.py
    hasten report runs/monday runs/tuesday --publish pages
    hasten merge runs/monday runs/tuesday --out runs/both
    hasten archive runs/both

Any studies can share a page, and none of their numbers are mixed. Merged are only runs of one question, from different
seeds. The sizes only show how.
"""

from __future__ import annotations

from pathlib import Path

import hasten
from hasten.bench.archive import archive
from hasten.bench.merge import merge
from hasten.bench.publish import gather, publish
from hasten.bench.study import open_study
from hasten.methods import ema

RING = Path(__file__).parents[1] / "03_own_workload.py"  # is a point inside a ring?


def main():
    for day, seeds in {"monday": [0, 1], "tuesday": [2, 3]}.items():
        arms = {"base": [], "ema": [ema()]}
        hasten.compare(RING, arms, seeds=seeds, duration="5ep", points=2, out=f"runs/{day}", workers=1, quiet=True)

    found = gather(["runs/monday", "runs/tuesday"])
    pages = publish(found.reports, "pages").written  # relative links: for any web host, or to open from the disk
    print(f"pages: {', '.join(path.name for path in pages if path.suffix == '.html')}")

    both = open_study(merge(["runs/monday", "runs/tuesday"], "runs/both"))
    print(f"{both.folder.name}: seeds {both.data['study']['seeds']}, {both.status}")

    packed = archive(both.folder)  # reads like a folder; without the paths of this machine
    same = open_study(packed).verdicts() == both.verdicts()
    print(f"{packed.name}: {'the same verdicts' if same else 'other verdicts'}")


if __name__ == "__main__":
    main()
