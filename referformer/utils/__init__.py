# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Helpers without a place in the model, the data or the scoring.

Import them from their modules: this file stays empty so that the version
check can run before mmengine and torch are imported.
"""
