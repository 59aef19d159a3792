"""Tick the changes of page 1 one by one: see the program, and what it computes on several workers."""

import html

import ipywidgets
from torch.utils.data import Dataset

from air_tutorials.conversion import CHANGES, program, program_lines
from air_tutorials.explorer import Answer, Explorer, labelled, sentences, table
from air_tutorials.findings import findings
from air_tutorials.outcomes import Laboratory

_ADDED = "background: rgba(46, 160, 67, 0.25); color: inherit; text-decoration: none"
_PROGRAM = "overflow-x: auto; line-height: 1.35; padding: 0.5em; border: 1px solid rgba(128, 128, 128, 0.5)"
# On a phone a name breaks, which leaves the sentences beside it room; elsewhere it does not.
_NAME = "display: inline-block; min-width: min(13em, 22vw)"


def explore_conversion(training_data: Dataset, test_data: Dataset, *, num_workers: int = 2) -> Explorer:
    """Let the reader make the changes of page 1 one by one.

    Beneath stands the program with the changes that are ticked, and what it computed: it is run, on a few images and
    with a small model, as workers of this process. In the stored notebook a table takes its place: what happens when
    one of the changes is forgotten.

    Args:
        training_data: at least 144 images in [0, 1] with the numbers of ten classes.
        test_data: at least 49.
        num_workers: to begin with, from 1 to 4.

    Raises:
        ConfigError: there are fewer images, or there are too few or too many workers.
    """
    laboratory = Laboratory(training_data, test_data)
    laboratory.outcome(CHANGES, num_workers)
    controls = {
        change: labelled(ipywidgets.Checkbox, f"{change}: {reason}", value=True, indent=False)
        for change, reason in CHANGES.items()
    }
    controls["num_workers"] = labelled(ipywidgets.Dropdown, "Workers", options=[1, 2, 3, 4], value=num_workers)
    return Explorer(
        controls,
        lambda num_workers, **ticked: _answer(laboratory, [name for name in CHANGES if ticked[name]], num_workers),
        stand_in=lambda: _if_one_is_forgotten(laboratory, num_workers),
        columns=2,
    )


def _answer(laboratory: Laboratory, changes: list[str], num_workers: int) -> Answer:
    said = [f"{'✓' if right else '✗'} {text}" for right, text in findings(laboratory.outcome(changes, num_workers))]
    lines = [
        "".join(_added(text) if change else html.escape(text) for text, change in line)
        for line in program_lines(changes)
    ]
    caption = f"On {num_workers} worker{'s' * (num_workers != 1)}, with {len(changes)} of {len(CHANGES)} changes:"
    shown = f'<pre tabindex="0" style="{_PROGRAM}">{chr(10).join(lines)}</pre>'
    return Answer(sentences([caption, *said]) + shown, "\n".join([caption, *said, "", program(changes)]))


def _added(text: str) -> str:
    # Where styles are stripped, what was added is underlined.
    indent = len(text) - len(text.lstrip())
    return f'{text[:indent]}<ins style="{_ADDED}">{html.escape(text[indent:])}</ins>' if text.strip() else text


def _if_one_is_forgotten(laboratory: Laboratory, num_workers: int) -> Answer:
    """Tell for each change what goes wrong without it."""
    rows = []
    for change in (None, *CHANGES):
        outcome = laboratory.outcome([name for name in CHANGES if name != change], num_workers)
        wrong = [text for right, text in findings(outcome) if not right]
        rows.append((change or "nothing", wrong or [text for _, text in findings(outcome)][:1]))
    head = ["forgotten", f"what {num_workers} workers then compute"]
    markup = table(head, [[_code(change), "<br>".join(map(html.escape, said))] for change, said in rows])
    return Answer(markup, "\n".join([": ".join(head), *(f"{change}: {' '.join(said)}" for change, said in rows)]))


def _code(change: str) -> str:
    name = change.replace("_", "_<wbr>")
    return f'<code style="{_NAME}">{name}</code>' if change in CHANGES else change
