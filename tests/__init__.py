# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Tests of the package.

Importing it first installs the stand-in for mmcv's compiled operators, which
a test (or a process that a test spawns) would miss if it imports mmdet first.
"""

import os

# A test may not reach for the network, not even to fail. Packages read these
# variables when they are imported.
os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')

import referformer  # noqa: F401
