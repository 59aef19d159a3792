"""A model as a callable over batches of columns, built once and used for as many batches as come."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import ray
import torch
from torch import Tensor, nn

from air_tutorials.checkpoints import Source, load_weights
from air_tutorials.columns import Batch, check_columns, to_array, to_features
from air_tutorials.errors import ConfigError

PREDICTIONS = "predictions"


class TorchPredictor:
    """Predicts batches of columns with a model that is built once, when the object is made.

    It is a class for ``Dataset.map_batches``, which makes one object in each actor, and as good in a plain process.

    Features are cast to float32 and otherwise left as they are: an image of bytes keeps its range of [0, 255].
    A column of tensors is passed to the model as float32 (batch, …). Columns of scalars, one or several, become the
    columns of one table, float32 (batch, number of columns), in the order of ``feature_columns``.

    Args:
        checkpoint: whatever ``load_weights`` takes, or a ``state_dict``, or the reference to one in Ray's object store.
        model_factory: builds the model that the checkpoint was saved from.
        feature_columns: names of the columns that the model takes.
        keep_columns: names of the columns that are passed on, such as an id.
        device: where the model runs, such as ``"cuda"``; left out, on a GPU if this process sees one.

    Raises:
        ConfigError: ``feature_columns`` is empty, or ``keep_columns`` has the name that the predictions get.
        CheckpointError: see ``load_weights``.

    >>> predictor = TorchPredictor(nn.Linear(2, 1).state_dict(), lambda: nn.Linear(2, 1), feature_columns=("x", "y"))
    >>> predictor({"x": np.zeros(3), "y": np.zeros(3)})["predictions"].shape
    (3, 1)
    """

    def __init__(
        self,
        checkpoint: Source | Mapping[str, Tensor] | ray.ObjectRef,
        model_factory: Callable[[], nn.Module],
        *,
        feature_columns: str | Iterable[str] = ("image",),
        keep_columns: str | Iterable[str] = (),
        device: str | None = None,
    ) -> None:
        self.feature_columns, self.keep_columns = column_names(feature_columns, keep_columns)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = model_factory()
        weights = ray.get(checkpoint) if isinstance(checkpoint, ray.ObjectRef) else checkpoint
        if isinstance(weights, Mapping):
            model.load_state_dict(weights)
        else:
            load_weights(weights, model)
        self.model = model.to(self.device).eval()

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """Predict one batch.

        Args:
            batch: columns by name, each an array of (batch, …) or a column of a DataFrame.

        Returns:
            The kept columns, and ``predictions``: what the model returned, float32 (batch, …); (0,) for no samples.

        Raises:
            ColumnError: a column is missing, holds no numbers, or arrays of different shapes; the message says which.
            ConfigError: the model returned something other than one row for each sample.
        """
        check_columns(self.feature_columns + self.keep_columns, batch)
        kept = {name: to_array(batch[name]) for name in self.keep_columns}
        features = to_features(batch, self.feature_columns)
        if not len(features):
            return {**kept, PREDICTIONS: np.empty((0,), np.float32)}
        with torch.inference_mode():
            outputs = self.model(torch.from_numpy(features).to(self.device))
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != (len(features),):
            returned = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ConfigError(
                f"The model returned {returned} for {len(features)} samples, and must return a tensor with one row "
                "for each. Wrap it in a module that does."
            )
        return {**kept, PREDICTIONS: outputs.float().cpu().numpy()}


def column_names(features: str | Iterable[str], keep: str | Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return both lists of names, of which each may be a single name.

    Raises:
        ConfigError: there are no features, or what is kept has the name that the predictions get.
    """
    feature_columns = (features,) if isinstance(features, str) else tuple(features)
    keep_columns = (keep,) if isinstance(keep, str) else tuple(keep)
    if not feature_columns:
        raise ConfigError("feature_columns is empty. Name at least one column that the model takes.")
    if PREDICTIONS in keep_columns:
        raise ConfigError(f"keep_columns has {PREDICTIONS!r}, where the predictions go. Rename that column first.")
    return feature_columns, keep_columns
