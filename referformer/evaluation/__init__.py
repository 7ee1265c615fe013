# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores: functions on masks, and metrics for mmengine's ``Evaluator``."""
