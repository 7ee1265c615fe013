"""Tests of the package.

Importing it first installs the stand-in for mmcv's compiled operators, which
a test (or a process that a test spawns) would miss if it imports mmdet first.
"""

import referformer  # noqa: F401
