# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos, pictures and sound: any file to frames, and back."""
