"""What is shown of the trials: while they run, and as pictures afterwards."""

import math
import pickle
import sys

import pytest
import ray
from matplotlib.figure import Figure
from ray import tune

from air_tutorials.errors import ConfigError
from air_tutorials.tuning import make_tuner
from air_tutorials.tuning_monitor import TuningMonitor
from air_tutorials.tuning_plots import (
    plot_best_so_far,
    plot_loss_against,
    plot_parallel_coordinates,
    plot_trial_curves,
    plot_trial_table,
)

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

CURVES = [[2.0, 1.5, 1.0], [2.1], [1.9, math.nan]]


def three_reports(config: dict) -> None:
    for epoch in range(3):
        tune.report({"loss": config["lr"] + epoch})


def test_the_monitor_notes_every_report_of_every_trial(cluster, tmp_path, capsys):
    monitor = TuningMonitor()
    tuner = make_tuner(
        three_reports,
        {"lr": tune.grid_search([0.1, 0.2])},
        num_samples=1,
        max_epochs=3,
        storage_path=tmp_path,
        callbacks=[monitor],
        scheduler=tune.schedulers.FIFOScheduler(),
    )
    capsys.readouterr()
    tuner.fit()
    assert sorted(monitor.curves.values()) == [[0.1, 1.1, 2.1], [0.2, 1.2, 2.2]]
    assert monitor._caption(2) == "2 of 2 trials have reported, best loss 0.1"
    assert capsys.readouterr().out == ""


def test_the_table_escapes_what_it_shows_and_puts_the_best_first():
    monitor = TuningMonitor(metric="accuracy", mode="max")
    monitor.curves = {"a": [0.2, 0.3], "b": [0.9], "c": [math.nan]}
    monitor.configs = {"a": {"<lr>": 0.123456}, "b": {"<lr>": 1}, "c": {"<lr>": 2}}
    table = monitor._table()
    assert "<lr>" not in table
    assert table.index("0.9") < table.index("0.3") < table.index(">nan<")
    assert "0.1235" in table


def test_the_monitor_can_be_kept_on_disk():
    monitor = TuningMonitor()
    monitor.setup()
    kept = pickle.loads(pickle.dumps(monitor))
    kept.on_experiment_end([])
    assert kept.curves == {}


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="lowest"):
        TuningMonitor(mode="lowest")


def test_the_curves_end_where_the_trials_ended_and_the_best_is_bold():
    figure = plot_trial_curves(CURVES)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 1 or line.get_linewidth() == 3]
    assert lines[0].get_linewidth() == 3
    assert figure.axes[0].get_ylabel() == "loss"
    with pytest.raises(ConfigError, match="no trial has a value"):
        plot_trial_curves([[math.nan]])


def test_parallel_coordinates_have_an_axis_for_each_hyperparameter_and_the_loss():
    configs = [{"lr": 0.001, "l1": 8}, {"lr": 0.1, "l1": 16}, {"lr": 0.01, "l1": 32}]
    figure = plot_parallel_coordinates(configs, [1.0, math.nan, 0.5], log=["lr"])
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["lr", "l1", "loss"]
    assert len(ax.get_lines()) == 2
    assert list(ax.get_lines()[1].get_ydata()) == [1, 1, 0]
    with pytest.raises(ConfigError, match="3 configs and 1 losses"):
        plot_parallel_coordinates(configs, [1.0])


def test_a_trial_without_a_finite_loss_is_still_shown():
    figure = plot_loss_against([0.1, 0.01], [0.5, math.nan], name="lr")
    assert isinstance(figure, Figure)
    assert [line.get_marker() for line in figure.axes[0].get_lines()] == ["o", "x"]
    with pytest.raises(ConfigError, match="0 finite"):
        plot_loss_against([0.1], [math.inf], name="lr")


def test_the_table_has_a_row_for_each_trial_with_the_best_first_and_bars_as_long_as_they_trained():
    configs = [{"lr": 0.1, "l1": 8}, {"lr": 0.02, "l1": 16}, {"lr": 0.3, "l1": 4}]
    figure = plot_trial_table(configs, [[2.0, 1.5], [1.9, 1.2, 0.9, 1.0], [math.nan]], max_epochs=4)
    bars = {round(bar.get_y() + bar.get_height() / 2): bar for bar in figure.axes[0].patches}
    assert [bars[row].get_width() / bars[0].get_width() for row in range(3)] == pytest.approx([1, 0.5, 0.25])
    assert [bars[row].get_alpha() for row in range(3)] == [1, 0.45, 0.45]
    rows = {}
    for text in figure.axes[0].texts:
        rows.setdefault(round(text.get_position()[1]), []).append(text.get_text())
    assert rows == {
        -1: ["lr", "l1", "epochs trained", "loss"],
        0: ["0.02", "16", "4", "0.900"],
        1: ["0.1", "8", "2", "1.500"],
        2: ["0.3", "4", "1", "inf"],
    }
    with pytest.raises(ConfigError, match="3 configs and 1 curves"):
        plot_trial_table(configs, [[1.0]], max_epochs=4)


def test_the_best_so_far_of_searches_is_drawn_by_trial():
    figure = plot_best_so_far({"random": [2.0, 1.0], "Optuna": [1.5, 1.5, 0.5]})
    assert [list(line.get_ydata()) for line in figure.axes[0].get_lines()] == [[2.0, 1.0], [1.5, 1.5, 0.5]]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["random", "Optuna"]
    with pytest.raises(ConfigError, match="at least one trial"):
        plot_best_so_far({"random": []})
