"""Datasets: bit for bit what torchvision's transforms make, in whole batches, whoever builds the loader."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, random_split
from torchvision import transforms

from air_tutorials.dataset_files import prepare_files
from air_tutorials.datasets import ImageDataset, load_cifar10, load_fashion_mnist, load_mnist, to_ray_dataset
from air_tutorials.errors import ConfigError

LOADERS = {"FashionMNIST": load_fashion_mnist, "MNIST": load_mnist, "CIFAR10": load_cifar10}
NORMALISE = {
    "FashionMNIST": [],
    "MNIST": [transforms.Normalize((0.1307,), (0.3081,))],
    "CIFAR10": [transforms.Normalize((0.5,) * 3, (0.5,) * 3)],
}


@pytest.fixture(scope="module")
def garments(data_root: Path) -> ImageDataset:
    return load_fashion_mnist(data_root, train=False)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", LOADERS)
def test_samples_are_those_of_torchvision_with_its_transforms(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, name: str, train: bool
) -> None:
    dataset = LOADERS[name](data_root, train=train)
    directory = prepare_files(name, data_root, "sample", timeout_s=60)
    if name == "CIFAR10":
        # Torchvision's class insists on checksums: let it see those of the sample.
        def md5(file: str) -> str:
            return hashlib.md5((directory / "cifar-10-batches-py" / file).read_bytes()).hexdigest()

        for attribute in ("train_list", "test_list"):
            files = [[file, md5(file)] for file, _ in getattr(torchvision.datasets.CIFAR10, attribute)]
            monkeypatch.setattr(torchvision.datasets.CIFAR10, attribute, files)
        meta = torchvision.datasets.CIFAR10.meta | {"md5": md5("batches.meta")}
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    transform = transforms.Compose([transforms.ToTensor(), *NORMALISE[name]])
    expected = getattr(torchvision.datasets, name)(directory, train=train, transform=transform)

    assert len(dataset) == len(expected) == (12_000 if train else 2_000)
    assert dataset.classes == tuple(expected.classes)
    assert dataset.labels.tolist() == [int(label) for label in expected.targets]
    (images, labels), *_ = DataLoader(dataset, batch_size=300)
    (expected_images, expected_labels), *_ = DataLoader(expected, batch_size=300)
    assert torch.equal(images, expected_images)
    assert torch.equal(labels, expected_labels)
    assert torch.equal(dataset[7][0], expected[7][0])
    assert dataset[7][1] == expected[7][1]


def pairs(loader: DataLoader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images, labels) for images, labels in loader]


def one_by_one(dataset: Dataset, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*(dataset[i] for i in indices), strict=True)
    return torch.stack(images), torch.tensor(labels)


@pytest.mark.parametrize(
    "part",
    [
        lambda dataset: dataset,
        lambda dataset: Subset(dataset, range(5, 250, 3)),
        lambda dataset: random_split(dataset, [0.9, 0.1], torch.Generator().manual_seed(0))[1],
        lambda dataset: Subset(Subset(dataset, range(300)), range(0, 300, 2)),
        lambda dataset: ConcatDataset([dataset, dataset]),
        lambda dataset: pickle.loads(pickle.dumps(dataset)),
    ],
    ids=["whole", "subset", "split", "subset of subset", "concatenated", "pickled"],
)
def test_a_plain_loader_collates_what_single_samples_are(
    garments: ImageDataset, part: Callable[[Dataset], Dataset]
) -> None:
    dataset = part(garments)
    batches = pairs(DataLoader(dataset, batch_size=64))
    assert sum(len(labels) for _, labels in batches) == len(dataset)
    for batch, start in ((0, 0), (len(batches) - 1, 64 * (len(batches) - 1))):
        images, labels = one_by_one(dataset, list(range(start, min(start + 64, len(dataset)))))
        assert torch.equal(batches[batch][0], images)
        assert torch.equal(batches[batch][1], labels)


def test_a_batch_takes_one_indexing_operation(garments: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageDataset, "__getitem__", None)
    monkeypatch.setattr(torch, "stack", None)
    assert sum(len(labels) for _, labels in DataLoader(Subset(garments, range(100)), batch_size=32)) == 100


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_processes_of_a_loader_collate_too(garments: ImageDataset, start_method: str) -> None:
    part = Subset(garments, range(300))
    plain = pairs(DataLoader(part, batch_size=64))
    loader = DataLoader(part, batch_size=64, num_workers=2, multiprocessing_context=start_method, timeout=120)
    for (images, labels), (expected_images, expected_labels) in zip(pairs(loader), plain, strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_a_collate_function_of_ones_own_sees_a_list_of_samples(garments: ImageDataset) -> None:
    def collate(samples: list) -> tuple[int, list[int], list[torch.Size]]:
        images, labels = zip(*samples, strict=True)
        return len(samples), list(labels), [image.shape for image in images]

    first = next(iter(DataLoader(garments, batch_size=3, collate_fn=collate)))
    assert first == (3, garments.labels[:3].tolist(), [torch.Size([1, 28, 28])] * 3)
    again = torch.utils.data.default_collate(list(garments.__getitems__([0, 1])))
    assert torch.equal(again[0], one_by_one(garments, [0, 1])[0])


def test_a_loader_that_ray_prepares_gives_each_worker_its_share(
    cluster: dict[str, float], data_root: Path, tmp_path: Path
) -> None:
    import ray.train
    from ray.train.torch import TorchTrainer, prepare_data_loader

    def read_share(config: dict) -> tuple[np.ndarray, np.ndarray]:
        part = Subset(load_cifar10(config["root"], train=False), range(10, 210))
        batches = list(prepare_data_loader(DataLoader(part, batch_size=32)))
        return tuple(np.concatenate([batch[i].numpy() for batch in batches]) for i in (0, 1))

    result = TorchTrainer(
        read_share,
        train_loop_config={"root": str(data_root)},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(storage_path=str(tmp_path)),
    ).fit()
    # What rank 0 returned: with two workers, every second sample.
    images, labels = one_by_one(load_cifar10(data_root, train=False), list(range(10, 210, 2)))
    assert np.array_equal(result.return_value[0], images.numpy())
    assert np.array_equal(result.return_value[1], labels.numpy())


@given(st.integers(1, 5), st.sampled_from([1, 3]), st.booleans())
def test_arrays_of_any_kind_become_a_dataset(count: int, channels: int, as_floats: bool) -> None:
    pixels = np.random.default_rng(count).integers(0, 256, (count, channels, 4, 6), np.uint8)
    images = pixels / 255 if as_floats else pixels
    mean, std = [0.1] * channels, [0.3] * channels
    dataset = ImageDataset(images, np.arange(count, dtype=np.int32), mean=mean, std=std)
    image, label = dataset[count - 1]
    in_unit_range = torch.from_numpy(images[-1].astype(np.float32) / (1 if as_floats else 255))
    expected = transforms.Normalize(mean, std)(in_unit_range)
    assert torch.equal(image, expected)
    assert (label, dataset.classes) == (count - 1, tuple(map(str, range(count))))
    assert torch.equal(dataset.__getitems__(range(count)).images[-1], image)


def test_a_dataset_keeps_its_images_whatever_is_done_to_a_batch() -> None:
    for dtype in (torch.uint8, torch.float32):
        dataset = ImageDataset(torch.ones((4, 8, 8), dtype=dtype), torch.zeros(4, dtype=torch.int32))
        dataset.__getitems__([0, 1]).images.zero_()
        dataset[0][0].zero_()
        assert dataset.images.sum() == 4 * 64
        assert dataset.images.shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1]}, r"\(3, 1, 2, 2\) and labels \(2,\)"),
        ({"images": np.zeros((3, 4), np.uint8)}, r"\(3, 4\)"),
        ({"classes": ["a", "b"]}, "from 0 to 2, but there are 2 classes"),
        ({"labels": [0, 1, -1]}, "from -1 to 1"),
        ({"mean": [0.5]}, "must both"),
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, "each of the 1 channels"),
        ({"mean": [0.5], "std": [0.0]}, "must not hold 0"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    arguments = {"images": np.zeros((3, 2, 2), np.uint8), "labels": [0, 1, 2]} | change
    with pytest.raises(ConfigError, match=message):
        ImageDataset(**arguments)


def test_a_ray_dataset_has_every_row_once(cluster: dict[str, float], data_root: Path) -> None:
    cifar = load_cifar10(data_root, train=False)
    for dataset, num_blocks in ((cifar, 8), (Subset(cifar, range(3, 40, 2)), 5)):
        rays = to_ray_dataset(dataset, num_blocks=num_blocks).materialize()
        assert rays.num_blocks() == num_blocks
        columns = ("id", "image", "label")
        batches = rays.iter_batches(batch_size=100)
        rows = [row for batch in batches for row in zip(*(batch[name] for name in columns), strict=True)]
        assert sorted(int(number) for number, *_ in rows) == list(range(len(dataset)))
        for number, image, label in rows:
            assert (number.dtype, image.dtype, label.dtype) == (np.int64, np.float32, np.int64)
            assert np.array_equal(image, dataset[number][0].numpy())
            assert label == dataset[number][1]


def test_a_ray_dataset_of_stored_images_has_their_bytes(cluster: dict[str, float], data_root: Path) -> None:
    cifar = load_cifar10(data_root, train=False)
    part = Subset(Subset(cifar, range(1, 60)), range(0, 50, 7))
    for row in to_ray_dataset(part, num_blocks=2, as_stored=True).take_all():
        original = 1 + 7 * row["id"]
        assert row["image"].dtype == np.uint8
        assert np.array_equal(row["image"], cifar.images[original].numpy())
        assert row["label"] == cifar.labels[original]


@pytest.mark.parametrize("num_blocks", [0, -1, 2_001])
def test_a_ray_dataset_cannot_have_so_many_blocks(garments: ImageDataset, num_blocks: int) -> None:
    with pytest.raises(ConfigError, match=f"num_blocks={num_blocks} must be between 1 and .* 2000"):
        to_ray_dataset(garments, num_blocks=num_blocks)
