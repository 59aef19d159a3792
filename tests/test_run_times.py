"""How long the pages take is measured, stored and shown; nobody types it."""

import json
import re
from pathlib import Path

import nbformat
from run_times import FILE, PAGES, load, measured, pages, store, table, title, total


def test_every_page_has_a_time_that_was_measured_with_the_cells_that_it_has() -> None:
    times = load()
    assert sorted(times) == pages(), "run `make sync`"
    for page, time in times.items():
        cells = nbformat.read(PAGES / f"{page}.ipynb", as_version=4).cells
        assert time["cells"] == sum(cell.cell_type == "code" for cell in cells), f"run `make sync`: {page} has changed"
        assert 0 <= time["longest_cell_seconds"] <= time["seconds"]
        assert time["cpus"] >= 1


def test_a_run_is_summed_up() -> None:
    time = measured(10.0, [12.0, 12.5, 15.5], 16.0)
    assert (time["cells"], time["seconds"], time["longest_cell_seconds"]) == (3, 6.0, 3.0)
    assert measured(1.0, [], 2.0)["longest_cell_seconds"] == 0


def test_one_page_is_measured_again_and_the_others_keep_theirs(tmp_path: Path) -> None:
    assert load(tmp_path) == {}
    store(tmp_path, "02_b", measured(0, [1], 3))
    store(tmp_path, "01_a", measured(0, [1], 5))
    store(tmp_path, "02_b", measured(0, [1, 2], 9))
    assert {page: time["seconds"] for page, time in load(tmp_path).items()} == {"01_a": 5, "02_b": 9}
    assert list(json.loads((tmp_path / FILE).read_text())) == ["01_a", "02_b"]


def test_the_table_shows_what_was_stored() -> None:
    rows = [[field.strip() for field in row.strip("|").split("|")] for row in table().splitlines()[2:]]
    times = load()
    assert len(rows) == len(pages())
    for page, (link, *numbers) in zip(pages(), rows, strict=True):
        assert link == f"[{title(page)}](notebooks/{page}.ipynb)"
        stored = times[page]
        assert numbers == [
            str(stored["cells"]),
            f"{stored['seconds']:.0f}",
            f"{stored['longest_cell_seconds']:.0f}",
        ]
    minutes = sum(time["seconds"] for time in times.values()) / 60
    assert re.match(rf"{minutes:.0f} minutes? on \d+", total())


def test_a_title_has_the_number_of_its_page() -> None:
    assert title("01_convert_pytorch_to_ray") == "1. Convert a PyTorch program to Ray"
