"""The files of the datasets: drawn or downloaded once, checked, and never one for the other."""

import gzip
import hashlib
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from mirror import Fault, Mirror

from air_tutorials import dataset_files, sample_data
from air_tutorials.datasets import default_root, load_cifar10, load_fashion_mnist, load_mnist
from air_tutorials.errors import ConfigError, DamagedDataError, DownloadError

LOADERS = {"FashionMNIST": load_fashion_mnist, "MNIST": load_mnist, "CIFAR10": load_cifar10}
# The file, as the mirror serves it, that a fault is tried on.
ARCHIVE = {"MNIST": "MNIST/train-images-idx3-ubyte.gz", "CIFAR10": "CIFAR10/cifar-10-python.tar.gz"}


def test_the_sample_lies_in_the_users_cache_or_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIR_TUTORIALS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "air_tutorials" in str(default_root())
    monkeypatch.setenv("AIR_TUTORIALS_DATA", str(tmp_path / "data"))
    assert default_root() == tmp_path / "data"
    load_mnist(train=False)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["sample"]
    assert not (tmp_path / "cache").exists()


def test_an_unknown_source_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source='real' must be 'sample' .* or 'download'"):
        load_mnist(tmp_path / "data", source="real")
    assert not (tmp_path / "data").exists()


def test_four_processes_at_once_draw_the_sample_once(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from air_tutorials import dataset_files
draw = dataset_files._WRITERS["MNIST"]
dataset_files._WRITERS["MNIST"] = lambda directory: (print("drew"), draw(directory))
sys.stdin.readline()
print(dataset_files.prepare_files("MNIST", Path(sys.argv[1]), "sample", timeout_s=100))
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [line for child in children for line in child.communicate(timeout=200)[0].splitlines()]
    assert [child.returncode for child in children] == [0] * 4
    assert len(said) == 5
    assert said.count("drew") == 1
    assert len(set(said)) == 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["truncated", "flipped", "deleted"])
@pytest.mark.parametrize("file", ["MNIST/raw/train-labels-idx1-ubyte", "SHA256SUMS"])
def test_a_damaged_file_is_named_with_the_mend(
    tmp_path: Path, data_root: Path, damage: Callable[[Path], None], file: str
) -> None:
    expected = load_mnist(data_root)
    name = f"sample/MNIST-{sample_data.VERSION}"
    shutil.copytree(data_root / name, tmp_path / name)
    assert torch.equal(load_mnist(tmp_path).images, expected.images)

    damage(tmp_path / name / file)
    with pytest.raises(DamagedDataError) as caught:
        load_mnist(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "Delete the directory" in str(caught.value)
    if file != "SHA256SUMS":
        assert str(tmp_path / name / file) in str(caught.value)

    shutil.rmtree(tmp_path / name)
    assert torch.equal(load_mnist(tmp_path).images, expected.images)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small datasets in the formats of the real ones, of 200 and 100 images."""
    root = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_data, "TRAIN_PER_CLASS", 20)
        patch.setattr(sample_data, "TEST_PER_CLASS", 10)
        for write in (sample_data.write_fashion_mnist, sample_data.write_mnist, sample_data.write_cifar10):
            write(root)
    return root


@pytest.fixture
def mirror(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves the small datasets as the real servers do; torchvision looks for them there, with their checksums."""
    served = tmp_path / "served"
    for name in ("FashionMNIST", "MNIST"):
        (served / name).mkdir(parents=True)
        for path in (small / name / "raw").iterdir():
            (served / name / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    (served / "CIFAR10").mkdir()
    with tarfile.open(served / ARCHIVE["CIFAR10"], "w:gz") as archive:
        archive.add(small / "cifar-10-batches-py", "cifar-10-batches-py")

    def md5(path: str) -> str:
        return hashlib.md5((served / path).read_bytes()).hexdigest()

    with Mirror(served) as mirror:
        for name in ("FashionMNIST", "MNIST"):
            kind = getattr(torchvision.datasets, name)
            monkeypatch.setattr(kind, "mirrors", [f"{mirror.url}{name}/"])
            resources = [(file, md5(f"{name}/{file}")) for file, _ in kind.resources]
            monkeypatch.setattr(kind, "resources", resources)
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", mirror.url + ARCHIVE["CIFAR10"])
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(ARCHIVE["CIFAR10"]))
        yield mirror


@pytest.mark.parametrize("name", LOADERS)
def test_the_real_dataset_is_downloaded_once_and_apart_from_the_sample(
    tmp_path: Path, mirror: Mirror, name: str
) -> None:
    for train, count in ((True, 200), (False, 100), (True, 200)):
        dataset = LOADERS[name](tmp_path, train=train, source="download")
        assert dataset.labels.bincount().tolist() == [count // 10] * 10
        assert len(dataset.classes) == 10
    assert set(mirror.downloads.values()) == {1}
    assert [path.name for path in (tmp_path / "download").iterdir() if path.is_dir()] == [name]
    assert not list(tmp_path.glob("download/**/*.gz"))
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("truncated", DamagedDataError),
        ("flipped", DamagedDataError),
        ("reset", DownloadError),
        ("stalled", DownloadError),
        ("error", DownloadError),
        ("closed", DownloadError),
    ],
)
@pytest.mark.parametrize("name", ["MNIST", "CIFAR10"])
def test_a_failed_download_says_so_and_the_next_try_succeeds(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault, error: type[Exception]
) -> None:
    monkeypatch.setattr(dataset_files, "_SILENCE_S", 1.0)
    mirror.misbehave(ARCHIVE[name], fault, times=1)
    with pytest.raises(error, match=f"{name} was not prepared, and nothing was kept"):
        LOADERS[name](tmp_path, source="download")
    assert socket.getdefaulttimeout() is None
    assert not [path for path in tmp_path.glob("*/*") if path.parent.name in ("sample", "download") and path.is_dir()]
    assert len(LOADERS[name](tmp_path, source="download")) == 200
