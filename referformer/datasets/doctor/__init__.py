# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The data doctor: checks a data set before it is trained on.

It has no parser of its own. It builds the datasets of a config (``check``),
runs the transforms that read their files over every frame once (``loading``,
``video``), collects the typed errors, and adds what only a look across files
can tell (``video_rules``, ``split_rules``). Datasets of users are
covered by that as they are. ``kinds`` knows where the public sets put their
splits.
"""

from referformer.datasets.doctor.check import check_datasets
from referformer.datasets.doctor.kinds import KINDS, Source, list_sources
from referformer.datasets.doctor.problems import PROBLEMS
from referformer.datasets.doctor.report import Report

__all__ = [
    'KINDS',
    'PROBLEMS',
    'Report',
    'Source',
    'check_datasets',
    'list_sources',
]
