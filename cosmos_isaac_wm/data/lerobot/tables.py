"""How are parquet tables read and written? As arrays, or with a word on what they lack: they may be anybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from ...storage.structured import must_be_file, one_line
from ..episodes import DatasetError


def read_table(paths: Path | Sequence[Path], names: Sequence[str], where: tuple[str, int] | None = None) -> Any:
    """Columns of one table that lies in one file or several.

    Args:
        paths: The files, in order.
        names: Of the columns.
        where: Only rows in which this column has this value.

    Raises:
        DatasetError: If a file is missing or damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [paths] if isinstance(paths, Path) else paths
    if not paths:
        raise DatasetError(f"there are no parquet files with {', '.join(names)}; is the dataset complete?")
    found = []
    for path in paths:
        must_be_file(path, DatasetError)
        try:
            if missing := sorted(set(names) - set(pq.read_schema(path).names)):
                raise DatasetError(f"{path} has no column {', '.join(missing)}")
            filters = None if where is None else [(where[0], "=", where[1])]
            found.append(pq.read_table(path, columns=list(names), filters=filters))
        except DatasetError:
            raise
        except Exception as error:  # whatever damage makes pyarrow raise
            raise DatasetError(f"{path} is damaged: {one_line(error)}") from error
    try:
        return pa.concat_tables(found, promote_options="permissive")
    except pa.ArrowException as error:
        raise DatasetError(
            f"{paths[0].parent.parent} has files that do not belong together: {one_line(error)}"
        ) from error


def column(table: Any, name: str, path: Path) -> NDArray[Any]:
    """A column of numbers or of vectors as an array (rows, D).

    Args:
        table: Where it is.
        name: Its name.
        path: Of the dataset, for messages.

    Raises:
        DatasetError: If it holds something else, or vectors of several lengths.
    """
    import pyarrow as pa

    whole = table[name].combine_chunks()
    rows = len(whole)
    if pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type) or pa.types.is_fixed_size_list(whole.type):
        lengths = set(np.asarray(whole.value_lengths().fill_null(-1)).tolist()) if rows else set()
        if len(lengths) != 1 or -1 in lengths:
            raise DatasetError(f"{name} of {path} has rows of {sorted(lengths)} numbers; expected as many in each")
        whole = whole.flatten()
    if not (pa.types.is_integer(whole.type) or pa.types.is_floating(whole.type) or pa.types.is_boolean(whole.type)):
        raise DatasetError(f"{name} of {path} holds {whole.type}; expected numbers")
    if not rows or whole.null_count:
        raise DatasetError(f"{name} of {path} has {'empty' if rows else 'no'} rows")
    return np.asarray(whole.to_numpy(zero_copy_only=False)).reshape(rows, -1)


def task_names(path: Path) -> list[str]:
    """What is to be done, by number.

    Raises:
        DatasetError: If the table is missing or damaged.
    """
    import pyarrow.parquet as pq

    must_be_file(path, DatasetError)
    try:
        names = pq.read_schema(path).names
    except Exception as error:  # whatever a damaged file makes pyarrow raise
        raise DatasetError(f"{path} is damaged: {one_line(error)}") from error
    texts = [name for name in names if name != "task_index"]
    if "task_index" not in names or len(texts) != 1:
        raise DatasetError(f"{path} has the columns {names}; expected task_index and the task's name")
    table = read_table(path, names)
    numbers = column(table, "task_index", path)[:, 0].tolist()
    if sorted(numbers) != list(range(len(numbers))):
        raise DatasetError(f"the tasks of {path} are not numbered 0, 1, 2, ...")
    return [str(text) for _, text in sorted(zip(numbers, table[texts[0]].to_pylist(), strict=True))]


def written(values: Mapping[str, NDArray[Any]], pictures: Mapping[str, NDArray[np.uint8]]) -> Any:
    """A table of numbers (T,), vectors (T, D), a single one as a number, and pictures (T, H, W, 3) as PNG."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, frames in pictures.items():
        kept = [{"bytes": iio.imwrite("<bytes>", frame, extension=".png"), "path": None} for frame in frames]
        columns[name] = pa.array(kept, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    for name, rows in values.items():
        flat = pa.array(np.ascontiguousarray(rows).ravel())
        size = rows.size // len(rows)
        columns[name] = flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)
    return pa.table(columns)


def task_table(tasks: Sequence[str]) -> Any:
    """Tasks as LeRobot has them, a pandas table with their names as its index."""
    import pyarrow as pa

    table = pa.table({"task_index": list(range(len(tasks))), "task": list(tasks)})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for name, (kind, stored) in kinds.items()
    ]
    about = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(about)})
