"""The program with any of the changes of page 1, and what it computes."""

import ast
import inspect
import re
from itertools import combinations

import pytest
from torch.utils.data import Subset

from air_tutorials import baseline, trainer
from air_tutorials.conversion import CHANGES, program
from air_tutorials.conversion_explorer import explore_conversion
from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.errors import ConfigError
from air_tutorials.findings import findings
from air_tutorials.outcomes import Laboratory


@pytest.fixture(scope="module")
def laboratory(data_root) -> Laboratory:
    return Laboratory(load_fashion_mnist(data_root, train=True), load_fashion_mnist(data_root, train=False))


@pytest.mark.parametrize(("changes", "function"), [((), baseline.train_func), (CHANGES, trainer.train_func)])
def test_without_any_and_with_all_changes_it_is_the_program_before_and_after(changes, function):
    (definition,) = ast.parse(inspect.getsource(function)).body
    definition.body = definition.body[1:]  # the docstring
    assert ast.dump(ast.parse(program(changes)).body[0]) == ast.dump(definition)


def test_every_combination_is_a_program_of_its_own():
    made = [program(chosen) for count in range(len(CHANGES) + 1) for chosen in combinations(CHANGES, count)]
    assert len({ast.dump(ast.parse(source)) for source in made}) == 2 ** len(CHANGES)


def test_an_unknown_change_is_refused():
    with pytest.raises(ConfigError, match="'prepare' is no change"):
        program(["prepare"])


@pytest.mark.parametrize("num_workers", [2, 3, 4])
def test_converted_it_computes_what_one_process_computes(laboratory, num_workers):
    outcome = laboratory.outcome(CHANGES, num_workers)
    assert outcome.difference < 1e-6
    assert all(right for right, _ in findings(outcome))


def test_an_undivided_batch_is_another_training(laboratory):
    outcome = laboratory.outcome(set(CHANGES) - {"batch_size_per_worker"}, 2)
    assert outcome.difference > 1e-3
    assert outcome.num_taken == 48


@pytest.mark.parametrize("forgotten", CHANGES)
def test_each_change_that_is_forgotten_is_found(laboratory, forgotten):
    wrong = [text for right, text in findings(laboratory.outcome(set(CHANGES) - {forgotten}, 2)) if not right]
    assert wrong


def test_too_little_data_and_too_many_workers_are_refused(laboratory):
    with pytest.raises(ConfigError, match="Give 1, 2, 3 or 4"):
        laboratory.outcome(CHANGES, 5)
    with pytest.raises(ConfigError, match="There are 100 training images"):
        Laboratory(Subset(laboratory.data[0], range(100)), laboratory.data[1])


def test_a_tick_changes_the_program_and_what_it_computes(laboratory):
    explorer = explore_conversion(*laboratory.data)
    stored = explorer._repr_mimebundle_()
    assert set(stored) == {"text/plain", "text/html"}
    names = re.findall("<code[^>]*>(.*?)</code>", stored["text/html"])
    assert [name.replace("<wbr>", "") for name in names] == list(CHANGES)
    assert "✗" not in explorer.markup
    explorer.controls["batch_size_per_worker"].value = False
    assert "✗ It is another training" in explorer.markup
    assert program(set(CHANGES) - {"batch_size_per_worker"}) in repr(explorer)
