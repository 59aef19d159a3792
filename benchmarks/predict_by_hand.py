"""What one would write instead of a predictor: a process that reads its part of the Parquet files and predicts it."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from air_tutorials.checkpoints import load_weights
from air_tutorials.models import NeuralNetwork

BATCH_SIZE = 1024


def main() -> None:
    """Predict every second file, or as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(arguments.files.glob("*.parquet"))[arguments.rank :: arguments.world_size]
    predict_files(files, arguments.weights, arguments.out / f"{arguments.rank}.parquet")


def predict_files(files: list[Path], weights: Path, out: Path) -> None:
    """Predict some files, a batch at a time, and write ids and logits to one file.

    Args:
        files: Parquet with ``id``: int64, and ``image``: 784 bytes.
        weights: a checkpoint of ``NeuralNetwork``.
        out: the file to write.
    """
    model = load_weights(weights, NeuralNetwork()).eval()
    schema = pyarrow.schema({"id": pyarrow.int64(), "predictions": pyarrow.list_(pyarrow.float32(), 10)})
    with pyarrow.parquet.ParquetWriter(out, schema) as writer, torch.inference_mode():
        for file in files:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(BATCH_SIZE):
                flat = batch.column("image")
                flat = getattr(flat, "storage", flat).flatten().to_numpy()
                images = torch.from_numpy(flat.reshape(-1, 1, 28, 28).astype(np.float32))
                logits = pyarrow.array(model(images).numpy().ravel())
                rows = pyarrow.FixedSizeListArray.from_arrays(logits, 10)
                writer.write_batch(pyarrow.record_batch([batch.column("id"), rows], schema=schema))


if __name__ == "__main__":
    main()
