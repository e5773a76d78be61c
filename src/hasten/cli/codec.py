"""`hasten codec`: compress sensor data, look into compressed files, check and mend them, compare with other codecs."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

__all__ = ["codec"]

codec = App(
    name="codec",
    help="Compress sensor data, without loss unless asked; read, check and mend compressed files.",
    default_parameter=Parameter(negative=()),
    version_flags=(),
)

Format = Literal["csv", "npy", "raw", "tsz", "wav", "wfdb"]


def _no_option(kind: object, value: str | None) -> None:
    """A dash is allowed where a file is, so what begins with one must be looked at."""
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f"{value} is not an option of this command. For a file of that name write ./{value}.")


File = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)]
Out = Annotated[str | None, Parameter(alias="-o", allow_leading_hyphen=True, validator=_no_option)]


@codec.command
def compress(
    file: File,
    *,
    out: Out = None,
    profile: Literal["auto", "fast", "balanced", "max"] = "auto",
    max_error: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    chunk_rows: int | None = None,
    format: Format | None = None,  # noqa: A002
    dtype: str | None = None,
    columns: str | None = None,
    delimiter: str | None = None,
    header: Annotated[bool | None, Parameter(negative="--no-header")] = None,
    rate: float | None = None,
    no_check: bool = False,
    align: bool = False,
    threads: int = 1,
    force: bool = False,
) -> int:
    """Compress a file: CSV, NPY, WAV, a WFDB record or raw numbers.

    Parameters
    ----------
    file
        The file, or - for standard input.
    out
        The compressed file (default: the file's name with .tsz), or - for standard output.
    profile
        How much work goes into a smaller file: fast, balanced or max. Default: balanced.
    max_error
        By how much floats may be off, such as 0.01; for each column with commas between: 0.01,none,0.5. Default: not
        at all.
    chunk_rows
        Rows that are compressed together, a multiple of 32. Default: about 64 KiB of each column.
    format
        csv, npy, raw, wav or wfdb. Default: what the file's suffix says.
    dtype
        Of raw numbers, such as int16 or '>f4'.
    columns
        Of raw numbers how many there are in a row; of CSV which to keep, names or numbers with commas between.
    delimiter
        Of CSV. Default: a tab, semicolon or comma, whichever fits.
    header
        Whether the first row of CSV holds titles. Default: if it looks like that.
    rate
        Rows per second, where the file does not say.
    no_check
        Take WFDB and WAV files as they are, where they do not fit their header.
    align
        Shift WFDB signals with a skew, so that the samples of a row belong to one moment.
    threads
        How many compress at once.
    force
        Replace a file that is there.
    """
    from . import codec_files

    asked = {"delimiter": delimiter, "header": header, "dtype": dtype, "columns": columns}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    options |= {"check": False} if no_check else {}
    options |= {"align": True} if align else {}
    errors = codec_files.parse_errors(max_error)
    encode = {"profile": profile, "max_error": errors, "chunk_rows": chunk_rows, "threads": threads}
    codec_files.compress(file, out, format, options, encode, rate=rate, force=force)
    return 0


@codec.command
def decompress(
    file: File,
    *,
    out: Out = None,
    format: Format | None = None,  # noqa: A002
    rate: float | None = None,
    fill: float | None = None,
    recover: bool = False,
    threads: int = 1,
    force: bool = False,
) -> int:
    """Bring a compressed file back, as what it was or in another format.

    Parameters
    ----------
    file
        The compressed file, or - for standard input.
    out
        The new file (default: the compressed file's name with the suffix it had before), or - for standard output.
    format
        csv, npy, raw, wav or wfdb. Default: what the suffix of the new file says, or what the data were.
    rate
        Rows per second, for WAV.
    fill
        A number in place of missing values, for formats that have none; nan, say.
    recover
        Read the rows up to the last good chunk where the index is lost.
    threads
        How many decompress at once.
    force
        Replace a file that is there.
    """
    from . import codec_files

    codec_files.decompress(file, out, format, rate=rate, fill=fill, recover=recover, threads=threads, force=force)
    return 0


@codec.command
def cat(
    file: File,
    *,
    rows: str | None = None,
    columns: str | None = None,
    format: Literal["csv", "npy", "raw", "wav"] = "csv",  # noqa: A002
    fill: float | None = None,
) -> int:
    """Write some rows and columns of a compressed file to standard output.

    Only the chunks that are needed are read.

    Parameters
    ----------
    file
        The compressed file, or - for standard input.
    rows
        As slices in Python: 1000:2000, :10, -5:, 0:1000:10, or one number.
    columns
        Names or numbers, with commas between.
    format
        csv, npy, raw or wav.
    fill
        A number in place of missing values.
    """
    from . import codec_files

    codec_files.cat(file, rows, columns, format, fill)
    return 0


@codec.command
def info(file: File, *, details: bool = False, json: bool = False) -> int:
    """Say what a compressed file holds and how small it became.

    Parameters
    ----------
    file
        The compressed file, or - for standard input.
    details
        Also for each column its range and encodings; this reads the whole file.
    json
        Print JSON on standard output.
    """
    from . import codec_state

    codec_state.info(file, details, json)
    return 0


@codec.command
def verify(*files: File) -> int:
    """Decode every chunk and compare it with its checksum and the index. Exit status 1 where something is wrong.

    Parameters
    ----------
    files
        Compressed files.
    """
    from . import UsageError, codec_state

    if not files:
        raise UsageError("codec verify: expected files, got none. Name some.")
    return max([codec_state.verify(file) for file in files])


@codec.command
def repair(file: File, *, out: Out = None, skip_bad: bool = False, force: bool = False) -> int:
    """Make a whole file from one that was cut, whose writer was killed, or that has bad chunks.

    Parameters
    ----------
    file
        The damaged file.
    out
        Where to write the whole one. Default: in its place.
    skip_bad
        Keep what lies behind a bad chunk, which is else refused or, with --out, left out. The rows of the bad chunk are
        lost, and the file says how many.
    force
        Replace a file that is there.
    """
    from . import codec_state

    return codec_state.repair(file, out, skip_bad, force)


@codec.command
def bench(
    file: File,
    *,
    rows: str | None = None,
    codecs: str | None = None,
    format: Format | None = None,  # noqa: A002
    dtype: str | None = None,
    columns: str | None = None,
    json: bool = False,
) -> int:
    """Compare ratio and speed of our profiles and of the other codecs that are installed, on a file of yours.

    One thread, best of several runs, in memory. Every codec gets the columns one behind the other, and every result is
    compared with the data.

    Parameters
    ----------
    file
        The file, as for compress.
    rows
        Which rows, as in cat. Default: the first 16 MiB.
    codecs
        Only those whose names begin so, with commas between: tsz,zstd.
    format
        As of compress.
    dtype
        As of compress.
    columns
        As of compress.
    json
        Print one JSON object for each codec.
    """
    from . import codec_bench

    asked = {"dtype": dtype, "columns": columns}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    codec_bench.bench(file, format, options, rows, codecs, json)
    sys.stdout.flush()
    return 0
