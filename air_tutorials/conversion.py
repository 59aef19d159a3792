"""The changes of page 1 one by one: the program with any of them, and what it computes.

The program is put together from the difference between ``baseline.train_func`` and ``trainer.train_func`` as they are,
and what it computes is found by running it, on simulated workers.
"""

import ast
import difflib
import inspect
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from air_tutorials import baseline, trainer
from air_tutorials.errors import ConfigError

# By its name in the program, what each change is for.
CHANGES = {
    "batch_size_per_worker": "divide the batch",
    "prepare_data_loader": "give the workers different images",
    "shard_without_padding": "share the test images",
    "prepare_model": "average the gradients",
    "resume": "go on after a crash",
    "seed_epoch": "shuffle every epoch anew",
    "unwrap_model": "test the bare model",
    "reduce_over_workers": "add up the scores",
    "report": "report, and save once",
}
# What the plain program has in the place of a change, and the converted one no more.
_GOES_WITH = {"device": "prepare_model", "save_to": "report", "save_checkpoint": "report"}


class Piece(NamedTuple):
    """A piece of the program: before and after one change, or the same throughout.

    Attributes:
        before: None where the piece is a whole line that comes with the change.
        after: None where the piece is a whole line that goes with the change.
        change: a key of ``CHANGES``, or an empty string.
    """

    before: str | None
    after: str | None
    change: str = ""


def program(changes: Collection[str]) -> str:
    """Return the source of the training function with some of the changes made, without its docstring.

    Args:
        changes: keys of ``CHANGES``. Without any it is ``baseline.train_func``, with all ``trainer.train_func``.

    Raises:
        ConfigError: a change is unknown.
    """
    return "\n".join("".join(text for text, _ in line) for line in program_lines(changes))


def program_lines(changes: Collection[str]) -> list[list[tuple[str, str]]]:
    """Return the same line by line, each cut into pairs of a text and the change that it came with, or nothing.

    Raises:
        ConfigError: a change is unknown.
    """
    if unknown := set(changes) - set(CHANGES):
        raise ConfigError(f"{sorted(unknown)[0]!r} is no change of the page. There are: {', '.join(CHANGES)}.")
    lines = []
    for pieces in _difference():
        made = [(piece.after, piece.change) if piece.change in changes else (piece.before, "") for piece in pieces]
        if all(text is not None for text, _ in made):
            lines.append([(text or "", change) for text, change in made])
    return lines


@lru_cache(maxsize=1)
def _difference() -> list[list[Piece]]:
    old, new = (_lines_of(function) for function in (baseline.train_func, trainer.train_func))
    found: list[list[Piece]] = []
    for kind, i, i_end, j, j_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            found += [[Piece(line, line)] for line in old[i:i_end]]
        else:
            found += list(_changed_lines(old[i:i_end], new[j:j_end]))
    return found


def _lines_of(function: Any) -> list[str]:
    """Return the lines of a function without its docstring."""
    source = inspect.getsource(function)
    (definition,) = ast.parse(source).body
    docstring = definition.body[0]  # type: ignore[attr-defined]
    lines = source.splitlines()
    return lines[: docstring.lineno - 1] + lines[docstring.end_lineno :]


def _changed_lines(old: list[str], new: list[str]) -> Iterator[list[Piece]]:
    """Pair each old line with the new one that came of it, if there is one, in their order."""
    start = 0
    for line in old:
        likeness = [difflib.SequenceMatcher(None, line, other).ratio() for other in new[start:]]
        if not likeness or max(likeness) < 0.6:
            yield [Piece(line, None, _change_of(line))]
            continue
        partner = start + likeness.index(max(likeness))
        yield from ([Piece(None, other, _change_of(other))] for other in new[start:partner])
        yield _changed_line(line, new[partner])
        start = partner + 1
    yield from ([Piece(None, other, _change_of(other))] for other in new[start:])


def _changed_line(old: str, new: str) -> list[Piece]:
    """Cut a line into what stays and what changes; a line may take part in two changes."""
    before, after = (re.findall(r"\w+|\s+|.", line) for line in (old, new))
    pieces = []
    for kind, i, i_end, j, j_end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        was, becomes = "".join(before[i:i_end]), "".join(after[j:j_end])
        # The closing bracket of a call belongs to the name that opened it.
        change = _change_of(becomes) or _change_of("".join(after[:j]), last=True) or _change_of(new)
        pieces.append(Piece(was, becomes, "" if kind == "equal" else change))
    return pieces


def _change_of(text: str, *, last: bool = False) -> str:
    """Return the change whose name stands first, or last, in a text."""
    names = [_GOES_WITH.get(name, name) for name in re.findall(r"\w+", text) if name in {*CHANGES, *_GOES_WITH}]
    return names[-1 if last else 0] if names else ""
