# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Metrics for mmengine's ``Evaluator``."""

from referformer.evaluation.metrics.ref_davis_metric import RefDAVISMetric
from referformer.evaluation.metrics.refer_seg_metric import ReferSegMetric
from referformer.evaluation.metrics.refer_submission import ReferSubmission
from referformer.evaluation.metrics.refer_vos_metric import ReferVOSMetric

__all__ = [
    'RefDAVISMetric',
    'ReferSegMetric',
    'ReferSubmission',
    'ReferVOSMetric',
]
