import functools
import importlib.util
import itertools
import linecache
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_tutorials import display, errors
from air_tutorials.display import count_changed_lines, show_diff, show_source
from air_tutorials.errors import ConfigError

# Few different lines, so that two drawn functions have some in common. The comments do not count.
STATEMENTS = ["x = 1", "x = 2", "y = x", "if x: y = 1", "call(x)", "s = '# no comment'"]
COMMENTS = ["# why", "", "   ", "    # indented"]
BODIES = st.lists(st.sampled_from(STATEMENTS), max_size=8)
FILE_NUMBERS = itertools.count()


def function_of(body: Iterable[str]) -> Callable[[], None]:
    """Make a function with a live source, as a notebook does."""
    lines = ["def function():\n", *(f"    {line}\n" for line in body), "    return x\n"]
    filename = f"<cell {next(FILE_NUMBERS)}>"
    linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("".join(lines), filename, "exec"), namespace)
    return namespace["function"]


def module_of(path: Path, source: str) -> ModuleType:
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def edit_distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The definition itself, word by word."""

    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(
            distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]),
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
        )

    return distance(len(a), len(b))


@settings(deadline=None)
@given(before=BODIES, after=BODIES)
def test_changed_lines_are_the_edit_distance_and_the_same_both_ways(before: list[str], after: list[str]) -> None:
    old, new = function_of(before), function_of(after)
    assert count_changed_lines(old, old) == 0
    assert count_changed_lines(old, new) == count_changed_lines(new, old)
    assert count_changed_lines(old, new) == edit_distance(tuple(before), tuple(after))


@settings(deadline=None)
@given(body=st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=8), data=st.data())
def test_one_line_replaced_added_or_removed_counts_once(body: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    for other in ([*body[:place], "z = 0", *body[place + 1 :]], [*body[:place], "z = 0", *body[place:]]):
        assert count_changed_lines(function_of(body), function_of(other)) == 1
    assert count_changed_lines(function_of(body), function_of(body[:place] + body[place + 1 :])) == 1


@settings(deadline=None)
@given(body=BODIES, data=st.data())
def test_docstrings_comments_and_blank_lines_do_not_count(body: list[str], data: st.DataObject) -> None:
    other = [line + data.draw(st.sampled_from(["", "  # why", "   "])) for line in body]
    for comment in data.draw(st.lists(st.sampled_from(COMMENTS), max_size=4)):
        other.insert(data.draw(st.integers(0, len(other))), comment)
    docstring = data.draw(st.sampled_from([[], ['"""Words."""'], ['"""Words.', "", "    More words.", '"""', ""]]))
    assert count_changed_lines(function_of(body), function_of([*docstring, *other])) == 0


def test_classes_and_modules_have_their_docstrings_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "{}class A:\n    {}\n\n    def method(self):\n        {}\n        return 1\n"
    bare = module_of(tmp_path / "bare.py", source.format("", "", ""))
    spoken = module_of(tmp_path / "spoken.py", source.format('"""Module."""\n\n', '"""Class."""', '"""Method."""'))
    for module in (bare, spoken):
        monkeypatch.setitem(sys.modules, module.__name__, module)  # where `inspect` looks for the file of a class
    assert count_changed_lines(bare, spoken) == 0
    assert count_changed_lines(bare.A, spoken.A) == 0
    assert count_changed_lines(bare.A.method, spoken.A.method) == 0


def test_a_docstring_that_is_the_whole_body_stays(capsys: pytest.CaptureFixture[str]) -> None:
    show_source(errors.ConfigError, drop_docstring=True)
    assert '"""A setting is out of range' in capsys.readouterr().out


def test_source_is_shown_as_it_stands_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    show_source(errors, display.show_diff)
    shown = capsys.readouterr().out
    assert Path(errors.__file__).read_text(encoding="utf-8").rstrip() in shown
    assert "From `air_tutorials.errors`:" in shown
    assert "\ndef show_diff(" in shown
    assert "Args:" in shown


def test_source_is_shown_without_docstrings_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    show_source(display.show_diff, display.LiveOutput.update, drop_docstring=True)
    shown = capsys.readouterr().out
    assert '"""' not in shown
    assert ") -> None:\n    old, new = " in shown
    assert "\ndef update(self" in shown, "a method loses the indentation of its class"


def test_what_the_notebook_defined_is_said_to_stand_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    show_source(function_of(["x = 1"]))
    assert capsys.readouterr().out == "Defined on this page:\n\ndef function():\n    x = 1\n    return x\n"


def test_a_diff_shows_the_whole_function_and_tells_how_many_lines_changed(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = function_of(['"""Words."""', "", "x = 1", "y = x"]), function_of(["x = 2", "y = x"])
    show_diff(before, after)
    assert capsys.readouterr().out == (
        "From `function` to `function`: 1 changed line of code.\n\n"
        " def function():\n-    x = 1\n+    x = 2\n     y = x\n     return x\n"
    )


def test_a_diff_can_be_cut_to_the_changes(capsys: pytest.CaptureFixture[str]) -> None:
    show_diff(function_of(["x = 1"] * 9 + ["y = 1"]), function_of(["x = 1"] * 9 + ["y = 2"]), context=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("@@")
    assert lines[3:] == ["     x = 1", "-    y = 1", "+    y = 2", "     return x"]


@pytest.mark.parametrize("context", [None, 0, 3])
def test_a_diff_of_equals_shows_the_function(capsys: pytest.CaptureFixture[str], context: int | None) -> None:
    show_diff(function_of(["x = 1"]), function_of(["x = 1"]), context=context)
    shown = capsys.readouterr().out
    assert shown.endswith("0 changed lines of code.\n\n def function():\n     x = 1\n     return x\n")


@pytest.mark.parametrize("thing", [math.sqrt, 3, functools.partial(print)])
def test_what_has_no_source_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigError, match="has no Python source"):
        show_source(thing)
