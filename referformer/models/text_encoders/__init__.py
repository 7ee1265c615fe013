# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Text encoders and tokenizers."""

from referformer.models.text_encoders.hash_tokenizer import HashTokenizer
from referformer.models.text_encoders.hf_text_encoder import HFTextEncoder

__all__ = ['HFTextEncoder', 'HashTokenizer']
