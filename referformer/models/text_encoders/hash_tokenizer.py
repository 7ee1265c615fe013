# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A tokenizer that needs no files: words hashed into a fixed id range."""

import re
import zlib
from collections.abc import Sequence

import torch

from referformer.errors import ConfigError, DataError
from referformer.registry import TASK_UTILS
from referformer.structures import TextTokens

_WORD = re.compile(r'\w+|[^\w\s]', re.UNICODE)


def too_long(text: str, length: int, limit: int) -> DataError:
    """Make the error about an expression with too many tokens."""
    return DataError(
        f'the expression {text[:40]!r}... has {length} tokens, the text '
        f'encoder reads at most {limit}',
        value=text,
        remedy='shorten it.',
    )


@TASK_UTILS.register_module()
class HashTokenizer:
    """Feature hashing of whole words, for small models trained offline.

    A word's id is the CRC-32 of its lower-cased UTF-8 bytes modulo the
    number of free ids, so any text in any script has ids and a checkpoint
    needs no vocabulary beside it. Two words may share an id; with a few
    hundred words and the default size that is rare.

    Args:
        vocab_size (int): Ids in all, four of them special
            (0 start, 1 padding, 2 end, 3 reserved) as in RoBERTa.
        max_length (int): Longest sequence, special tokens included.

    Raises:
        ConfigError: If ``vocab_size`` or ``max_length`` is too small.
    """

    bos_id, pad_id, eos_id, num_special = 0, 1, 2, 4

    def __init__(self, vocab_size: int = 4096, max_length: int = 64) -> None:
        if vocab_size <= self.num_special or max_length < 3:
            raise ConfigError(
                f'vocab_size={vocab_size} must exceed {self.num_special} and '
                f'max_length={max_length} must be at least 3'
            )
        self.vocab_size = vocab_size
        self.max_length = max_length

    def encode(self, text: str) -> list[int]:
        """Start id, word ids and end id of one text.

        Raises:
            DataError: If the text is longer than ``max_length``.
        """
        words = _WORD.findall(text.lower())
        if len(words) + 2 > self.max_length:
            raise too_long(text, len(words) + 2, self.max_length)
        free = self.vocab_size - self.num_special
        ids = [
            self.num_special + zlib.crc32(word.encode('utf-8')) % free
            for word in words
        ]
        return [self.bos_id, *ids, self.eos_id]

    def __call__(self, texts: Sequence[str]) -> TextTokens:
        """Tokenise N texts and pad them to the longest, shape (N, L)."""
        encoded = [self.encode(text) for text in texts]
        length = max(map(len, encoded))
        ids = torch.full((len(texts), length), self.pad_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(encoded):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return TextTokens(ids, mask)
