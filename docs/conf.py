"""The documentation's site: `make docs` builds it, and takes every warning for an error."""

from importlib.metadata import version as version_of

project = "Headwater"
author = copyright = "the Headwater project"
version = release = version_of("headwater")
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Headwater"
html_logo = html_favicon = "images/mark.svg"
html_show_sphinx = False
myst_heading_anchors = 3
# What is written as a link to a file outside is one to the repository.
myst_url_schemes = ("http", "https", "mailto")
suppress_warnings = ["myst.header"]  # a page may go from # to ###
