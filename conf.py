"""The site: the pages as they were executed, and the reference of the package. `make site` builds it.

Nothing is executed here, and a reader's browser asks for nothing outside the site.
"""

from air_tutorials import __version__

project = "air-tutorials"
author = "The air-tutorials maintainers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
# The .md beside a page is its source; the .ipynb holds the outputs and is what the site shows.
include_patterns = ["index.md", "api.md", "notebooks/*.ipynb"]
# Nor walk through environments, caches and checkpoints to find that out.
exclude_patterns = [".*", "**/.*", "_build"]
nitpicky = True
# Other projects' inventories would take a network to build the site with: of all references only our own must resolve.
nitpick_ignore_regex = [(r"py:.*", r"(?!air_tutorials\.).*")]
nitpick_ignore = [("py:class", "air_tutorials.monitor.Item")]  # a type variable has no entry of its own

nb_execution_mode = "off"
# Widgets need a kernel, and their scripts come from elsewhere: the image or the table beside them is shown.
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # or the fields of a dataclass are described twice

# A button on all code, none on what a cell printed; and a prompt is not copied.
copybutton_selector = "div.highlight pre:not(.stream *, .text_plain *, .text_html *, .traceback *)"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "From PyTorch to Ray"
html_theme_options = {"use_fullscreen_button": False, "show_toc_level": 2, "navbar_persistent": []}
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_use_index = html_domain_indices = False  # the reference is one page, and there is a search
