"""The datasets that page 3 migrates, the checksum that it compares with, and the errors that it shows."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

from air_tutorials.errors import DataError
from air_tutorials.feeding import CsvRows, Epoch, ImageFiles, cause_of, epoch_checksum, write_image_files

CLASSES = ["cat", "frog", "ship"]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (12, 3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def directory(images: torch.Tensor, tmp_path: Path) -> Path:
    return write_image_files(tmp_path / "images", images, torch.arange(12) % 3, CLASSES)


def test_image_files_hold_the_images_and_their_names_the_labels(images: torch.Tensor, directory: Path) -> None:
    names = sorted(path.name for path in directory.iterdir())
    assert names == sorted(f"{CLASSES[i % 3]}_{i:04}.png" for i in range(12))
    for i in range(12):
        assert torch.equal(pil_to_tensor(Image.open(directory / f"{CLASSES[i % 3]}_{i:04}.png")), images[i])


def test_image_files_may_differ_in_size(tmp_path: Path) -> None:
    images = [np.zeros((3, 4, 5), np.uint8), np.ones((3, 7, 2), np.uint8)]
    dataset = ImageFiles(write_image_files(tmp_path, images, [1, 0], CLASSES), CLASSES)
    assert [(tuple(image.shape), label) for image, label in dataset] == [((3, 7, 2), 0), ((3, 4, 5), 1)]


def test_images_without_labels_are_refused(tmp_path: Path, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_image_files(tmp_path, images, [0, 1], CLASSES)


def test_a_dataset_of_image_files_reads_them_in_the_order_of_their_names(images: torch.Tensor, directory: Path) -> None:
    dataset = ImageFiles(directory, CLASSES)
    order = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    assert len(dataset) == 12
    assert [label for _, label in dataset] == [i % 3 for i in order]
    assert torch.equal(torch.stack([image for image, _ in dataset]), images[order])


def test_csv_rows_are_those_that_pandas_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"b": rng.normal(size=20), "target": rng.integers(2, size=20), "a": rng.normal(size=20) * 1e9})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    inputs, targets = next(iter(DataLoader(CsvRows(tmp_path / "rows.csv", ["a", "b"]), batch_size=20)))
    assert inputs.dtype == torch.float32
    assert np.array_equal(inputs.numpy(), frame[["a", "b"]].to_numpy(np.float32))
    assert targets.tolist() == frame["target"].tolist()


rows = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 9)), max_size=20)


def batches(values: list[tuple[int, int]], batch_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Cut rows into batches of an image of one pixel, and a label."""
    parts = [values[i : i + batch_size] for i in range(0, len(values), batch_size)]
    return [
        (torch.tensor([[pixel] for pixel, _ in part], dtype=torch.uint8), torch.tensor([label for _, label in part]))
        for part in parts
    ]


@given(rows, st.integers(1, 25), st.randoms(use_true_random=False))
def test_the_checksum_depends_on_neither_order_nor_batches(
    values: list[tuple[int, int]], batch_size: int, rng: random.Random
) -> None:
    before = epoch_checksum(batches(values, 4))
    mixed = rng.sample(values, len(values))
    after = epoch_checksum(batches(mixed, batch_size))
    assert (before.num_rows, before.checksum) == (after.num_rows, after.checksum) == (len(values), before.checksum)
    assert after.num_batches == -(-len(values) // batch_size)


@given(rows, rows)
def test_the_checksum_tells_rows_apart(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    same = sorted(first) == sorted(second)
    assert (epoch_checksum(batches(first, 4)).checksum == epoch_checksum(batches(second, 4)).checksum) == same


def test_the_checksum_tells_dtypes_and_shapes_apart() -> None:
    label = torch.zeros(1, dtype=torch.int64)
    images = [torch.zeros(1, 4), torch.zeros(1, 2, 2), torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 2)]
    assert len({epoch_checksum([(image, label)]).checksum for image in images}) == len(images)


def test_the_checksum_of_nothing() -> None:
    assert epoch_checksum([]) == Epoch(0, 0, "0" * 16)


def test_a_batch_whose_columns_differ_in_length_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        epoch_checksum([(torch.zeros(2, 1), torch.zeros(3))])


def test_a_dataset_of_ray_gives_the_checksum_of_a_loader(cluster: dict[str, float], directory: Path) -> None:
    import ray

    def name_columns(row: dict) -> dict:
        return {"label": CLASSES.index(Path(row["path"]).stem[:-5]), "image": row["image"].transpose(2, 0, 1)}

    dataset = ray.data.read_images(str(directory), include_paths=True, override_num_blocks=4).map(name_columns)
    before = epoch_checksum(DataLoader(ImageFiles(directory, CLASSES), batch_size=5, shuffle=True))
    assert epoch_checksum(dataset.iter_torch_batches(batch_size=5)) == before


@pytest.mark.parametrize("message", ["one line", "two\nlines", ""])
def test_the_cause_is_what_the_step_itself_raised(cluster: dict[str, float], message: str) -> None:
    import ray

    def fail(row: dict) -> dict:
        raise DataError(message)

    with pytest.raises(DataError) as raised:
        ray.data.range(1).map(fail).materialize()
    cause = cause_of(raised.value)
    assert type(cause) is DataError
    assert str(cause) == message


def test_a_damaged_image_is_named_relative_to_the_working_directory(
    cluster: dict[str, float], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    (directory / "frog_0099.png").write_bytes(b"\x89PNG and then nothing")
    monkeypatch.chdir(directory.parent)
    with pytest.raises(ValueError, match="frog_0099") as raised:
        ray.data.read_images(str(directory)).materialize()
    assert str(cause_of(raised.value)) == "PIL couldn't load image file at path 'images/frog_0099.png'."


def test_another_error_is_its_own_cause() -> None:
    for error in (KeyError("target"), ValueError(), OSError(2, "No such file")):
        before = str(error)
        assert cause_of(error) is error
        assert str(error) == before
