"""Writes small Parquet files with pyarrow: each codec, page version and encoding that texts come in.

    pip install pyarrow==26.0.1
    python make.py

Row i of each file is null where i % 7 == 3, and otherwise the text of `text(i)`.
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
N_ROW = 700


def text(i):
    return None if i % 7 == 3 else f"row {i} " + "ab 语 " * (i % 5)


TEXTS = [text(i) for i in range(N_ROW)]
TABLE = pa.table({"id": pa.array(range(N_ROW), pa.int64()), "text": pa.array(TEXTS, pa.string())})


def write(name, table=TABLE, **options):
    options.setdefault("row_group_size", 300)
    options.setdefault("data_page_size", 2048)
    pq.write_table(table, HERE / f"{name}.parquet", **options)


write("snappy")
for codec in ["none", "gzip", "lz4", "zstd", "brotli"]:
    write(codec, compression=codec)
write("zstd-v2", compression="zstd", data_page_version="2.0")
write("snappy-v2", data_page_version="2.0")
for name in ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
    write(name.lower().replace("_", "-"), use_dictionary=False, column_encoding={"text": name, "id": "PLAIN"})
required = pa.schema([pa.field("text", pa.string(), nullable=False)])
write("required", pa.table({"text": [t or "" for t in TEXTS]}, schema=required), compression="zstd")
write("nested", pa.table({"a": [{"b": t} for t in TEXTS], "list": [[t] for t in TEXTS]}))
write("bytes", pa.table({"text": pa.array([b"a", b"\xff\xfe", None], pa.binary())}))
write("empty", TABLE.slice(0, 0))
