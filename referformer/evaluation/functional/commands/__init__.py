# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The commands of ``tools/eval_masks.py``.

All are imported to print the help, so what takes time to import (numpy
included) is imported when a command runs.
"""

from referformer.evaluation.functional.commands import (
    expressions,
    label_maps,
    sentences,
)
from referformer.evaluation.functional.commands.common import Command

COMMANDS: tuple[Command, ...] = (
    *label_maps.COMMANDS,
    *expressions.COMMANDS,
    *sentences.COMMANDS,
)
"""All commands, in the order of the help."""

__all__ = ['COMMANDS', 'Command']
