"""Device streams: the C encoder against the Python one, and a decoder that no bytes can lead astray."""

from __future__ import annotations

import fnmatch
import functools
import itertools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.codecs.sprintz import device
from hasten.codecs.sprintz.errors import CorruptError

ROOT = Path(__file__).parents[3]
SOURCES = Path(__file__).parent / "device"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
COMPILERS = ("gcc", "clang")
PREDICTORS = ("delta", "nlms1")
CROSS = {
    "arm-linux-gnueabi-gcc": "qemu-arm",
    "aarch64-linux-gnu-gcc": "qemu-aarch64",
    "s390x-linux-gnu-gcc": "qemu-s390x",  # big-endian
    "powerpc-linux-gnu-gcc": "qemu-ppc",
}
# The bytes of version 1, which must decode for ever: 25 rows of 2 columns, a segment of 2 blocks, one of 1 and a row.
GOLDEN = {
    "delta": (
        "8954535a440d0a1a011000000200000000002bebf6b741042264a8ec317395f56106b7401888c238f6301c45523c04100000"
        "007bba8c838954535a440d0a1a011000010200100000001d00e4ffba1075ec6106b7401888c238f6301c45523c1505000600"
        "1900000085043702"
    ),
    "nlms1": (
        "8954535a440d0a1a01100100020000000000b5eb5c7b41042264a8ec317395f5610637411888c23876311c45523c04100000"
        "00bca9bb8f8954535a440d0a1a011001010200100000001d0007008005e4fff8ff80051fecedf3610637411888c23876311c"
        "45523c150500060019000000a594e095"
    ),
}
GOLDEN_ROWS = np.array([*[[1, -1], [2, -3], [4, -5], [7, -9], [11, -12], [16, -17], [22, -20], [29, -28]] * 3, [5, 6]])


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def compile_c(source: Path, target: Path, compiler: str, *options: str) -> Path:
    """Compile with all warnings as errors; C99, or C++11 with a C++ compiler."""
    need(compiler)
    language = ["-x", "c++", "-std=c++11"] if compiler.endswith("++") else ["-std=c99"]
    command = [compiler, *language, *WARNINGS, *options, f"-I{device.include_dir()}", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """`encode(x, predictor, checkpoint, fail=())`: bytes and error lines of the C encoder."""
    compiler = next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        pytest.skip(f"none of {', '.join(COMPILERS)} is installed")
    program = compile_c(SOURCES / "encode.c", tmp_path_factory.mktemp("device") / "encode", compiler, "-Os")
    return functools.partial(run, [str(program)])


def run(command, x, predictor="delta", checkpoint=device.CHECKPOINT, fail=()):
    x = x[:, None] if x.ndim == 1 else x
    arguments = [x.shape[1], PREDICTORS.index(predictor), checkpoint, *fail]
    done = subprocess.run(
        [*command, *map(str, arguments)], input=x.astype("<i2").tobytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done
    return done.stdout, done.stderr.decode().splitlines()


def signals(rows: int, columns: int, seed: int = 0) -> dict[str, np.ndarray]:
    g = np.random.default_rng(seed)
    shape, t = (rows, columns), np.arange(rows)[:, None]
    pick = g.random(shape)
    walk = g.integers(-9, 10, shape).cumsum(0)
    widths = g.integers(0, 17, (rows // 8 + 1, columns)).repeat(8, axis=0)[:rows]
    every = {
        "random": g.integers(-(2**15), 2**15, shape),
        "ramp": t * np.arange(1, columns + 1),
        "walk": walk,
        "smooth": 9000 * np.sin(t / 20 + np.arange(columns)) + g.normal(size=shape),
        "constant": np.full(shape, -7),
        "zero": np.zeros(shape),
        "spikes": np.where(pick < 0.01, 30000, 0) + walk,
        "jumps": np.where(pick < 0.5, -(2**15), 2**15 - 1),
        "alternating": np.where(t % 2, 2**15 - 1, -(2**15)) * np.ones(shape),
        "every width": (g.integers(0, 2**16, shape) >> (16 - widths)) - (1 << widths >> 1),
        "with pauses": np.where(t // 40 % 2, walk, walk[:1]),
    }
    return {name: x.astype(np.int64).astype(np.int16) for name, x in every.items()}


def check_lenient(stream: bytes, x: np.ndarray) -> device.DeviceRecording:
    """What `strict=False` returns is right, whatever was done to the stream."""
    recording = device.decode(stream, strict=False)
    np.testing.assert_array_equal(recording.data, x[recording.row_numbers()])
    return recording


# ---------------------------------------------------------------- the same bytes from C and Python


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("columns", [1, 2, 3, 6, 12, 25, 41])
def test_c_and_python_agree_and_round_trip(encoder, columns, predictor):
    for number, x in enumerate(signals(rows=8 * 20 + columns % 8, columns=columns, seed=columns).values()):
        stream, errors = encoder(x, predictor, checkpoint=number)
        assert not errors
        assert stream == device.encode(x, predictor, checkpoint=number)
        recording = device.decode(stream)
        np.testing.assert_array_equal(recording.data, x)
        assert recording.data.dtype == np.int16
        assert recording.predictor == predictor
        assert recording.complete
        assert recording.end == len(stream)
        assert not recording.gaps
        assert len(check_lenient(stream, x).data) == len(x)


@pytest.mark.parametrize("columns", range(1, 42))
def test_every_number_of_columns(encoder, columns):
    x = signals(rows=columns + 16, columns=columns)["every width"]
    stream, _ = encoder(x, "nlms1", checkpoint=2)
    assert stream == device.encode(x, "nlms1", checkpoint=2)
    np.testing.assert_array_equal(device.decode(stream).data, x)


@pytest.mark.parametrize("rows", range(18))
def test_every_number_of_rows_left(encoder, rows):
    x = np.arange(3 * rows, dtype=np.int16).reshape(rows, 3) ** 2
    stream, _ = encoder(x)
    assert stream == device.encode(x)
    np.testing.assert_array_equal(device.decode(stream).data, x)


@pytest.mark.parametrize("blocks", [1, 254, 255, 256, 510, 511])
@pytest.mark.parametrize("checkpoint", [0, 100, 255, 256])
def test_runs(encoder, blocks, checkpoint):
    x = np.zeros((8 * blocks + 11, 2), np.int16)
    x[-11:] = 5
    stream, _ = encoder(x, "delta", checkpoint)
    assert stream == device.encode(x, "delta", checkpoint=checkpoint)
    np.testing.assert_array_equal(device.decode(stream).data, x)
    if not checkpoint:
        assert len(stream) == 22 + 2 * -(-blocks // 255) + 2 + 8 + 1 + 12 + 8  # head, runs, one block, 3 rows left


@given(data=st.data(), columns=st.integers(1, 6), rows=st.integers(0, 60), checkpoint=st.integers(0, 9))
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_round_trip(predictor, data, columns, rows, checkpoint):
    steps = data.draw(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=rows * columns, max_size=rows * columns))
    x = np.array(steps, np.int16).reshape(rows, columns)
    stream = device.encode(x, predictor, checkpoint=checkpoint)
    np.testing.assert_array_equal(device.decode(stream).data, x)


def test_nlms1_learns_a_slope():
    x = signals(rows=4000, columns=3)["smooth"]
    assert len(device.encode(x, "nlms1")) < 0.7 * len(device.encode(x)) < 0.7 * x.nbytes


def test_incompressible_data_grow_by_little():
    x = signals(rows=8 * 256, columns=25)["random"]
    assert len(device.encode(x, "delta")) <= x.nbytes * (1 + 13 / 400) + 112  # heads and tails


def test_any_layout_is_taken():
    x = signals(rows=50, columns=3)["walk"]
    expected = device.encode(x)
    assert device.encode(np.asfortranarray(x)) == device.encode(x.astype(">i2")) == expected
    assert device.encode(np.repeat(x, 2, axis=0)[::2]) == expected
    assert device.encode(x[:, 0]) == device.encode(x[:, :1])
    np.testing.assert_array_equal(device.decode(memoryview(bytearray(expected))).data, x)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_golden(predictor):
    stream = bytes.fromhex(GOLDEN[predictor])
    np.testing.assert_array_equal(device.decode(stream).data, GOLDEN_ROWS)
    assert device.encode(GOLDEN_ROWS.astype(np.int16), predictor, checkpoint=2) == stream


# ---------------------------------------------------------------- the C side


@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
@pytest.mark.parametrize("optimisation", ["-O0", "-O3"])
def test_the_header_compiles_without_a_warning(tmp_path, compiler, optimisation):
    program = compile_c(SOURCES / "calls.c", tmp_path / "calls", compiler, optimisation)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")
    said = {name: int(value) for name, value in (line.split() for line in lines if line)}
    memory = {int(name[7:]): said.pop(name) for name in list(said) if name.startswith("memory_")}
    assert all(memory[columns] < 1024 for columns in (3, 12, 25, 41))
    assert memory[3] <= 146
    assert memory[12] <= 344
    assert memory[25] <= 630
    assert memory[41] <= 982
    assert memory[25] - memory[12] == 13 * 22
    argument = {"null_encoder", "null_memory", "null_write", "no_columns", "many_columns", "no_such_predictor"}
    argument |= {"null_checkpoints", "null_row", "push_null", "finish_null"}
    fine = {"init", "checkpoints", "push", "finish"}
    expected = {**dict.fromkeys(argument, -1), **dict.fromkeys(fine, 0)}
    assert said == {**expected, "short_memory": -2, "push_again": -4, "finish_again": -4}


def test_the_header_stands_alone(tmp_path):
    unused = tmp_path / "unused.c"
    unused.write_text('#include "tsz_encoder.h"\n#include "tsz_encoder.h"\nint nothing(void);\n', encoding="utf-8")
    for compiler in filter(shutil.which, COMPILERS):
        compile_c(unused, tmp_path / "unused.o", compiler, "-c")
    text = device.header_path().read_text(encoding="utf-8")
    assert re.findall(r"#include (\S+)", text) == ["<stddef.h>", "<stdint.h>"]
    assert not re.search(r"\b(malloc|float|double|u?int64_t)\b[ (]", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


def test_sanitizers(tmp_path):
    options = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compiler = next(filter(shutil.which, COMPILERS), None) or pytest.skip("no C compiler is installed")
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    if subprocess.run([compiler, *options, str(probe), "-o", str(tmp_path / "p")], capture_output=True).returncode:
        pytest.skip(f"{compiler} has no sanitizers here")
    program = compile_c(SOURCES / "encode.c", tmp_path / "encode", compiler, *options)
    for columns, predictor in itertools.product((1, 4, 25), PREDICTORS):
        for x in signals(rows=100, columns=columns).values():
            stream, _ = run([str(program)], x, predictor, 3)
            assert stream == device.encode(x, predictor, checkpoint=3)
    run([str(program)], signals(100, 3)["random"], "nlms1", 3, fail=(1, 5, 6))


@pytest.mark.parametrize("compiler", CROSS)
def test_other_machines_write_the_same(tmp_path, compiler):
    need(CROSS[compiler])
    program = compile_c(SOURCES / "encode.c", tmp_path / "encode", compiler, "-Os", "-static")
    for predictor, x in itertools.product(PREDICTORS, signals(rows=60, columns=3).values()):
        stream, _ = run([CROSS[compiler], str(program)], x, predictor, 3)
        assert stream == device.encode(x, predictor, checkpoint=3)


@pytest.mark.parametrize("target", ["msp430", "avr", "thumbv6m-none-eabi", "powerpc", "mips", "riscv32"])
def test_it_compiles_for_other_targets(tmp_path, target):
    """16-bit int (msp430, avr) and big-endian (powerpc, mips) among them."""
    need("clang")
    if not re.search(
        r"^\s*msp430 ", subprocess.run(["clang", "--print-targets"], capture_output=True, text=True).stdout, re.M
    ):
        pytest.skip("this clang has few targets")
    source = tmp_path / "use.c"
    source.write_text(USE, encoding="utf-8")
    compile_c(source, tmp_path / "use.o", "clang", f"--target={target}", "-ffreestanding", "-Os", "-c")


USE = """
#include "tsz_encoder.h"
int start(tsz_encoder *e, uint16_t *m, tsz_write w);
int push(tsz_encoder *e, const int16_t *row);
int finish(tsz_encoder *e);
int start(tsz_encoder *e, uint16_t *m, tsz_write w) {
    return tsz_encoder_init(e, m, sizeof(uint16_t) * tsz_encoder_memory(25), 25, TSZ_NLMS1, w, NULL);
}
int push(tsz_encoder *e, const int16_t *row) { return tsz_encoder_push(e, row); }
int finish(tsz_encoder *e) { return tsz_encoder_finish(e); }
char size_of_encoder[sizeof(tsz_encoder)];
"""


def test_code_and_stack_on_a_cortex_m0(tmp_path):
    need("arm-none-eabi-size")
    source = tmp_path / "use.c"
    source.write_text(USE, encoding="utf-8")
    options = ["-mcpu=cortex-m0", "-mthumb", "-ffreestanding", "-Os", "-fstack-usage", "-c"]
    target = compile_c(source, tmp_path / "use.o", "arm-none-eabi-gcc", *options)
    text = int(subprocess.run(["arm-none-eabi-size", target], capture_output=True, text=True).stdout.split()[6])
    assert text < 2048
    stack = (tmp_path / "use.su").read_text(encoding="utf-8").splitlines()
    assert all(line.endswith("static") for line in stack)  # a size known beforehand
    everything = sum(int(line.split("\t")[1]) for line in stack)  # no recursion: never more than this
    symbols = subprocess.run(["arm-none-eabi-nm", "-S", target], capture_output=True, text=True).stdout
    size = int(re.search(r"^\w+ (\w+) \w size_of_encoder$", symbols, re.M)[1], 16)
    assert everything + size + 25 * 22 < 1024


def test_the_header_is_installed():
    package = Path(device.__file__).parent
    assert device.header_path() == package / "include" / "tsz_encoder.h"
    assert device.header_path().is_file()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["scikit-build"]
    assert "src/hasten" in build["wheel"]["packages"]
    assert not any(fnmatch.fnmatch("hasten/codecs/sprintz/include/tsz_encoder.h", p) for p in build["wheel"]["exclude"])


def test_the_example(tmp_path):
    compiler = next(filter(shutil.which, COMPILERS), None) or pytest.skip("no C compiler is installed")
    program = compile_c(ROOT / "examples" / "codecs" / "sensor.c", tmp_path / "sensor", compiler)
    done = subprocess.run([program], capture_output=True, check=True)
    assert re.fullmatch(r"6000 rows, 0 writes failed, 1\d\d bytes of RAM\n", done.stderr.decode())
    recording = device.decode(done.stdout)
    assert recording.data.shape == (6000, 3)
    assert recording.predictor == "nlms1"
    assert 16000 < recording.data[:, 2].mean() < 16800
    assert len(done.stdout) < 0.5 * recording.data.nbytes


# ---------------------------------------------------------------- a link that fails


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_a_failed_write_costs_only_the_rows_around_it(encoder, predictor):
    x = signals(rows=8 * 12 + 3, columns=5)["walk"]
    whole, _ = encoder(x, predictor, 4)
    writes = 0
    for fail in range(60):
        stream, errors = encoder(x, predictor, 4, fail=(fail,))
        if not errors:
            assert stream == whole
            break
        writes += 1
        assert errors in (["push -3"], ["finish -3"])
        recording = check_lenient(stream, x)
        assert recording.complete
        lost = len(x) - len(recording.data)
        assert lost <= 8 * 4
        assert lost % 8 == 0
        assert sum(gap.missing for gap in recording.gaps) == lost
        with pytest.raises(CorruptError):
            device.decode(stream)
    assert writes > 10


def test_a_link_that_is_down_for_a_while(encoder):
    x = signals(rows=8 * 30, columns=3)["walk"]
    stream, errors = encoder(x, "nlms1", 2, fail=range(7, 20))
    assert errors == ["push -3"] * 13
    recording = check_lenient(stream, x)
    (gap,) = recording.gaps
    assert recording.complete
    assert gap.missing % 8 == 0
    assert 8 * 13 <= gap.missing <= 8 * 15
    nothing, errors = encoder(x[:20], "delta", 2, fail=range(20))
    assert nothing[:8] == device.encode(x)[:8]
    assert errors == ["push -3"] * 2 + ["finish -3"] * 5
    assert encoder(x[:20], "delta", 2, fail=range(1, 5))[1] == ["push -3"] * 2 + ["finish -3"] * 2


def test_bad_arguments():
    x = np.zeros((9, 2), np.int16)
    with pytest.raises(
        TypeError, match=r"encode: expected int16 values, got ndarray of shape \(9, 2\) and dtype int32"
    ):
        device.encode(x.astype(np.int32))
    with pytest.raises(TypeError, match="view uint16 as np.int16"):
        device.encode(x.astype(np.uint16))
    for wrong in (x[None], x[0, 0], np.zeros((2, 0), np.int16), np.zeros((2, 1025), np.int16)):
        with pytest.raises(ValueError, match="1..1024 columns"):
            device.encode(wrong)
    with pytest.raises(ValueError, match="Did you mean nlms1"):
        device.encode(x, "nlms2")
    for checkpoint in (-1, 65536, 1.5):
        with pytest.raises(ValueError, match="checkpoint"):
            device.encode(x, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="max_rows"):
        device.decode(device.encode(x), max_rows=-1)
    with pytest.raises(TypeError):
        device.decode("text")
    with pytest.raises(CorruptError, match="at byte 0: no head of a device stream"):
        device.decode(b"")
    assert device.decode(device.encode(np.zeros((0, 3), np.int16))).data.shape == (0, 3)
