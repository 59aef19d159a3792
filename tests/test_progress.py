import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from air_tutorials.progress import LossHistory, ProgressBoard, StepSender, start_board

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("cluster")


class MessageCounter(ProgressBoard):
    """A board that keeps each message apart."""

    def add(self, steps: Any) -> None:
        super().add([list(steps)])


def train(on_step: StepSender, num_epochs: int, num_steps: int, first_epoch: int = 0) -> str:
    for epoch in range(first_epoch, num_epochs):
        for step in range(num_steps):
            on_step(epoch, step, num_steps, torch.tensor(epoch + step / num_steps))
    return "trained"


def expected_steps(num_epochs: int, num_steps: int) -> list[tuple[int, int, int, float]]:
    return [(e, s, num_steps, pytest.approx(e + s / num_steps)) for e in range(num_epochs) for s in range(num_steps)]


def test_every_step_of_a_task_arrives_by_the_time_it_ends() -> None:
    board = start_board()
    ray.get(ray.remote(train).remote(StepSender(board), num_epochs=3, num_steps=500))
    assert ray.get(board.take.remote()) == expected_steps(3, 500)
    assert ray.get(board.take.remote()) == []


def test_between_the_first_and_the_last_step_of_an_epoch_it_waits_for_the_interval() -> None:
    board = ray.remote(num_cpus=0)(MessageCounter).remote()
    ray.get(board.take.remote())
    train(StepSender(board, interval_s=3600), num_epochs=2, num_steps=50)
    assert [len(message) for message in ray.get(board.take.remote())] == [1, 49, 1, 49]


class SlowBoard(MessageCounter):
    def add(self, steps: Any) -> None:
        time.sleep(0.5)
        super().add(steps)


def test_a_board_that_is_slow_gets_one_message_at_a_time() -> None:
    board = ray.remote(num_cpus=0)(SlowBoard).remote()
    begin_s = time.monotonic()
    train(StepSender(board, interval_s=0), num_epochs=1, num_steps=1_000)
    messages = ray.get(board.take.remote())
    assert [step for message in messages for step in message] == expected_steps(1, 1_000)
    assert len(messages) <= 1 + (time.monotonic() - begin_s) / 0.5


def test_every_epoch_of_unknown_length_shows_up() -> None:
    board = ray.remote(num_cpus=0)(SlowBoard).remote()
    sender = StepSender(board, interval_s=0)
    for epoch in range(3):
        for step in range(100):
            sender(epoch, step, 0, 1.0)
    messages = ray.get(board.take.remote())
    assert {(epoch, 0) for epoch in range(3)} <= {step[:2] for message in messages for step in message}


def test_a_training_goes_on_when_the_board_is_dead() -> None:
    board = start_board()
    sender = StepSender(board, interval_s=0)
    train(sender, num_epochs=1, num_steps=5)
    ray.kill(board)
    assert train(sender, num_epochs=3, num_steps=100) == "trained"
    assert ray.get(ray.remote(train).remote(StepSender(board), num_epochs=2, num_steps=5)) == "trained"


def test_a_loss_that_is_no_number_does_not_stop_the_training() -> None:
    board = start_board()
    sender = StepSender(board, interval_s=0)
    sender(0, 0, 2, "no number")  # type: ignore[arg-type]
    sender(0, 1, 2, 1.0)
    assert ray.get(board.take.remote()) == []


def test_a_copy_starts_with_nothing_to_send() -> None:
    board = start_board()
    sender = StepSender(board, interval_s=3600)
    sender(0, 0, 3, 0.5)
    sender(0, 1, 3, 0.4)
    copy = ray.cloudpickle.loads(ray.cloudpickle.dumps(sender))
    copy(0, 2, 3, 0.3)
    assert ray.get(board.take.remote()) == [(0, 0, 3, 0.5), (0, 2, 3, 0.3)]


def train_on_worker(config: dict[str, Any]) -> None:
    """Send the rank as the loss; the first time, die after the first step of the second epoch."""
    rank = ray.train.get_context().get_world_rank()
    for epoch in range(3):
        for step in range(4):
            config["on_step"](epoch, step, 4, rank)
            if rank == 0 and (epoch, step) == (1, 0) and not config["marker"].exists():
                config["marker"].touch()
                os._exit(1)


def test_only_rank_0_of_a_train_run_sends_and_a_restarted_worker_sends_again(tmp_path: Path) -> None:
    board = start_board()
    DataParallelTrainer(
        train_on_worker,
        train_loop_config={"on_step": StepSender(board), "marker": tmp_path / "died"},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(
            name="progress", storage_path=str(tmp_path), failure_config=ray.train.FailureConfig(max_failures=1)
        ),
    ).fit()
    steps = ray.get(board.take.remote())
    assert {loss for *_, loss in steps} == {0.0}
    whole_run = [(epoch, step) for epoch in range(3) for step in range(4)]
    places = [(epoch, step) for epoch, step, *_ in steps]
    assert places[-12:] == whole_run
    assert places[:4] == whole_run[:4], "the steps before the worker died"
    history = LossHistory()
    history.add(steps)
    assert history.places == whole_run


@settings(deadline=None)
@given(
    num_epochs=st.integers(1, 4),
    num_steps=st.integers(1, 9),
    restarts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3),
)
def test_a_history_with_restarts_is_that_of_the_run_without(
    num_epochs: int, num_steps: int, restarts: list[tuple[int, int]]
) -> None:
    whole_run = [(e, s, num_steps, float(e * 100 + s)) for e in range(num_epochs) for s in range(num_steps)]
    uninterrupted, restarted = LossHistory(), LossHistory()
    uninterrupted.add(whole_run)
    begin = 0
    for died_after, checkpoint in restarts:
        end = max(begin, died_after)
        restarted.add(whole_run[begin:end])
        begin = min(checkpoint, end, len(whole_run))
    restarted.add(whole_run[begin:])
    assert (restarted.places, restarted.losses) == (uninterrupted.places, uninterrupted.losses)
    assert restarted.curve() == uninterrupted.curve()


@settings(deadline=None)
@given(losses=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), max_points=st.integers(1, 50))
def test_a_curve_has_few_points_and_keeps_the_mean(losses: list[float], max_points: int) -> None:
    history = LossHistory()
    history.add((0, step, len(losses), loss) for step, loss in enumerate(losses))
    epochs, means = history.curve(max_points)
    assert len(epochs) == len(means) <= max_points
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == 1.0
    sizes = [round((end - begin) * len(losses)) for begin, end in zip([0.0, *epochs], epochs, strict=False)]
    total = sum(size * mean for size, mean in zip(sizes, means, strict=True))
    assert total == pytest.approx(sum(losses), abs=1e-6)


@pytest.mark.parametrize(
    ("steps", "summary"),
    [
        ([], "no step was reported"),
        ([(0, 0, 1, 0.5)], "1 epoch, 1 step"),
        ([(e, s, 600, 0.5) for e in range(2) for s in range(600)], "2 epochs, 1,200 steps"),
        ([(e, s, 0, 0.5) for e in range(2) for s in range(5)], "2 epochs"),
    ],
)
def test_a_summary_counts_what_is_known(steps: list[tuple[int, int, int, float]], summary: str) -> None:
    history = LossHistory()
    history.add(steps)
    assert history.summary() == summary


def test_epochs_of_unknown_length_are_as_long_as_the_longest_seen() -> None:
    history = LossHistory()
    history.add((epoch, step, 0, 0.5) for epoch in range(2) for step in range(4))
    assert history.curve()[0] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


def test_a_worker_that_imports_progress_imports_nothing_heavy() -> None:
    program = (
        "import sys, air_tutorials.progress;"
        "print({'torch', 'ray.train', 'pandas', 'matplotlib', 'IPython', 'ipywidgets'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout == "set()\n"
