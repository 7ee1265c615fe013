# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos, pictures and sound: any file to frames, and back."""

from referformer.media.forks import leave_decoders_to_their_process

# here, so that it holds before any module of this folder opens a file
leave_decoders_to_their_process()
