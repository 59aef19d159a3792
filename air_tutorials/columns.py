"""Turn the columns of a batch into the float32 array that a model takes, or say which column does not fit and why."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from air_tutorials.errors import ColumnError


class Batch(Protocol):
    """Columns by name: a dictionary of arrays, or a pandas DataFrame."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column: an array (batch, …), or a pandas Series."""

    def __contains__(self, name: object, /) -> bool:
        """Tell whether there is such a column."""

    def __iter__(self) -> Iterator[str]:
        """Yield the columns' names."""


def check_columns(wanted: Iterable[str], there: Iterable[str]) -> None:
    """Make sure that columns are there.

    Args:
        wanted: names of columns.
        there: a batch, or the names of its columns.

    Raises:
        ColumnError: some are missing; the message names them and what there is.
    """
    names = list(there)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ColumnError(
            f"There is no column {', '.join(map(repr, missing))}; there are {', '.join(map(repr, names)) or 'none'}. "
            "Set feature_columns and keep_columns to columns that are there."
        )


def to_array(column: Any) -> np.ndarray:
    """Return a column as an array, whether it is one or a pandas Series."""
    return np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)


def to_features(batch: Batch, feature_columns: Sequence[str]) -> np.ndarray:
    """Join the columns that a model takes.

    Args:
        batch: holds the columns.
        feature_columns: one column of tensors, or any number of columns of scalars.

    Returns:
        float32 (batch, …) of a column of tensors; float32 (batch, number of columns) of columns of scalars. The values
        are cast and never rescaled. The array is new and may be written to.

    Raises:
        ColumnError: a column holds no numbers, or arrays of different shapes, or there are several that hold tensors.

    >>> to_features({"height": [1.8, 1.6], "age": [30, 40]}, ["age", "height"])
    array([[30. ,  1.8],
           [40. ,  1.6]], dtype=float32)
    """
    columns = [_to_numbers(name, batch[name]) for name in feature_columns]
    if all(column.ndim == 1 for column in columns):
        return np.stack(columns, axis=1)
    if len(columns) > 1:
        shapes = ", ".join(f"{name} {column.shape[1:]}" for name, column in zip(feature_columns, columns, strict=True))
        raise ColumnError(
            f"Several feature_columns are put side by side and must be scalars, but a row of each has the shape "
            f"{shapes}. Choose one of them, or join them in a map_batches step before."
        )
    return columns[0]


def _to_numbers(name: str, column: Any) -> np.ndarray:
    values = to_array(column)
    if values.dtype == object and len(values):  # an array, a list or a scalar for each row
        try:
            values = np.stack([np.asarray(value) for value in values])
        except ValueError as error:
            shapes = sorted({str(value.shape) for value in values if isinstance(value, np.ndarray)})
            raise ColumnError(
                f"Column {name!r} holds arrays of different shapes{': ' if shapes else ''}{', '.join(shapes[:4])}. "
                "Bring them to one shape in a map_batches step before."
            ) from error
    if values.dtype.kind not in "fiub" and len(values):
        raise ColumnError(
            f"Column {name!r} holds {values.dtype} values, and a model takes numbers. "
            "Turn them into numbers in a map_batches step before, or choose other feature_columns."
        )
    # A copy always: what Ray hands out is read-only, and a model may work in place.
    return np.array(values, dtype=np.float32)
