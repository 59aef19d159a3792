"""What can never fit is refused at once, with the arithmetic and with a mend that works."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.train import ScalingConfig

from air_tutorials.cluster import preflight
from air_tutorials.errors import ClusterError, PreflightError
from air_tutorials.preflight import check_workers_fit


@pytest.mark.parametrize(
    "fits",
    [
        ScalingConfig(num_workers=4),
        ScalingConfig(num_workers=(4, 100)),
        ScalingConfig(num_workers=40, resources_per_worker={"CPU": 0.1}),
        ScalingConfig(num_workers=5, resources_per_worker={"CPU": 0}),
        ScalingConfig(num_workers=0, use_gpu=True),
    ],
)
def test_what_fits_passes(cluster: dict[str, float], fits: ScalingConfig) -> None:
    preflight(fits)


@pytest.mark.parametrize(
    ("too_much", "message"),
    [
        (
            ScalingConfig(num_workers=9),
            "9 workers × 1 CPU = 9 CPU, but the cluster has 4, which is room for 4. "
            "Set num_workers to at most 4, or start Ray anew with local_cluster(num_cpus=9).",
        ),
        (
            ScalingConfig(num_workers=(5, 6)),
            "5 workers × 1 CPU = 5 CPU, but the cluster has 4, which is room for 4. "
            "Set num_workers to at most 4, or start Ray anew with local_cluster(num_cpus=5).",
        ),
        (
            ScalingConfig(num_workers=2, use_gpu=True),
            "2 workers × 1 GPU = 2 GPU, but the cluster has 0, which is room for 0. Set use_gpu=False.",
        ),
        (
            ScalingConfig(num_workers=1, resources_per_worker={"disk": 2}),
            "1 worker × 2 disk = 2 disk, but the cluster has 0, which is room for 0. "
            "Start a node that has it, or ask for none in resources_per_worker.",
        ),
    ],
)
def test_too_much_is_refused_with_the_arithmetic(
    cluster: dict[str, float], too_much: ScalingConfig, message: str
) -> None:
    with pytest.raises(PreflightError) as refusal:
        preflight(too_much)
    assert str(refusal.value) == message


def test_an_elastic_run_needs_a_batch_for_every_number_of_workers(cluster: dict[str, float]) -> None:
    elastic = ScalingConfig(num_workers=(2, 4))
    preflight(elastic, batch_size=24)
    with pytest.raises(PreflightError, match=r"6 / 4 workers = 1\.5 .* 2 to 4 workers\. .* a multiple of 12, or"):
        preflight(elastic, batch_size=6)
    with pytest.raises(PreflightError, match=r"2 to 100 workers\. Set num_workers to one\."):
        preflight(ScalingConfig(num_workers=(2, 100)), batch_size=64)


def test_every_problem_is_told_at_once(cluster: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as refusal:
        preflight(ScalingConfig(num_workers=9, use_gpu=True), batch_size=64, storage_path=tmp_path / "no" / "where")
    for part in ("9 GPU", "batch_size 64 / 9 workers = 7.111", "cannot be made"):
        assert part in str(refusal.value)


@given(batch_size=st.integers(-2, 300), num_workers=st.integers(1, 40))
@settings(deadline=None)
def test_batches_divide_by_the_workers(cluster: dict[str, float], batch_size: int, num_workers: int) -> None:
    """It refuses what does not divide and only that, and whatever it proposes is accepted."""
    config = ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": 0.1})
    if batch_size > 0 and batch_size % num_workers == 0:
        preflight(config, batch_size=batch_size)
        return
    with pytest.raises(PreflightError, match=f"batch_size (is )?{batch_size}") as refusal:
        preflight(config, batch_size=batch_size)
    if batch_size < 1:
        return
    sizes, workers = re.findall(r"(?:batch_size|num_workers) to ([\d or]+)", str(refusal.value))
    nearest = [int(size) for size in sizes.split(" or ")]
    assert all(size % num_workers == 0 and size > 0 for size in nearest)
    assert min(abs(size - batch_size) for size in nearest) == min(
        abs(multiple * num_workers - batch_size) for multiple in range(1, math.ceil(batch_size / num_workers) + 1)
    )
    assert all(batch_size % int(number) == 0 for number in workers.split(" or "))


def test_writable_storage_passes_and_stays_empty(tmp_path: Path) -> None:
    no_workers = ScalingConfig(num_workers=0)
    for storage_path in (tmp_path, str(tmp_path), tmp_path / "new", f"file://{tmp_path}", "s3://bucket/runs"):
        preflight(no_workers, storage_path=storage_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("storage_path", "message"),
    [
        ("results", r"'results' is relative, .* set it to /.*results\."),
        ("{tmp}/no/where", r"no/where cannot be made: .*/no is no directory\. Create it"),
        ("{tmp}/file", r"file cannot be made: .*/file is no directory"),
        ("{tmp}/file/below", r"below cannot be made: .*/file is no directory"),
        ("/proc/results", r"/proc/results cannot be written: .*\. Choose a directory"),
    ],
)
def test_storage_that_cannot_be_written_is_refused(tmp_path: Path, storage_path: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PreflightError, match=message):
        preflight(ScalingConfig(num_workers=0), storage_path=storage_path.format(tmp=tmp_path))


def test_workers_alone(cluster: dict[str, float]) -> None:
    check_workers_fit(2, {"CPU": 2, "GPU": 0})
    with pytest.raises(PreflightError, match="3 workers × 2 CPU = 6 CPU, but the cluster has 4, which is room for 2"):
        check_workers_fit(3, {"CPU": 2})
    assert issubclass(PreflightError, ClusterError)
