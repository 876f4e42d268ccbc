"""How Sphinx makes the site of these pages: `make docs`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

DOCS = Path(__file__).parent
TREE = DOCS.parent
sys.path.insert(0, str(TREE))

import lockfile  # noqa: E402

project = "lockfile"
version = release = lockfile.__version__
copyright = "the authors of lockfile"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.graphviz"]
nitpicky = True
exclude_patterns = ["_templates"]

autodoc_typehints = "none"
add_module_names = False

graphviz_output_format = "svg"

html_theme = "furo"
html_title = "lockfile"
html_favicon = "static/lock.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

linkcheck_timeout = 10
linkcheck_retries = 1

# Files outside this folder, and the pages that show them.
SHOWN_BY = {
    "CHANGELOG.md": "project/changelog",
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/security",
    "csrc/README.rst": "project/sources",
}
SHOWN_BY_PAGE = {page: TREE / file for file, page in SHOWN_BY.items()}


class LinksToFiles(SphinxTransform):
    """Pages link each other as files, which is right wherever they are read."""

    default_priority = 700

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(nodes.reference)):
            self.redirect(node, node.get("refuri", ""))
        for node in list(self.document.findall(pending_xref)):
            if node["reftype"] == "myst" or node.get("refdomain") == "doc":
                self.redirect(node, node["reftarget"])

    def redirect(self, node: nodes.Element, target: str) -> None:
        file, _, _ = target.partition("#")
        if re.match(r"\w+:", file) or not file.endswith((".rst", ".md")):
            return
        docname = self.env.docname
        folder = SHOWN_BY_PAGE.get(docname, DOCS / docname).parent
        page = page_of((folder / file).resolve())
        if page is None:
            logging.getLogger(__name__).warning("no page shows %s", file, location=node)
            return
        link = pending_xref(
            "",
            *node.children,
            refdoc=docname,
            refdomain="std",
            reftype="doc",
            reftarget=f"/{page}",
            refexplicit=True,
            refwarn=True,
        )
        node.replace_self(link)


def page_of(file: Path) -> str | None:
    if not file.is_relative_to(TREE) or not file.exists():
        return None
    inside = str(PurePosixPath(file.relative_to(TREE)))
    if inside in SHOWN_BY:
        return SHOWN_BY[inside]
    if file.is_relative_to(DOCS):
        return str(PurePosixPath(file.relative_to(DOCS).with_suffix("")))
    return None


def docstring_as_rst(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain text, for help(). Lines of "NAME: what it is" list arguments."""
    lines[:] = as_fields(lines)


def as_fields(lines: list[str]) -> Iterator[str]:
    in_field = False
    for line in lines:
        named = re.match(r"(\w+): (.*)", line)
        if named:
            if not in_field:
                yield ""
            in_field = True
            yield f":param {named[1]}: {marked_up(named[2])}"
        elif in_field and line:
            yield f"    {marked_up(line)}"
        else:
            in_field = False
            yield marked_up(line)


CODE = re.compile(r"[\w.]+\([^()]*\)|\w+=\w+|(?<!\w)'[^' ]+'(?!\w)|\b(?:None|True|False)\b")
NAME = re.compile(rf"\b(?:{'|'.join(lockfile.__all__)})\b")


def marked_up(text: str) -> str:
    """Calls are code, and the package's names are links."""
    text = text.replace("*", r"\*")
    parts = [NAME.sub(r":py:obj:`\g<0>`", part) for part in CODE.split(text)]
    codes = [f"``{code}``" for code in CODE.findall(text)] + [""]
    return "".join(part + code for part, code in zip(parts, codes, strict=True))


def setup(app: Sphinx) -> None:
    app.add_transform(LinksToFiles)
    app.connect("autodoc-process-docstring", docstring_as_rst)
