"""How many damaged inputs the decoders of Sprintz were given without a crash, a hang or a large allocation.

Runs the targets that `make fuzz EXECUTIONS=0` built (fuzz/README.md); one that finds something ends this with its
message, and leaves the input in the folder of the build. With `--libfuzzer`, those of a build by clang
(`make fuzz EXECUTIONS=0 CXX=clang++ FUZZ=build/fuzz-clang`), guided by coverage.

python benchmarks/codec_fuzz.py --executions 1000000 --json
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _record import emit

TARGETS = ("decode_tsz", "decode_v0", "roundtrip_tsz")


def run(build: Path, *command: str) -> str:
    """What a target prints; ends the program if it found something."""
    done = subprocess.run([build / "fuzz" / command[0], *command[1:]], cwd=build, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(command)} found something: exit status {done.returncode}")
    return done.stdout + done.stderr


def mutants(build: Path, target: str, executions: int, seed: int) -> dict[str, Any]:
    """Fields of a record, from our own driver."""
    found = json.loads(run(build, f"fuzz_{target}", "--executions", str(executions), "--seed", str(seed), "--json"))
    return {"arm": found.pop("target"), "value": found.pop("executions"), **found}


def guided(build: Path, target: str, seconds: int, seed: int) -> dict[str, Any]:
    """Fields of a record, from libFuzzer."""
    with tempfile.TemporaryDirectory() as corpus:
        run(build, f"fuzz_{target}", "--write-seeds", corpus)
        limits = ("-max_len=65536", "-timeout=5", f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1")
        text = run(build, f"libfuzzer_{target}", corpus, *limits)
    units = int(re.findall(r"number_of_executed_units: (\d+)", text)[0])
    edges = int(re.findall(r"cov: (\d+)", text)[-1])
    return {"arm": f"{target}, libFuzzer", "value": units, "seed": seed, "seconds": seconds, "edges": edges}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--executions", type=int, default=20_000, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--build", type=Path, default=None, help="build/fuzz, with --libfuzzer build/fuzz-clang")
    parser.add_argument("--libfuzzer", type=int, metavar="SECONDS", help="of each target, instead of --executions")
    options = parser.parse_args()
    build = (options.build or Path("build/fuzz" if options.libfuzzer is None else "build/fuzz-clang")).resolve()
    if not (build / "fuzz").is_dir():
        parser.error(f"expected a build of the fuzz targets in {build}, got none. Run `make fuzz EXECUTIONS=0`.")
    for target in options.targets:
        if options.libfuzzer is None:
            fields = mutants(build, target, options.executions, options.seed)
        else:
            fields = guided(build, target, options.libfuzzer, options.seed)
        emit(options.json, claim="damaged inputs survived", unit="inputs", n=1, **fields)


if __name__ == "__main__":
    main()
