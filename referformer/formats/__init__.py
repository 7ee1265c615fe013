# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The file formats, each read and written in one place; no torch here."""
