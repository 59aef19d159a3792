"""What many tests share: one Ray for the whole session, and a data directory that is drawn once."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from built_site import Site

# A shared machine pauses when it likes: what is slow there is no failure.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, float]]:
    """One Ray for all tests: starting it takes seconds. Four logical CPUs, whatever the machine has."""
    import ray

    from air_tutorials.cluster import local_cluster

    yield local_cluster(num_cpus=4)
    ray.shutdown()


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the embedded datasets, drawn once a session."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def net_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained ``Net``, saved."""
    import torch

    from air_tutorials.checkpoints import save_checkpoint
    from air_tutorials.models import Net

    torch.manual_seed(0)
    return save_checkpoint(tmp_path_factory.mktemp("served") / "net", Net())


@pytest.fixture(scope="session")
def net_images() -> np.ndarray:
    """A hundred random images for it: float32 (100, 3, 32, 32)."""
    return np.random.default_rng(0).uniform(-1, 1, (100, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def net_probabilities(net_images: np.ndarray) -> np.ndarray:
    """The probabilities that plain PyTorch gives each image by itself: float32 (100, 10)."""
    import torch

    from air_tutorials.models import Net

    torch.manual_seed(0)
    model = Net().eval()
    with torch.inference_mode():
        return torch.cat([model(image[None]).softmax(dim=1) for image in torch.from_numpy(net_images)]).numpy()


@pytest.fixture(scope="session")
def served_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The site, built once a session, and the address at which it is served."""
    from built_site import build, serve

    directory = build(tmp_path_factory.mktemp("site"))
    with serve(directory) as address:
        yield directory, address


@pytest.fixture(scope="module")
def browsed_site(served_site: tuple[Path, str]) -> Iterator["Site"]:
    """The site in a browser. Not for longer than a module: while it is open, no other test can have an event loop."""
    from browser import open_browser
    from built_site import Site

    with open_browser() as browser:
        yield Site(*served_site, browser)


@pytest.fixture
def site(browsed_site: "Site") -> Iterator["Site"]:
    """The site in a browser, for one test: what it opens is closed after it."""
    yield browsed_site
    browsed_site.close_pages()
