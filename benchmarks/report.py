"""The page of results: tables, plots, and why a target was missed. `python -m benchmarks.report`."""

import json
from pathlib import Path
from typing import Any

from benchmarks.causes import CAUSES
from benchmarks.measure import Curve, Row
from benchmarks.plots import plot_payoff, plot_ratios

ROOT = Path(__file__).parent.parent
_HEAD = "| | against | ours | theirs | comparison | to reach | |\n| --- | --- | ---: | ---: | ---: | ---: | --- |"
_NBSP = "\N{NO-BREAK SPACE}"  # a number stays with its unit
_TITLES = {
    "conversion": "Lines to change",
    "single": "One process",
    "training": "Training with two workers",
    "payoff": "When more processes pay",
    "prediction": "Batch prediction",
    "tuning_trials": "Tuning",
    "http_requests": "Requests over HTTP",
}
_INTRODUCTION = """\
# What it costs, measured

Every number on this page was measured and written by one command, `make bench`, against what you would use instead,
**on the same work in the same run**. The two sides take turns; each pair gives one comparison, and the table has the
median of these with the lowest and the highest in brackets. "Ours" and "theirs" are medians by themselves. "Within the
spread" says that some pairs lie on the other side of the target. What is said to have been tried was measured by itself
on such a machine, and is to be compared with the number that stands beside it.
"""
_BEFORE_THE_TABLE = {
    "payoff": "One process already uses all cores of this machine. Workers on the same machine can gain only what it "
    "leaves idle, and pay for exchanging gradients. On machines or GPUs of their own they gain more.\n"
}


def load_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read ``results.json``: by family, ``rows``, ``curves``, ``machine``, ``pairs`` and ``quick``."""
    results = json.loads(path.read_text())
    for family in results.values():
        family["rows"] = [Row(**row) for row in family["rows"]]
        family["curves"] = [Curve(**curve) for curve in family["curves"]]
    return results


def write_page(root: Path = ROOT) -> None:
    """Write ``benchmarks.md`` and its plots from ``benchmarks/results.json``, all below a directory."""
    path = root / "benchmarks" / "results.json"
    if not path.exists():
        return
    results = load_results(path)
    static = root / "_static"
    static.mkdir(exist_ok=True)
    rows = [row for family in results.values() for row in family["rows"]]
    plot_ratios(rows, static / "benchmarks_ratios.png")
    payoff = [curve for family in results.values() for curve in family["curves"] if curve.panel.startswith("payoff")]
    if payoff:
        plot_payoff(payoff, static / "benchmarks_payoff.png")
    (root / "benchmarks.md").write_text(render(results))


def render(results: dict[str, dict[str, Any]]) -> str:
    """Return the page as Markdown."""
    parts = [_INTRODUCTION, _measured_on(results), _summary(results)]
    for name, title in _TITLES.items():
        if name not in results:
            continue
        family = results[name]
        parts.append(f"## {title}\n")
        parts.append(_BEFORE_THE_TABLE.get(name, ""))
        if name == "payoff":
            parts.append(_picture("payoff", "Images per second against the batch, one panel for each model"))
        parts.append("\n".join([_HEAD, *map(table_line, family["rows"])]) + "\n")
        parts.append(_notes(family["rows"]))
        parts.append(_other_curves(family["curves"]))
    return "\n".join(filter(None, parts))


def table_line(row: Row) -> str:
    """Return a row as a line of a Markdown table."""
    ours = number(_median(row.ours))
    theirs = number(_median(row.peers)) if row.peers else ""
    cells = [row.what, row.peer, f"{ours}{_NBSP}{row.unit}", f"{theirs}{_NBSP}{row.unit}" if theirs else ""]
    cells += [comparison(row), target(row).replace(" ", _NBSP), verdict(row)]
    return f"| {' | '.join(cells)} |"


def comparison(row: Row) -> str:
    """Say how a row's two sides compare, with the spread: ``1.21 × (1.18 to 1.30)``."""
    middle, lowest, highest = row.spread()
    sign, unit = ("+" if row.compare == "difference" else ""), {"ratio": " ×"}.get(row.compare, f" {row.unit}")
    texts = [
        f"{value:{sign}.2f}" if row.compare == "ratio" else number(value, sign) for value in (middle, lowest, highest)
    ]
    spread = f" ({texts[1]} to {texts[2]})" if len(row.ours) > 1 else ""
    return f"**{texts[0]}{unit}**{spread}"


def target(row: Row) -> str:
    """Say what was to be reached; nothing for a row that only informs."""
    unit = {"ratio": " ×"}.get(row.compare, f" {row.unit}")
    bounds = [("at least", row.at_least), ("at most", row.at_most)]
    return " and ".join(f"{word} {bound:g}{unit}" for word, bound in bounds if bound is not None)


def verdict(row: Row) -> str:
    """Say whether the median reaches the target, and whether the spread lies on both sides of it."""
    met = row.is_met()
    if met is None:
        return ""
    _, lowest, highest = row.spread()
    bound = row.at_least if row.at_least is not None else row.at_most
    assert bound is not None
    doubtful = ", within the spread" if lowest < bound < highest else ""
    return ("reached" if met else "**missed**") + doubtful


def number(value: float, sign: str = "") -> str:
    """Write a number with three digits that count, and no more than a reader wants: 12,300, 1.25, 0.0081."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.{2 if abs(value) >= 1 else 4}f}".rstrip("0").rstrip(".")


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if len(values) % 2 else sum(sorted(values)[len(values) // 2 - 1 :][:2]) / 2


def _measured_on(results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for date, machine, versions in dict.fromkeys(map(_place, results.values())):
        families = {n: f for n, f in results.items() if _place(f) == (date, machine, versions)}
        titles = ", ".join(_TITLES[name] for name in families)
        which = "" if len(families) == len(results) else f" ({titles})"
        busy = "; ".join(dict.fromkeys(family["machine"]["busy"] for family in families.values()))
        lines.append(f"Measured on {date}{which}: {machine}. {busy}. {versions}.\n")
    if any(family["quick"] for family in results.values()):
        lines.append("**Some of this was measured with `--quick`, tiny sizes: those numbers mean nothing.**\n")
    took_s = sum(family["took_s"] for family in results.values())
    lines.append(f"All of it took {took_s / 60:.0f} minutes. {_pairs(results)}\n")
    return "\n".join(lines)


def _pairs(results: dict[str, dict[str, Any]]) -> str:
    """Say how many pairs a comparison has; a number that is counted, not measured, has one."""
    titles: dict[int, list[str]] = {}
    for name, family in results.items():
        most = max(len(row.ours) for row in family["rows"])
        if most > 1:
            titles.setdefault(most, []).append(_TITLES[name])
    return " ".join(f"{n} pairs: {', '.join(titles[n])}." for n in sorted(titles, reverse=True))


def _place(family: dict[str, Any]) -> tuple[str, str, str]:
    """Tell when, where and with what a family was measured; how busy the machine was does not matter here."""
    machine = family["machine"]
    return machine["date"], machine["machine"], machine["versions"]


def _summary(results: dict[str, dict[str, Any]]) -> str:
    judged = [row for family in results.values() for row in family["rows"] if row.is_met() is not None]
    reached = sum(bool(row.is_met()) for row in judged)
    text = f"Of {len(judged)} targets that were set beforehand, {reached} are reached. What is missed says why.\n"
    return text + "\n" + _picture("ratios", "Each ratio with its spread and its target")


def _picture(name: str, description: str) -> str:
    return f"![{description}.](_static/benchmarks_{name}.png)\n"


def _notes(rows: list[Row]) -> str:
    """Say once what several rows have in common, and of each missed target why."""
    seen: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            against = len({other.note for other in rows if other.what == row.what and other.note}) > 1
            seen.setdefault(row.note, []).append(f"*{row.what}*" + f" against {row.peer}" * against)
    lines = [f"- {', '.join(dict.fromkeys(whats))}: {note}" for note, whats in seen.items()]
    missed: dict[str, list[str]] = {}
    for row in rows:
        if row.is_met() is False:
            cause = CAUSES.get((row.what, row.peer), "the cause is not known yet.")
            missed.setdefault(cause, []).append(f"*{row.what}* against {row.peer}")
    lines += [f"- Missed, {'; '.join(whats)}: {cause}" for cause, whats in missed.items()]
    return "\n".join(lines) + "\n" if lines else ""


def _other_curves(curves: list[Curve]) -> str:
    lines = []
    for curve in curves:
        if not curve.panel.startswith("payoff"):
            values = ", ".join(f"{number(y)} with {x:g}" for x, y in zip(curve.x, curve.y, strict=True))
            lines.append(f"- Growth, {curve.name}, by number of {curve.panel}: {values}.")
    return "\n".join(lines) + "\n" if lines else ""


if __name__ == "__main__":
    write_page()
