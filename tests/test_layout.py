"""How the package is laid out: what imports what, what is written down, and that what is written down is so."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from air_tutorials import errors

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "air_tutorials").glob("*.py"))
SOURCES = [*MODULES, *sorted(ROOT.glob("tests/*.py")), *sorted(ROOT.glob("tools/*.py"))]
SOURCES += [*sorted(ROOT.glob("benchmarks/*.py")), ROOT / "conf.py"]
ERRORS = {name: error for name, error in vars(errors).items() if isinstance(error, type)}
MAX_FILE_LINES = 230
MAX_FUNCTION_LINES = 40
Function = ast.FunctionDef | ast.AsyncFunctionDef
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)


def public_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the functions and methods that a reader of the reference sees, with their names."""
    for node in body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{prefix}{node.name}.")


def raised_errors(function: Function) -> set[str]:
    """Collect the errors of the package that a function itself raises."""
    raised = (node.exc for node in ast.walk(function) if isinstance(node, ast.Raise))
    names = {ast.unparse(error.func if isinstance(error, ast.Call) else error) for error in raised if error}
    return names & set(ERRORS)


def undocumented(source: str) -> list[str]:
    """Name the public functions whose docstring lacks a section, or an error that they raise.

    What has only one or two arguments may name them in its first sentence.
    """
    found = []
    for name, function in public_functions(ast.parse(source).body):
        docstring = ast.get_docstring(function) or ""
        names = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)} - {"self", "cls"}
        if len(names) > 2 and "Args:" not in docstring:
            found.append(f"{name} lacks Args:")
        _, _, documented = docstring.partition("Raises:")
        found += [f"{name} raises {error}" for error in sorted(raised_errors(function)) if error not in documented]
    return found


def too_long(source: str) -> list[str]:
    """Name what is longer than a reader can take in at once; of a function, its docstring does not count."""
    found = [f"{n} lines"] if (n := len(source.splitlines())) > MAX_FILE_LINES else []
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
    lengths = {}
    for node in functions:
        docstring = node.body[0] if ast.get_docstring(node) else None
        documented = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
        lengths[node.name] = node.end_lineno - node.lineno + 1 - documented
    return found + [f"{name}: {length} lines" for name, length in lengths.items() if length > MAX_FUNCTION_LINES]


@each_module
def test_public_functions_say_what_they_take_and_raise(module: Path) -> None:
    assert undocumented(module.read_text()) == []


def test_an_undocumented_function_is_found() -> None:
    source = 'def f(a, b, c):\n    "Do it."\n    raise {}\nclass C:\n    def g(self, a, b):\n        "Do."\n'
    assert undocumented(source.format("ConfigError('no')")) == ["f lacks Args:", "f raises ConfigError"]
    assert undocumented(source.format("ValueError('no')")) == ["f lacks Args:"]
    assert undocumented(source.replace("b, c", "b").format("data.KeyError")) == []
    assert (
        undocumented('def f():\n    """Do.\n\n    Raises:\n        DataError: no.\n    """\n    raise DataError') == []
    )


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.stem)
def test_files_and_functions_are_short(file: Path) -> None:
    assert too_long(file.read_text()) == []


def test_a_long_file_or_function_is_found() -> None:
    assert too_long("def f():\n    'Do.'\n" + "    pass\n" * 40) == ["f: 41 lines"]
    assert too_long("x = 1\n" * 231) == ["231 lines"]


def test_the_tree_of_exceptions_is_the_one_that_is_drawn() -> None:
    drawn, parents = {}, {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"^    ([│├└─ ]*)(\w+Error)(?: +\((\w+)\))?", line):
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            drawn[match[2]] = {parents[depth - 1] if depth else "Exception", *([match[3]] if match[3] else [])}
    assert drawn == {name: {base.__name__ for base in error.__bases__} for name, error in ERRORS.items()}


def test_the_reference_holds_every_module_from_the_bottom_up() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    in_layers = [re.findall(r"\w+", layer) for layer in reversed(layers)]
    listed = re.findall(r"automodule:: air_tutorials\.(\w+)", (ROOT / "api.md").read_text())
    assert sorted(listed) == sorted(module.stem for module in MODULES if module.stem != "__init__")
    position = {name: number for number, names in enumerate(in_layers) for name in names}
    assert listed == sorted(listed, key=position.__getitem__)


def test_the_constraints_are_the_direct_dependencies_as_they_are_installed() -> None:
    """What `make bench` alone needs is not installed by `make test`: its version is compared where it is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for_all = names_of([*project["dependencies"], *chain(*(extras[name] for name in extras if name != "bench"))])
    for_bench = names_of(extras["bench"]) - for_all
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert sorted(pinned) == sorted((for_all | for_bench) - {project["name"]})
    installed = {
        each.metadata["Name"].lower().replace("_", "-"): each.version for each in importlib.metadata.distributions()
    }
    assert pinned == {name: installed.get(name, pinned[name] if name in for_bench else None) for name in pinned}


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in requirements}


def imported_by(statement: str) -> set[str]:
    """List the packages that a fresh Python has imported after one statement."""
    program = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import torch") >= {"torch", "numpy"}
    assert not imported_by("import air_tutorials, air_tutorials.errors") & {"torch", "ray", "numpy", "torchvision"}


def test_a_worker_imports_no_more_than_it_needs(cluster: dict[str, float]) -> None:
    """Every process pays for what it imports, before its first step."""
    import ray

    # An environment of its own gives the task a process of its own, in which no other test has imported anything.
    @ray.remote(num_cpus=0, runtime_env={"env_vars": {"FRESH": "1"}})
    def modules_of_a_worker() -> set[str]:
        import air_tutorials.predictor
        import air_tutorials.trainer  # noqa: F401

        return {name.partition(".")[0] for name in sys.modules}

    shown = {"IPython", "ipywidgets", "ipykernel", "jupyter_client", "matplotlib", "PIL"}
    needless = shown | {"fastapi", "rfc3987_syntax", "scipy", "sklearn", "torchvision"}
    imported = ray.get(modules_of_a_worker.remote())
    assert "torch" in imported
    assert imported & needless == set()


def test_what_slows_every_ray_process_down_is_not_installed() -> None:
    """JupyterLab asks for an extra of jsonschema that brings it from 4.25 on; pyproject.toml holds jsonschema back."""
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("rfc3987-syntax")
