"""Sphinx configuration. Build with ``sphinx-build -W --keep-going docs docs/_build``; nothing is fetched."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
(HERE / "_generated" / "extra").mkdir(parents=True, exist_ok=True)  # filled by generated_pages
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import qiskit_qff  # noqa: E402

project = "qiskit_qff"
author = "The qiskit_qff developers"
copyright = f"2026, {author}"  # noqa: A001 (Sphinx's own name)
version = release = qiskit_qff.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",  # formulas without JavaScript or LaTeX
    "generated_pages",  # what the code knows better than any page: commands, settings, error messages
    "repository_links",  # pages of the repository that are shown here as they are
]
exclude_patterns = ["_build", "_ext", "_generated"]
nitpicky = False
smartquotes = False  # 'block' is a word to type
keep_warnings = True

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "tasklist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # included parts of the README begin with headings of the second level

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"qiskit_qff {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_generated/extra"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "sidebar_hide_name": False,
    "light_css_variables": {"color-brand-primary": "#175f8f", "color-brand-content": "#175f8f"},
    "dark_css_variables": {"color-brand-primary": "#7cc0ee", "color-brand-content": "#7cc0ee"},
}
