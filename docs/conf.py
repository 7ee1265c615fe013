# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Settings of the documentation site, see ``docs/install.md``."""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from referformer.version import __version__

project = 'ReferFormer-MM'
author = 'The ReferFormer-MM authors'
copyright = author
release = __version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
]

myst_heading_anchors = 4  # named as on GitHub
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell, on a busy machine, too
nb_output_stderr = 'remove'  # warnings about the terminal

add_module_names = False
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings have them
maximum_signature_line_length = 79
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = 'hide'

html_theme = 'furo'
html_title = project
html_static_path = ['static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = '$ '
copybutton_copy_empty_lines = False


def _offer_files_of_projects(app: Sphinx, page: str, text: list[str]) -> None:
    """Let links to Markdown outside ``docs/`` be links to files."""
    link = r'(?<=\]\()(?=(\.\./)+projects/[^)]+\.md\))'
    text[0] = re.sub(link, 'path:', text[0])


def _leave_methods_out(app: Sphinx, tree: nodes.document) -> None:
    """List classes and functions beside a page, which is also quicker."""
    for node in tree.findall(addnodes.desc):
        if node['objtype'] not in ('class', 'exception', 'function'):
            for signature in node.findall(addnodes.desc_signature):
                signature['_toc_name'] = ''


def setup(app: Sphinx) -> None:
    """Connect the functions of this file."""
    app.connect('source-read', _offer_files_of_projects)
    app.connect('doctree-read', _leave_methods_out, priority=100)
