"""The embedded sample: the same bytes everywhere, balanced, and as hard as the pages need it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from air_tutorials import sample_data
from air_tutorials.datasets import ImageDataset, load_cifar10, load_fashion_mnist, load_mnist
from air_tutorials.models import DigitNet, Net, NeuralNetwork

# A change here is a change of VERSION in sample_data.py too.
SHA256 = {
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "674a1704df2090cedeeebcb7f8492bffcfbe2460a209c6da4731865ebcdb2dfb",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "ed3222abf29bafc4f7f0a3a0b94e2d597c92cbe2aad0a83ed1618697f89c4478",
    "FashionMNIST/raw/train-images-idx3-ubyte": "695e64c2ced931e85e6ca8c710aefd0657eadc1ecf9a253bc1f3e17b6a248762",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "ddefbfca3600fea10669a930b6f29e19e2b500ac198c029d99e6cdd703345e03",
    "MNIST/raw/t10k-images-idx3-ubyte": "49538f1c2d03c716998fc8ca0e2c31b36e536afc6f7ffbb0a2edcac04ff4ab45",
    "MNIST/raw/t10k-labels-idx1-ubyte": "f0654884bbd8267cc810a1bacb6949131d52852ed56a52375ea913717ca11e58",
    "MNIST/raw/train-images-idx3-ubyte": "456999e9a2b96e11fe39f11e904fba33955e44116a88859b184ddfe8102532b9",
    "MNIST/raw/train-labels-idx1-ubyte": "95c833be29c981e127ed90e84f013935ddb2d5ff4e1d29a995ada4533e720271",
    "cifar-10-batches-py/batches.meta": "d237e7e42e83ba7fea4ee1858896a815623dd375b42dcfcab2da65655d57adc3",
    "cifar-10-batches-py/data_batch_1": "1a5db3db75fdf4aa80eaa296b2bed2ffcee271a1e5c3a90b98608ee4038454d1",
    "cifar-10-batches-py/data_batch_2": "ea6e1b07056ff7305f9db813caf6299caf51ef5d1e255cea35fb6b8cde230fc6",
    "cifar-10-batches-py/data_batch_3": "d429f7b2ebecfc2d7c30d514db3e0fd0e9127670e1c9e376e41f5e321471caf5",
    "cifar-10-batches-py/data_batch_4": "487aedd2e4e9aa010bc7095a53b55a361b932b7768e24092cd083e80de8cb320",
    "cifar-10-batches-py/data_batch_5": "bc0c540c505ef24f68fb077ba518924db0b6da533cc7952b7d87991dbf00708a",
    "cifar-10-batches-py/test_batch": "30672446a8be42aff7e389d20a2e529764681e3ed160811c5136c78eb8bfe277",
}
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LOADERS = [load_fashion_mnist, load_mnist, load_cifar10]
Load = Callable[..., ImageDataset]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """For models as small as these a second thread is no help, and a hindrance on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def digests(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_all(root: Path) -> None:
    sample_data.write_fashion_mnist(root)
    sample_data.write_mnist(root)
    sample_data.write_cifar10(root)


def test_every_file_has_the_same_bytes_as_on_any_other_machine(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert digests(tmp_path) == SHA256


def test_a_processor_without_vector_units_draws_the_same_bytes(tmp_path: Path) -> None:
    # What NumPy computes with vector instructions may differ in the last bit from one processor to the next.
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    disabled = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    code = "import sys; from pathlib import Path; import test_sample_data as t; t.write_all(Path(sys.argv[1]))"
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True, timeout=240)
    assert digests(tmp_path) == SHA256


@pytest.mark.parametrize("load", LOADERS)
def test_labels_are_balanced_and_in_random_order(data_root: Path, load: Load) -> None:
    for train, count in ((True, 12_000), (False, 2_000)):
        labels = load(data_root, train=train).labels
        assert labels.bincount().tolist() == [count // 10] * 10
        # Training in the order of the file sees every class all the time, and no pattern.
        shares = [part.bincount(minlength=10) / len(part) for part in labels.split(500)]
        assert torch.stack(shares).sub(0.1).abs().max() < 0.06
        assert 0.07 < (labels[1:] == labels[:-1]).double().mean() < 0.13


@pytest.mark.parametrize("load", LOADERS)
def test_no_picture_is_there_twice(data_root: Path, load: Load) -> None:
    pictures = torch.cat([load(data_root, train=train).images for train in (True, False)])
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(pictures) == 14_000


def test_cifar_has_its_own_class_names(data_root: Path) -> None:
    assert list(load_cifar10(data_root).classes) == CIFAR10_CLASSES


def test_garments_and_digits_lie_on_black(data_root: Path) -> None:
    for load in (load_fashion_mnist, load_mnist):
        images = load(data_root).images.double()
        assert images[:, :, :2, :2].mean() < 4
        assert images[:, :, 10:18, 10:18].mean() > 50


def as_tensors(dataset: ImageDataset) -> tuple[Tensor, Tensor]:
    images, labels = default_collate(dataset.__getitems__(range(len(dataset))))
    return images, labels


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return float((model(images).argmax(dim=1) == labels).double().mean())


# More steps than these do not raise its test accuracy by more than 0.02.
@pytest.mark.parametrize(("load", "steps"), [(load_fashion_mnist, 60), (load_mnist, 20), (load_cifar10, 20)])
def test_a_linear_model_stays_below_85_percent(data_root: Path, load: Load, steps: int) -> None:
    images, labels = as_tensors(load(data_root))
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10))
    nn.init.zeros_(model[1].weight)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels) + 5e-5 * model[1].weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    score = accuracy(model, *as_tensors(load(data_root, train=False)))
    assert 0.4 < score < 0.85


@pytest.mark.parametrize(
    ("load", "make_model", "lr", "momentum", "epochs"),
    [
        (load_fashion_mnist, NeuralNetwork, 0.1, 0.0, 5),
        (load_mnist, DigitNet, 0.01, 0.5, 3),
        (load_cifar10, Net, 0.01, 0.9, 5),
    ],
)
def test_the_model_of_the_page_reaches_85_to_97_percent(
    data_root: Path, load: Load, make_model: Callable[[], nn.Module], lr: float, momentum: float, epochs: int
) -> None:
    images, labels = as_tensors(load(data_root))
    torch.manual_seed(0)
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    for _ in range(epochs):
        for batch, targets in zip(images.split(64), labels.split(64), strict=True):
            optimizer.zero_grad()
            # The log-probabilities of DigitNet are logits too.
            nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    score = accuracy(model, *as_tensors(load(data_root, train=False)))
    assert 0.85 < score < 0.97
