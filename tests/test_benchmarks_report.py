"""How measurements become a table: turns, ratios, targets, words; and how a server is loaded."""

import asyncio
import json

import numpy as np
import psutil
import pytest
from served import CLASSES, SHAPE, assert_right, body_of

from benchmarks import report
from benchmarks.http_requests import ask, check_same_answers, free_port, run_load, serve
from benchmarks.load import answer_is_whole, load
from benchmarks.marks import Marks, read_run
from benchmarks.measure import Curve, Row, alternate, fit_line
from benchmarks.plots import plot_payoff
from benchmarks.serve_peer import CLASSES as PEER_CLASSES
from benchmarks.serve_peer import SHAPE as PEER_SHAPE


def make_row(**changes: object) -> Row:
    row = {"what": "a thing", "peer": "another", "unit": "s", "ours": [1.0, 2.0, 9.0], "peers": [2.0, 2.0, 3.0]}
    return Row(**{**row, **changes})


def test_contenders_take_turns():
    turns = []
    results = alternate({name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}, pairs=3)
    assert "".join(turns) == "ababab"
    assert results == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_pair_is_compared_before_the_median_is_taken():
    assert make_row().spread() == (1.0, 0.5, 3.0)
    assert make_row(compare="difference").spread() == (0.0, -1.0, 6.0)
    assert make_row(compare="value").spread() == (2.0, 1.0, 9.0)


@pytest.mark.parametrize(
    ("bounds", "met", "words"),
    [
        ({}, None, ""),
        ({"at_least": 0.4}, True, "reached"),
        ({"at_least": 0.9}, True, "reached, within the spread"),
        ({"at_least": 1.5}, False, "**missed**, within the spread"),
        ({"at_most": 0.4}, False, "**missed**"),
        ({"at_most": 3.5}, True, "reached"),
    ],
)
def test_a_target_is_judged_by_the_median(bounds, met, words):
    row = make_row(**bounds)
    assert row.is_met() is met
    assert report.verdict(row) == words


def test_a_line_of_the_table_has_both_sides_and_the_spread():
    line = report.table_line(make_row(at_most=1.3))
    assert line.replace("\N{NO-BREAK SPACE}", " ") == (
        "| a thing | another | 2 s | 2 s | **1.00 ×** (0.50 to 3.00) | at most 1.3 × | reached, within the spread |"
    )


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0"), (12_345.6, "12,346"), (3.14159, "3.14"), (0.00814, "0.0081"), (-4.5, "-4.5")]
)
def test_numbers_are_written_short(value, written):
    assert report.number(value) == written


def test_what_is_missed_has_its_cause_and_only_then(monkeypatch):
    monkeypatch.setitem(report.CAUSES, ("a thing", "another"), "a known reason.")
    machine = {"date": "today", "machine": "one", "busy": "no", "versions": "some"}
    family = {"curves": [], "machine": machine, "quick": False, "took_s": 60, "pairs": 3}
    missed = report.render({"single": {**family, "rows": [make_row(at_most=0.1)]}})
    assert "Missed, *a thing* against another: a known reason." in missed
    assert "Of 1 targets that were set beforehand, 0 are reached" in missed
    assert "a known reason" not in report.render({"single": {**family, "rows": [make_row(at_most=10)]}})


def test_a_fitted_line_is_numpys():
    x, y = [1.0, 2.0, 4.0, 8.0], [3.0, 4.5, 9.0, 16.0]
    slope, at_zero, explained = fit_line(x, y)
    assert (slope, at_zero) == pytest.approx(tuple(np.polyfit(x, y, 1)))
    assert explained == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_a_plot_has_a_panel_for_each_model(tmp_path):
    curves = [Curve(f"payoff: {m}", n, [64.0, 256.0], [1e3, 2e3]) for m in "ab" for n in ("1 process", "2 workers")]
    plot_payoff(curves, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_marks_give_the_speed_between_first_and_last_step(tmp_path):
    mark = Marks(tmp_path / "marks.jsonl")
    for epoch in range(2):
        for step in range(5):
            mark(epoch, step, 5, None)
    lines = [json.loads(line) for line in (tmp_path / "marks.jsonl").read_text().splitlines()]
    run = read_run(tmp_path / "marks.jsonl", lines[0]["first"] - 2, lines[1]["last"] + 3, batch_size=10)
    assert (run.to_first_step_s, run.after_last_step_s) == pytest.approx((2, 3))
    assert run.images_per_s == pytest.approx(40 / (lines[1]["last"] - lines[1]["first"]))
    assert run.num_steps == 10


def test_an_answer_is_read_to_its_end():
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert [answer_is_whole(whole[:n]) for n in (10, len(whole) - 1, len(whole))] == [False, False, True]
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert [answer_is_whole(chunked[:n]) for n in (-1, len(chunked))] == [False, True]


def test_the_load_counts_good_answers_and_errors_apart():
    async def main() -> tuple:
        answers = iter([b"200 OK", b"500 No"] * 10_000)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                try:
                    await reader.readuntil(b"body")
                except asyncio.IncompleteReadError:
                    writer.close()
                    return
                writer.write(b"HTTP/1.1 " + next(answers) + b"\r\nContent-Length: 2\r\n\r\nok")

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            return await load("127.0.0.1", server.sockets[0].getsockname()[1], b"body", 4, 0.3)

    result = asyncio.run(main())
    assert result.requests_per_s > 0
    assert result.num_errors > 0
    assert result.p50_ms <= result.p99_ms


def test_the_plain_app_answers_as_plain_pytorch(net_checkpoint, net_images, net_probabilities, tmp_path):
    assert (PEER_SHAPE, PEER_CLASSES) == (SHAPE, CLASSES)
    body = tmp_path / "body.json"
    body.write_bytes(body_of(net_images[0]))
    with serve("fastapi", net_checkpoint, {}) as port:
        answer = ask(port, body.read_bytes())
        loaded = run_load(port, body, num_clients=2, duration_s=0.2)
    assert_right(answer["predictions"], net_probabilities[:1])
    assert loaded.requests_per_s > 0
    check_same_answers({"one": answer, "the same": answer})
    with pytest.raises(AssertionError):
        check_same_answers({"one": answer, "other": {"predictions": [{"class": 11, "probabilities": []}]}})


def test_ray_serve_behind_haproxy_answers_as_plain_pytorch_and_leaves_nothing(
    net_checkpoint, net_images, net_probabilities
):
    """The setting that page 2 names, and that the results recommend."""
    ports = {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("STATS", "METRICS")}
    before = haproxy_processes()
    with serve("ray", net_checkpoint, {"RAY_SERVE_ENABLE_HA_PROXY": "1", **ports}) as port:
        answer = ask(port, body_of(net_images[0]))
        assert haproxy_processes() > before
    assert_right(answer["predictions"], net_probabilities[:1])
    assert haproxy_processes() <= before


def haproxy_processes() -> set[int]:
    """Which run, whoever started them; another program's may end meanwhile."""
    found = psutil.process_iter(["name", "status"])
    return {each.pid for each in found if each.info["name"] == "haproxy" and each.info["status"] != "zombie"}
