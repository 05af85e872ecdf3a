"""The documentation's site: `make docs` builds it, and takes every warning for an error."""

import json
from importlib.metadata import version as version_of
from pathlib import Path

project = "Headwater"
author = copyright = "the Headwater project"
version = release = version_of("headwater")
extensions = ["myst_parser", "sphinxcontrib.openapi"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Headwater"
html_logo = html_favicon = "images/mark.svg"
html_show_sphinx = False
myst_heading_anchors = 3
# What is written as a link to a file outside is one to the repository.
myst_url_schemes = ("http", "https", "mailto")
suppress_warnings = ["myst.header"]  # a page may go from # to ###

HERE = Path(__file__).parent


def without_bodies_of_errors(contract):
    """The contract as a page can show it: every error has the same body, and the page says so."""
    for path in contract["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if status >= "4":
                    answer.pop("content", None)
    return contract


def setup(app):
    """Write down what the reference is made of."""
    contract = json.loads((HERE.parent / "tests" / "app" / "openapi.json").read_text())
    target = HERE / "_build" / "openapi.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(without_bodies_of_errors(contract)))
