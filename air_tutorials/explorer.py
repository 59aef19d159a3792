"""Labelled controls above an answer that follows them: what the explorers of the pages have in common.

In a live notebook an explorer is a widget. Wherever there is no kernel, on the site and on GitHub, a table or a picture
stands in for it; in a plain Python program it is text.
"""

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ipywidgets
from IPython import get_ipython

_VIEW = "application/vnd.jupyter.widget-view+json"
# The tint lets the ground of a light or a dark theme through, and the text keeps the theme's own colour.
_MARK = "background: rgba(230, 159, 0, 0.35); color: inherit; padding: 0 0.2em"
_CELL = "text-align: left; padding: 0.2em 0.7em; border: 1px solid rgba(128, 128, 128, 0.5); vertical-align: top"


class Answer(NamedTuple):
    """What an explorer shows.

    Attributes:
        markup: HTML without a colour of its own for its text, so that it can be read in a light and in a dark theme.
        text: the same for whoever sees no HTML.
        png: a picture that stands in for the HTML; none when empty.
    """

    markup: str
    text: str
    png: bytes = b""


class Explorer:
    """Controls, and an answer that is computed anew whenever one of them is moved.

    As the last expression of a cell it displays itself.

    Args:
        controls: widgets with a ``value``, by the name of the argument of ``answer`` that each sets.
        answer: takes the values of all controls by name.
        stand_in: what is stored in the notebook in the place of the widget; left out, the first answer.
        buttons: further widgets, shown behind the controls.
        columns: how wide the grid is in which the controls stand, in columns.

    Attributes:
        controls: the widgets, to be moved from a program, too: ``explorer.controls["epoch"].value = 3``.
    """

    def __init__(
        self,
        controls: Mapping[str, Any],
        answer: Callable[..., Answer],
        *,
        stand_in: Callable[[], Answer] | None = None,
        buttons: Sequence[ipywidgets.Button] = (),
        columns: int = 3,
    ) -> None:
        self.controls = dict(controls)
        self._answer, self._stand_in = answer, stand_in
        self._output = ipywidgets.HTML()
        grid = f"repeat(auto-fill, minmax({60 // columns}em, 1fr))"
        layout = ipywidgets.Layout(grid_template_columns=grid, grid_gap="0.1em 1em", width="100%")
        self._box = ipywidgets.VBox(
            [ipywidgets.GridBox([*self.controls.values(), *buttons], layout=layout), self._output]
        )
        for control in self.controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    @property
    def answer(self) -> Answer:
        """What the controls ask for as they stand."""
        return self._answer(**{name: control.value for name, control in self.controls.items()})

    @property
    def markup(self) -> str:
        """The HTML that is shown beneath the controls."""
        return self._output.value

    def _refresh(self, *_: Any) -> None:
        self._output.value = self.answer.markup

    def __repr__(self) -> str:
        return self.answer.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        shown = self._stand_in() if self._stand_in else self.answer
        bundle = {"text/plain": shown.text}
        if shown.png:
            bundle["image/png"] = base64.b64encode(shown.png).decode()
        else:
            bundle["text/html"] = shown.markup
        if hasattr(get_ipython(), "kernel"):
            bundle[_VIEW] = self._box._repr_mimebundle_()[_VIEW]
        return bundle


def labelled(kind: Callable[..., Any], description: str, **settings: Any) -> Any:
    """Make a control whose label is never cut off.

    Args:
        kind: a class of ipywidgets.
        description: its label; the keyboard reaches the control, and a screen reader says this.
        **settings: of the widget.
    """
    layout = ipywidgets.Layout(width="auto", min_width="0")
    style = {"description_width": "auto" if kind is not ipywidgets.Checkbox else "0"}
    # A kernel that draws while one types would draw for every digit.
    late = {} if kind in (ipywidgets.Checkbox, ipywidgets.Dropdown) else {"continuous_update": False}
    return kind(description=description, layout=layout, style=style, **late, **settings)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in HTML; the first cell of each row is its heading. It scrolls by itself where it is too wide.

    Args:
        head: HTML of each column's heading.
        rows: HTML of the cells, as many in each row.
    """
    top = "".join(f'<th scope="col" style="{_CELL}">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row" style="{_CELL}">{first}</th>'
        + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        '<div style="overflow-x: auto" tabindex="0"><table style="border-collapse: collapse; margin: 0.5em 0">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def sentences(lines: Iterable[str]) -> str:
    """Return each line of plain text as a paragraph of HTML."""
    return "".join(f'<p style="margin: 0.3em 0; line-height: 1.4">{html.escape(line)}</p>' for line in lines)


def mark(text: str) -> str:
    """Return plain text as marked HTML."""
    return f'<mark style="{_MARK}">{html.escape(text)}</mark>'
