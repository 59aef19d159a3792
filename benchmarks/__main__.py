"""`python -m benchmarks`: measure everything, and write the table and the plots. `make bench` calls it."""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.measure import ROOT, Settings, python, save_family, say

# Short ones first, so that something is seen soon. Each runs in a process of its own, with a Ray of its own.
FAMILIES = {
    "conversion": "changed lines",
    "single": "one process, the loader, the data lock",
    "training": "training with two workers",
    "payoff": "when more processes pay",
    "prediction": "batch prediction",
    "tuning_trials": "tuning",
    "http_requests": "requests over HTTP",
}


def main() -> int:
    """Measure what the command line names, and return 0 when all of it ran, whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=FAMILIES, action="append", help="this family alone; may be repeated")
    parser.add_argument("--pairs", type=int, default=5, help="how often each comparison is repeated (default: 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that all runs, and measures nothing")
    parser.add_argument(
        "--into", type=Path, default=ROOT, help="where results, page and plots go (default: the repository)"
    )
    parser.add_argument("--family", choices=FAMILIES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pairs < 1:
        parser.error(f"--pairs is {arguments.pairs}, and must be at least 1")
    settings = Settings(arguments.pairs, arguments.quick)
    if arguments.family:
        save_family(arguments.out, *importlib.import_module(f"benchmarks.{arguments.family}").measure(settings))
        return 0
    return measure_all(arguments.only or list(FAMILIES), settings, arguments.into)


def measure_all(families: list[str], settings: Settings, into: Path) -> int:
    """Measure some families, and write the results, each as soon as it is there.

    Args:
        families: their names.
        settings: how much.
        into: ``results.json`` goes to its ``benchmarks``, the page to itself, plots to its ``_static``.

    Returns:
        0, or 1 when a family failed; the others are measured all the same.
    """
    started, failed = time.monotonic(), []
    machine = describe()
    for line in machine.values():
        say(str(line))
    for number, family in enumerate(families, start=1):
        say(f"\n[{number}/{len(families)}] {FAMILIES[family]}")
        begun = time.monotonic()
        result = _measure_in_a_process(family, settings)
        if result is None:
            failed.append(family)
            continue
        took_s = round(time.monotonic() - begun)
        result |= {"machine": machine, "pairs": settings.pairs, "quick": settings.quick, "took_s": took_s}
        _store(family, result, into)
    from benchmarks import report

    report.write_page(into)
    say(f"\nMeasured in {(time.monotonic() - started) / 60:.1f} minutes. The page: {into / 'benchmarks.md'}")
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return int(bool(failed))


def _measure_in_a_process(family: str, settings: Settings) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "family.json"
        arguments = [f"--family={family}", f"--out={out}", f"--pairs={settings.pairs}", *["--quick"] * settings.quick]
        command, where = python("-W", "ignore", "-m", "benchmarks", *arguments)
        done = subprocess.run(command, **where)
        return json.loads(out.read_text()) if done.returncode == 0 else None


def _store(family: str, result: dict[str, Any], into: Path) -> None:
    """Put one family's results in place of its last ones, and leave those of the others."""
    path = into / "benchmarks" / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    results = {name: results.get(name) for name in FAMILIES} | {family: result}
    path.write_text(json.dumps({name: each for name, each in results.items() if each}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
