"""The table of codecs runs on made data, its lines are records, and it says what they mean for the claims."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "codec_table.py"
FIELDS = {"claim", "arm", "value", "unit", "ratio", "interval", "n", "host", "versions", "command"}
SPEEDS = {"compress_gbps", "decompress_gbps"}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    site = ["-S"] if sys.flags.no_site else []
    return subprocess.run([sys.executable, *site, SCRIPT, *options], capture_output=True, text=True, timeout=120)


def test_tiny_run():
    tiny = [
        "--json",
        "--sets",
        "repeating,switches",
        "--rounds",
        "2",
        "--seconds",
        "0.0001",
        "--codecs",
        "tsz,v0,memcpy",
    ]
    done = run(*tiny)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(line) >= FIELDS | SPEEDS and line["n"] == 2 for line in lines)
    ratios = {(line["claim"], line["arm"]): line["ratio"] for line in lines}
    assert ratios["codec, switches", "memcpy"] == 1
    assert ratios["codec, switches", "tsz-balanced"] > ratios["codec, switches", "tsz-fast"] > 20
    assert ratios["codec, repeating", "v0-delta+huffman"] > 1
    assert {arm for _, arm in ratios} >= {"tsz", "tsz-max", "tsz-delta-planar", "v0-fire"}


def test_a_set_without_its_data_is_left_out():
    done = run("--sets", "ptb", "--data", "")
    assert done.returncode == 0
    assert "skipped: ptb needs data" in done.stderr


def test_claims(tmp_path):
    def line(name: str, arm: str, ratio: float, forth: float, back: float) -> str:
        speeds = {"compress_gbps": forth, "decompress_gbps": back}
        return json.dumps({"claim": f"codec, {name}", "arm": arm, "ratio": ratio, **speeds})

    lines = [line("ptb", "tsz-balanced", 2.5, 0.5, 1.1), line("ptb", "pcodec-8", 2.5, 0.2, 1.0)]
    lines += [line("ptb", "tsz-max", 3.6, 0.1, 0.1)]
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(lines))
    done = run("--claims", str(file))
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert [text[:6].strip() for text in said] == ["held", "MISSED", "held", "held"]
    assert said[1] == "MISSED ptb: speed to compress over pcodec-8's: 2.500, at least 5 wanted"
