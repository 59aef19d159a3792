"""Show live source, the difference between two functions, and one output that changes in place."""

import ast
import difflib
import html
import inspect
import io
import re
import sys
import textwrap
import tokenize
from typing import Any

from IPython import get_ipython
from IPython.display import display

from air_tutorials.errors import ConfigError


def show_source(obj: Any, *objects: Any, drop_docstring: bool = False) -> None:
    """Show the source of functions, classes or modules: what is shown is what runs.

    It is displayed as Markdown with a fenced block, which JupyterLab, GitHub and the site each colour in their own
    theme, light or dark.

    Args:
        obj: something written in Python.
        *objects: more of the kind, shown beneath it.
        drop_docstring: leave docstrings out, where the page itself tells what they say.
    """
    shown = []
    for each in (obj, *objects):
        source, module = _source(each, drop_docstring=drop_docstring), _module_name(each)
        shown.append(("Defined on this page:" if module == "__main__" else f"From `{module}`:", source))
    _display_markdown(
        "\n\n".join(f"{caption}\n\n{_fenced(source)}" for caption, source in shown),
        plain="\n\n".join(f"{caption}\n\n{source}" for caption, source in shown),
    )


def show_diff(before: Any, after: Any, *, context: int | None = None) -> None:
    """Show how one function, class or module became another, and how many lines of code changed.

    JupyterLab leaves a fenced ``diff`` block without colour, and so the Markdown holds HTML. Where styles are stripped,
    as on GitHub, removed lines are struck out and added ones underlined.

    Args:
        before: something written in Python; its docstrings are left out.
        after: what became of it.
        context: how many unchanged lines to show around each change; None shows all lines.
    """
    old, new = (_source(each, drop_docstring=True).splitlines() for each in (before, after))
    lines = list(difflib.unified_diff(old, new, n=len(old) + len(new) if context is None else context, lineterm=""))
    # The first two lines name files, and the third says that everything follows; neither tells the reader anything.
    lines = lines[2 if context is not None else 3 :] or [f" {line}" for line in old]
    num_changed = count_changed_lines(before, after)
    lines_of_code = f"{num_changed} changed line{'s' * (num_changed != 1)} of code"
    caption = f"From `{_name(before)}` to `{_name(after)}`: {lines_of_code}."
    # No <div> around it: a blank line would end that, while only </pre> ends <pre>. The keyboard can scroll it.
    markup = "\n".join(_diff_line_html(line) for line in lines)
    _display_markdown(f'{caption}\n\n<pre tabindex="0">{markup}</pre>', plain="\n".join([caption, "", *lines]))


def count_changed_lines(before: Any, after: Any) -> int:
    """Count the lines of code in which two functions, classes or modules differ.

    It is the least number of lines that one has to add, remove or replace to turn one into the other (the edit
    distance over lines). A replaced line counts once, though a diff shows it twice. Docstrings, comments, blank lines
    and trailing spaces do not count; indentation does.

    Args:
        before: something written in Python.
        after: what became of it.

    Returns:
        At least 0, the same in both directions.

    Source: V. I. Levenshtein, 1966; computed after R. A. Wagner and M. J. Fischer, 1974.
    """
    old, new = (_code_lines(_source(each, drop_docstring=True)) for each in (before, after))
    # distances[j] is the distance between the lines of `old` seen so far and the first j lines of `new`.
    distances = list(range(len(new) + 1))
    for i, old_line in enumerate(old, start=1):
        diagonal, distances[0] = distances[0], i
        for j, new_line in enumerate(new, start=1):
            replaced = diagonal + (old_line != new_line)
            diagonal = distances[j]
            distances[j] = min(replaced, distances[j] + 1, distances[j - 1] + 1)
    return distances[-1]


class LiveOutput:
    """One output that changes in place: HTML in a notebook, a line on a terminal, and nothing anywhere else.

    It may be updated from any thread.

    Args:
        text: stands beside the HTML and the picture for whoever sees neither. nbval compares what is displayed first
            with what was stored last, and so this is both; pictures it does not compare.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._shown = ""
        self.in_notebook = hasattr(get_ipython(), "kernel")
        self._on_terminal = not self.in_notebook and sys.stderr.isatty()
        if self.in_notebook:
            self._handle = display({"text/plain": text}, raw=True, display_id=True)

    def update(self, markup: str, line: str) -> None:
        """Show HTML in a notebook, or a line on a terminal; what is shown already is not sent again."""
        if markup == self._shown:
            return
        self._shown = markup
        if self.in_notebook:
            self._handle.update({"text/html": markup, "text/plain": self._text}, raw=True)
        elif self._on_terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def finish(self, line: str, *, text: str | None = None, png: bytes = b"") -> None:
        """Leave what stays: on a terminal a line; in a notebook the text, or another, and a picture.

        Args:
            line: for a terminal.
            text: for a notebook; left out, the text that was shown first.
            png: the picture as bytes; none when empty.
        """
        if self.in_notebook:
            picture = {"image/png": png} if png else {}
            self._handle.update({"text/plain": text or self._text, **picture}, raw=True)
        elif self._on_terminal:
            sys.stderr.write(f"\r\x1b[K{line}\n")


def _source(obj: Any, *, drop_docstring: bool) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(obj)).rstrip()
    except (OSError, TypeError) as error:
        raise ConfigError(
            f"{obj!r} has no Python source to show: {error}. Pass a function, a class or a module written in Python."
        ) from error
    return _without_docstrings(source) if drop_docstring else source


def _without_docstrings(source: str) -> str:
    lines = source.splitlines()
    drop: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        # A docstring that is the whole body stays, or no valid program would be left.
        if ast.get_docstring(node, clean=False) is None or len(node.body) == 1:
            continue
        docstring, following = node.body[:2]
        if following.lineno > docstring.lineno:
            after = (docstring.end_lineno or docstring.lineno) + 1
            drop.update(range(docstring.lineno, after))
            drop.update(n for n in range(after, following.lineno) if not "".join(lines[after - 1 : n]).strip())
    return "\n".join(line for number, line in enumerate(lines, start=1) if number not in drop)


def _code_lines(source: str) -> list[str]:
    """Drop what is no code: comments, also those at the end of a line, and blank lines."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return [line.rstrip() for line in lines if line.strip()]


def _module_name(obj: Any) -> str:
    return obj.__name__ if inspect.ismodule(obj) else inspect.unwrap(obj).__module__


def _name(obj: Any) -> str:
    if inspect.ismodule(obj):
        return obj.__name__
    module, name = _module_name(obj), inspect.unwrap(obj).__qualname__
    return name if module == "__main__" else f"{module}.{name}"


def _fenced(text: str) -> str:
    # A docstring may hold a fence itself; the one around it must be longer.
    ticks = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
    return f"{ticks}python\n{text}\n{ticks}"


def _diff_line_html(line: str) -> str:
    text = html.escape(line).replace("$", "&#36;")  # JupyterLab would set what stands between two dollars as a formula.
    # The colours let the background of a light or a dark theme through, and the text keeps the theme's own colour.
    tag, color = {"-": ("del", "248, 81, 73"), "+": ("ins", "46, 160, 67")}.get(line[:1], ("", ""))
    if not tag:
        return text
    style = f"background: rgba({color}, 0.2); display: inline-block; min-width: 100%; text-decoration: none"
    return f'<{tag} style="{style}">{text}</{tag}>'


def _display_markdown(markdown: str, *, plain: str) -> None:
    if get_ipython() is None:
        sys.stdout.write(f"{plain}\n")
    else:
        display({"text/markdown": markdown, "text/plain": plain}, raw=True)
