"""See which rows each worker gets, which of them the padding repeats, and what forgetting ``set_epoch`` does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import ipywidgets
from torch.utils.data import DistributedSampler

from air_tutorials.errors import ConfigError
from air_tutorials.explorer import Answer, Explorer, labelled, mark, sentences, table

MAX_ROWS = 40
MAX_WORKERS = 8
PADDING, DROPPING, NEITHER = "repeat rows", "drop rows (drop_last)", "neither (shard_without_padding)"
_NUM_EPOCHS = 3


@dataclass(frozen=True)
class Sharding:
    """How the rows of a dataset are handed out.

    Args:
        num_rows: of the dataset, at least 1.
        num_workers: at least 1.
        batch_size_per_worker: rows that a worker takes in one step, at least 1.
        shuffle: whether the order is drawn anew.
        set_epoch: whether the sampler is told the epoch.
        remainder: what becomes of rows that cannot be shared evenly: ``PADDING``, ``DROPPING`` or ``NEITHER``. With
            the last, nothing is shuffled: it is for scores.

    Raises:
        ConfigError: a number is below 1, or the way of dealing with a remainder is unknown.
    """

    num_rows: int = 10
    num_workers: int = 3
    batch_size_per_worker: int = 2
    shuffle: bool = False
    set_epoch: bool = True
    remainder: str = PADDING

    def __post_init__(self) -> None:
        for name in ("num_rows", "num_workers", "batch_size_per_worker"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give a whole number of at least 1.")
        if self.remainder not in (PADDING, DROPPING, NEITHER):
            raise ConfigError(f"remainder is {self.remainder!r}. Give {PADDING!r}, {DROPPING!r} or {NEITHER!r}.")

    def rows_of(self, rank: int, epoch: int) -> list[int]:
        """Return the rows of one worker in one epoch, in the order in which it takes them."""
        if self.remainder == NEITHER:
            # What trainer.shard_without_padding computes; a test compares the two on real workers.
            return list(range(rank, self.num_rows, self.num_workers))
        sampler: DistributedSampler = DistributedSampler(
            range(self.num_rows),  # type: ignore[arg-type]
            num_replicas=self.num_workers,
            rank=rank,
            shuffle=self.shuffle,
            drop_last=self.remainder == DROPPING,
        )
        if self.set_epoch:
            sampler.set_epoch(epoch)
        return list(sampler)

    def shares(self, epoch: int) -> list[list[int]]:
        """Return the rows of all workers in one epoch."""
        return [self.rows_of(rank, epoch) for rank in range(self.num_workers)]

    def repeats(self, epoch: int) -> set[tuple[int, int]]:
        """Return the places, as (worker, position in its share), at which a row is taken that was taken before."""
        shares, seen, found = self.shares(epoch), set[int](), set[tuple[int, int]]()
        # In the order of time: position by position, and at each the workers side by side.
        places = [(place, rank) for rank, share in enumerate(shares) for place in range(len(share))]
        for place, rank in sorted(places):
            row = shares[rank][place]
            found |= {(rank, place)} if row in seen else set()
            seen.add(row)
        return found


def explore_shards(sharding: Sharding | None = None, *, epoch: int = 0) -> Explorer:
    """Let the reader hand out rows: change workers, epoch, shuffling and padding, and see each worker's rows.

    The rows are those of PyTorch's own ``DistributedSampler``.

    Args:
        sharding: what to begin with; up to 40 rows and 8 workers.
        epoch: likewise, counted from 0 and below 100.

    Raises:
        ConfigError: there are more rows, workers or epochs than can be shown.
    """
    first = sharding or Sharding()
    for name, value, limit in (
        ("num_rows", first.num_rows, MAX_ROWS),
        ("num_workers", first.num_workers, MAX_WORKERS),
        ("batch_size_per_worker", first.batch_size_per_worker, MAX_ROWS),
        ("epoch", epoch, 99),
    ):
        if not 0 <= value <= limit:
            raise ConfigError(f"{name} is {value}, and the explorer shows up to {limit}. Give less.")

    def number(description: str, value: int, limit: int, least: int = 1) -> ipywidgets.BoundedIntText:
        return labelled(ipywidgets.BoundedIntText, description, value=value, min=least, max=limit)

    controls = {
        "num_rows": number("Rows in the dataset", first.num_rows, MAX_ROWS),
        "num_workers": number("Workers", first.num_workers, MAX_WORKERS),
        "batch_size_per_worker": number("Rows a worker takes at a step", first.batch_size_per_worker, MAX_ROWS),
        "epoch": number("Epoch", epoch, 99, least=0),
        "remainder": labelled(
            ipywidgets.Dropdown,
            "If rows are left over",
            options=[PADDING, DROPPING, NEITHER],
            value=first.remainder,
        ),
        "shuffle": labelled(ipywidgets.Checkbox, "Shuffle", value=first.shuffle, indent=False),
        "set_epoch": labelled(ipywidgets.Checkbox, "Call set_epoch", value=first.set_epoch, indent=False),
    }
    return Explorer(controls, lambda epoch, **settings: _answer(Sharding(**settings), epoch))


def _answer(sharding: Sharding, epoch: int) -> Answer:
    steps = _steps(sharding, epoch)
    head = [f"epoch {epoch}", *(f"step {step}" for step in range(len(steps[0])))]
    last = ["all workers", *(" ".join(map(str, batch)) for batch in _together(sharding, epoch))]
    orders = [
        [f"epoch {each}", " ".join(map(str, sharding.rows_of(0, each))) or "–"]
        for each in range(epoch, epoch + _NUM_EPOCHS)
    ]
    shares, batches, epochs = _say_shares(sharding, epoch), _say_batches(sharding, epoch), _say_epochs(sharding, epoch)
    markup = sentences([shares]) + table(head, [*_worker_rows(steps, mark), last]) + sentences([batches])
    markup += table(["", "rows of worker 0"], orders) + sentences([epochs])
    drawn = [" | ".join(row) for row in (head, *_worker_rows(steps, str), last)]
    listed = [f"worker 0, {': '.join(order)}" for order in orders]
    return Answer(markup, "\n".join([shares, *drawn, batches, *listed, epochs]))


def _steps(sharding: Sharding, epoch: int) -> list[list[list[tuple[int, bool]]]]:
    """Return for each worker and step the rows, and of each whether it is a repetition; equally many steps for all."""
    repeats = sharding.repeats(epoch)
    told = [
        [(row, (rank, place) in repeats) for place, row in enumerate(share)]
        for rank, share in enumerate(sharding.shares(epoch))
    ]
    size = sharding.batch_size_per_worker
    num_steps = -(-max(map(len, told)) // size)
    return [[share[step * size : (step + 1) * size] for step in range(num_steps)] for share in told]


def _worker_rows(steps: list[list[list[tuple[int, bool]]]], emphasize: Callable[[str], str]) -> list[list[str]]:
    return [
        [f"worker {rank}"]
        + [" ".join(emphasize(f"{row}↻") if again else str(row) for row, again in batch) or "–" for batch in batches]
        for rank, batches in enumerate(steps)
    ]


def _together(sharding: Sharding, epoch: int) -> list[list[int]]:
    """Return the rows that all workers take at each step: the global batches."""
    return [
        sorted(row for batch in batches for row, _ in batch) for batches in zip(*_steps(sharding, epoch), strict=True)
    ]


def _say_shares(sharding: Sharding, epoch: int) -> str:
    """Say how the shares differ from the dataset, from the rows themselves."""
    shares, rows = sharding.shares(epoch), range(sharding.num_rows)
    times = Counter(chain(*shares))
    again, missing = [row for row in rows if times[row] > 1], [row for row in rows if not times[row]]
    sizes = sorted({len(share) for share in shares}, reverse=True)
    said = f"{_count(sharding.num_rows, 'row')}, {_count(sharding.num_workers, 'worker')}: each takes "
    said += " or ".join(map(str, sizes))
    if again:
        said += f". To make the shares even, the sampler repeats (↻) {_named(again)}"
        said += ": right for training, where workers must take equally many steps, and wrong for a score"
    elif missing:
        said += f". Left out of this epoch: {_named(missing)}"
    else:
        said += ", and every row comes exactly once"
    if len({-(-size // sharding.batch_size_per_worker) for size in sizes}) > 1:
        said += ". Some workers take a step more than others, who would wait for them for ever if they trained"
    return f"{said}."


def _say_batches(sharding: Sharding, epoch: int) -> str:
    """Say whether the workers' batches make up those of one process that does not shuffle."""
    size, rows = sharding.batch_size_per_worker * sharding.num_workers, list(range(sharding.num_rows))
    plain = [rows[start : start + size] for start in range(0, len(rows), size)]
    together = _together(sharding, epoch)
    agree = sum(mine == theirs for mine, theirs in zip(together, plain, strict=False))
    if agree == len(together) == len(plain):
        return f"Step by step, all workers together take the batches of one process with a batch size of {size}."
    alone = f"the {_count(len(plain), 'batch', 'es')} of one process with a batch size of {size}, in their order"
    return f"All workers together take {agree or 'none'} of {alone}."


def _say_epochs(sharding: Sharding, epoch: int) -> str:
    """Say whether the epochs differ."""
    orders = {tuple(chain(*sharding.shares(each))) for each in range(epoch, epoch + _NUM_EPOCHS)}
    if sharding.remainder == NEITHER or not sharding.shuffle:
        cause = "Nothing is shuffled"
    else:
        cause = "set_epoch tells the sampler the epoch" if sharding.set_epoch else "set_epoch was forgotten"
    many = "the same order" if len(orders) == 1 else f"{len(orders)} different orders"
    return f"{cause}: these {_NUM_EPOCHS} epochs have {many}."


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"


def _named(rows: list[int]) -> str:
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows))}"
