# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The commands of ``tools/eval_masks.py``, one module each.

A module has ``NAME``, ``HELP`` (one line), ``DESCRIPTION``,
``add_arguments(parser)``, ``run(args)``, which returns the scores, and
``table(scores)``, which words them. All are imported to print the help, so
what takes time to import (numpy included) is imported in ``run``.
"""

from importlib import import_module
from types import ModuleType

COMMANDS = (
    'davis',
    'ref_ytvos',
    'ref_davis',
    'mevis',
    'a2d',
    'jhmdb',
    'refcoco',
)
"""Names of the modules, in the order of the help."""


def load_commands() -> list[ModuleType]:
    """Import all commands."""
    return [import_module(f'{__name__}.{name}') for name in COMMANDS]
