# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model over whole videos, in bounded memory."""
