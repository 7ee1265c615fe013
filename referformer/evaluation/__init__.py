# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores and submissions: functions on masks, and mmengine metrics."""

from referformer.evaluation.metrics import (
    RefDAVISMetric,
    ReferSegMetric,
    ReferSubmission,
    ReferVOSMetric,
)

__all__ = [
    'RefDAVISMetric',
    'ReferSegMetric',
    'ReferSubmission',
    'ReferVOSMetric',
]
