# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The commands of ``tools/eval_masks.py``.

All are imported to print the help, so what takes time to import (numpy
included) is imported when a command runs.
"""
