# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Long runs, started by hand: ``python -m tests.soak.<name>``."""
