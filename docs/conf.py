"""The site: `make docs` builds docs/_build/html (English) and zh_CN in it, and takes every warning for an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from polytask.version import __version__

project = "polytask"
author = "the polytask developers"
copyright = f"2026, {author}"  # noqa: A001  # Sphinx's name
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference", "plain_pages", "languages"]
html_theme = "furo"
html_title = f"polytask {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html", "sidebar/search.html", "language.html", "sidebar/scroll-start.html",
        "sidebar/navigation.html", "sidebar/scroll-end.html",
    ]
}  # fmt: skip
exclude_patterns = ["_build", "_ext", "locale"]
source_suffix = {".md": "markdown"}
root_doc = "index"
language = "en"
locale_dirs = ["locale"]
gettext_compact = False
gettext_uuid = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
# Programs in the pages are run by the tests; what a page shows beside them is text.
highlight_language = "text"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_class_signature = "separated"
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
nitpicky = False
