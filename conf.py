"""The site: the pages as they were executed, and the reference of the package. `make site` builds it.

Nothing is executed here, and a reader's browser asks for nothing outside the site.
"""

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import numpy.typing
import run_times
from docutils.nodes import Element
from sphinx.application import Sphinx

# This union of many private types would be listed in full: before a module takes it, one class stands in for it.
numpy.typing.ArrayLike = type("ArrayLike", (), {"__module__": "numpy.typing"})

from air_tutorials import __version__, baseline, trainer  # noqa: E402 (only now)
from air_tutorials.display import show_diff  # noqa: E402

project = "air-tutorials"
author = "The air-tutorials maintainers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
# The .md beside a page is its source; the .ipynb holds the outputs and is what the site shows.
include_patterns = ["*.md", "notebooks/*.ipynb"]
# These are for whoever reads the repository. Nor walk through environments, caches and checkpoints to find pages.
exclude_patterns = [".*", "**/.*", "_build", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]

# Where the reference names a class of another project, it links to that project's own page. The lists of names are
# kept here, as inventories in Sphinx's first, plain format, so that the build needs no network.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.txt"),
    "numpy": ("https://numpy.org/doc/stable", "inventories/numpy.txt"),
    "torch": ("https://docs.pytorch.org/docs/stable", "inventories/torch.txt"),
    "ray": ("https://docs.ray.io/en/releases-2.60.0", "inventories/ray.txt"),
}
# Where a class is written, and the public name under which its project describes it.
PUBLIC_NAMES = {
    "Dataset": "ray.data.Dataset",
    "ScalingConfig": "ray.train.ScalingConfig",
    "ray.serve.deployment.Application": "ray.serve.Application",
    "ray.tune.callback.Callback": "ray.tune.Callback",
    "ray.tune.result_grid.ResultGrid": "ray.tune.ResultGrid",
    "ray.tune.schedulers.trial_scheduler.TrialScheduler": "ray.tune.schedulers.TrialScheduler",
    "ray.tune.search.searcher.Searcher": "ray.tune.search.Searcher",
    "ray.tune.tuner.Tuner": "ray.tune.Tuner",
    "torch.nn.modules.module.Module": "torch.nn.Module",
    "torch.optim.optimizer.Optimizer": "torch.optim.Optimizer",
    "torch.utils.data.dataloader.DataLoader": "torch.utils.data.DataLoader",
    "torch.utils.data.dataset.Dataset": "torch.utils.data.Dataset",
    "torch.utils.data.dataset.IterableDataset": "torch.utils.data.IterableDataset",
    "torch.utils.data.dataset.Subset": "torch.utils.data.Subset",
}
nitpicky = True
nitpick_ignore = [
    # A type variable has no entry of its own.
    ("py:class", "air_tutorials.monitor.Item"),
    ("py:class", "air_tutorials.simulation.T"),
    ("py:class", "ray.ObjectRef"),  # Ray describes it in prose
    # Not Sphinx's, so that they offer no inventory.
    ("py:class", "fastapi.applications.FastAPI"),
    ("py:class", "ipywidgets.widgets.widget_button.Button"),
    ("py:class", "pydantic.main.BaseModel"),
]

nb_execution_mode = "off"
# Widgets need a kernel, and their scripts come from elsewhere: the image or the table beside them is shown.
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence", "substitution"]


def difference() -> str:
    """Show how the program of page 1 becomes the one for many workers, as Markdown: from the code as it is now."""
    with redirect_stdout(io.StringIO()) as shown:
        show_diff(baseline.train_func, trainer.train_func)
    caption, _, lines = shown.getvalue().partition("\n\n")
    return f"{caption}\n\n```diff\n{lines}```"


def contents() -> str:
    """List the pages for the sidebar, as Markdown, each with its number."""
    pages = "\n".join(f"{run_times.title(page)} <notebooks/{page}>" for page in run_times.pages())
    return f"```{{toctree}}\n:hidden:\n:caption: Pages\n\n{pages}\n```"


# What index.md and run_times.md take from the code and from the last measurement.
myst_substitutions = {
    "contents": contents(),
    "difference": difference(),
    "run_times": run_times.table(),
    "total_run_time": run_times.total(),
}
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # or the fields of a dataclass are described twice
napoleon_use_rtype = False  # what a docstring says of a result is prose; its type is in the signature

# A button on all code, none on what a cell printed; and a prompt is not copied.
copybutton_selector = "div.highlight pre:not(.stream *, .text_plain *, .text_html *, .traceback *)"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "From PyTorch to Ray"
html_theme_options = {
    "article_header_end": ["download-notebook", "article-header-buttons"],
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
templates_path = ["_templates"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_js_files = [("reachable.js", {"defer": "defer"})]
html_show_sourcelink = False
html_use_index = html_domain_indices = False  # the reference is one page, and there is a search


def use_public_name(app: Sphinx, env: object, node: Element, content: object) -> None:  # noqa: ARG001 (Sphinx passes them)
    """Look a reference up under its public name: intersphinx, which comes after this, finds it there."""
    node["reftarget"] = PUBLIC_NAMES.get(node["reftarget"], node["reftarget"])


def skip_fields(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:  # noqa: ARG001
    """Leave out what Python itself says of the fields of a named tuple: its class describes them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> None:
    """Let Sphinx call this file's own functions, the first one before intersphinx's."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", use_public_name, priority=400)
