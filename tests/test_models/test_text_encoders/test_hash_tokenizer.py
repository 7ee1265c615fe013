# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import itertools

import pytest
import torch

from referformer.models import HashTokenizer
from referformer.testing.scenes import VOCABULARY


@pytest.fixture
def tokenizer():
    return HashTokenizer(vocab_size=512, max_length=16)


def test_layout(tokenizer):
    ids, mask, _ = tokenizer(['a dog', 'the brown dog, left'])
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == mask.shape == (2, 7)  # the comma is a token
    assert ids[0].tolist()[4:] == [tokenizer.pad_id] * 3
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert (ids[:, 0] == tokenizer.bos_id).all()
    assert ids[0, 3] == ids[1, 6] == tokenizer.eos_id
    words = torch.cat([ids[0, 1:3], ids[1, 1:6]])
    assert words.min() >= tokenizer.num_special
    assert words.max() < tokenizer.vocab_size


def test_ids_do_not_change_between_versions(tokenizer):
    """A checkpoint holds no vocabulary: its ids are for ever."""
    assert tokenizer.encode('a red dog') == [0, 499, 439, 181, 2]


def test_case_and_spaces_do_not_matter(tokenizer):
    assert tokenizer.encode('  A   Red\tdog\n') == tokenizer.encode(
        'a red dog'
    )


@pytest.mark.parametrize('text', ['猫が走る', 'Ünïcødé Straße', '🐕 dog', 'é'])
def test_any_script(tokenizer, text):
    ids = tokenizer.encode(text)
    assert len(ids) >= 3
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


def test_empty_text_is_start_and_end(tokenizer):
    assert tokenizer.encode('') == [tokenizer.bos_id, tokenizer.eos_id]


def test_too_long_text_is_refused(tokenizer):
    assert len(tokenizer.encode('dog ' * 14)) == 16
    with pytest.raises(ValueError, match=r"'dog dog .*17 tokens.* most 16"):
        tokenizer.encode('dog ' * 15)


def test_no_two_synthetic_words_share_an_id():
    tokenizer = HashTokenizer(vocab_size=4096)
    ids = {word: tokenizer.encode(word)[1:-1] for word in VOCABULARY}
    assert len(ids) > 30
    collisions = [
        pair
        for pair in itertools.combinations(ids, 2)
        if ids[pair[0]] == ids[pair[1]]
    ]
    assert not collisions


@pytest.mark.parametrize('kwargs', [{'vocab_size': 4}, {'max_length': 2}])
def test_impossible_sizes(kwargs):
    with pytest.raises(ValueError, match=r'must exceed 4 .* at least 3'):
        HashTokenizer(**kwargs)
