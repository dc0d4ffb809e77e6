"""How the documentation site is built: python -m sphinx -W -c .ci/docs graphc/docs FOLDER

Sphinx, because it reads docstrings from the objects themselves, loads nothing from elsewhere, and is well kept.
"""

import inspect
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import signature, stringify_signature

import graphc

sys.path.insert(0, str(Path(__file__).parent))
from reference import chosen, described, restructured

project = "graphc"
author = "the graphc authors"
release = version = graphc.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]
highlight_language = "text"
smartquotes = False  # quotes in docstrings are code
add_module_names = False
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
toc_object_entries = False

html_theme = "furo"
html_title = "graphc"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"font-stack": "system-ui, sans-serif", "font-stack--monospace": "ui-monospace, monospace"},
}


class Names(SphinxDirective):
    """Public names of the package that is its argument: those of the modules in `:from:`, and those in its body.

    Classes are described with all members that they do not have from others of the house, or those in `:members:`.
    """

    has_content = True
    required_arguments = 1
    option_spec: ClassVar = {"from": directives.unchanged, "members": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        (package,) = self.arguments
        found = chosen(package, self.options.get("from", "").split(), " ".join(self.content).split())
        if not found:
            raise self.error(f"{package} offers nothing of that")
        text = ["```{eval-rst}", *described(package, found, self.options.get("members", "")), "```"]
        node = nodes.Element()
        self.state.nested_parse(StringList(text, self.env.docname), 0, node)
        return node.children


def docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [*restructured(lines), ""]


def arguments(app: Sphinx, what: str, name: str, thing: Any, options: Any, shown: str, result: str) -> Any:
    """Of a class those of `__init__`, where `__new__` takes anything."""
    if what != "class" or not inspect.isfunction(thing.__init__) or "*_" not in (shown or ""):
        return None
    return stringify_signature(signature(thing.__init__, bound_method=True), show_annotation=False), result


def setup(app: Sphinx) -> None:
    app.add_directive("names", Names)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", arguments)
