# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""One object from window to window."""

import pytest
import torch

from referformer.prediction.linking import OverlapLinker, mask_iou


def square(x, y, frames=4, size=16):
    """Masks of a square of 4 x 4 pixels that stands still."""
    masks = torch.zeros(frames, size, size, dtype=torch.bool)
    masks[:, y : y + 4, x : x + 4] = True
    return masks


LEFT, RIGHT, NOTHING = square(0, 0), square(9, 9), square(0, 16)


def choose_all(linker, windows):
    """Choices for one expression; a window is [(score, masks), ...]."""
    choices = []
    for candidates in windows:
        scores = torch.tensor([[score for score, _ in candidates]])
        masks = torch.stack([masks for _, masks in candidates])[None]
        choices.append(linker.choose(scores, masks, overlap=2).item())
    return choices


def test_iou_of_sequences():
    shifted = square(2, 0)
    both = torch.stack([LEFT, shifted, NOTHING])[None]
    iou = mask_iou(both, both)
    expected = torch.tensor(
        [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1.0]]
    )  # two empty ones agree
    torch.testing.assert_close(iou, expected[None])
    # frames are counted together, not averaged
    late = LEFT.clone()
    late[1:] = False
    assert mask_iou(LEFT[None, None], late[None, None]).item() == 0.25


def test_identity_is_kept_where_scores_swap():
    """Scores sway a little, and the queries change places."""
    windows = [
        [(0.6, LEFT), (0.5, RIGHT)],
        [(0.6, RIGHT), (0.5, LEFT)],
        [(0.45, LEFT), (0.55, RIGHT)],
        [(0.65, RIGHT), (0.6, LEFT)],
    ]
    by_score = [max(range(2), key=lambda q: w[q][0]) for w in windows]
    assert by_score == [0, 0, 1, 0]  # left, right, right, right
    assert choose_all(OverlapLinker(), windows) == [0, 1, 0, 1]  # left always
    # without any memory of the object it is the choice by score
    assert choose_all(OverlapLinker(jump=1), windows) == by_score


def test_a_wrong_beginning_is_left():
    """The object appears in the second window, and clearly."""
    start = [(0.3, LEFT), (0.2, NOTHING)]
    later = [(0.2, LEFT), (0.9, RIGHT)]
    assert choose_all(OverlapLinker(), [start, later, later]) == [0, 1, 1]
    # it takes longer where it is less clear
    later = [(0.4, LEFT), (0.9, RIGHT)]
    choices = choose_all(OverlapLinker(), [start] + 4 * [later])
    assert choices == [0, 0, 0, 1, 1]
    # but a little is not enough, for long
    weak = [(0.5, LEFT), (0.6, RIGHT)]
    assert choose_all(OverlapLinker(), [start] + 9 * [weak]) == [0] * 10


def test_an_object_that_is_lost():
    """Nothing continues it, so the scores decide."""
    gone = [(0.5, NOTHING), (0.6, RIGHT)]
    assert choose_all(OverlapLinker(), [[(0.6, LEFT)] * 2, gone]) == [0, 1]


def test_expressions_are_linked_apart():
    linker = OverlapLinker()
    masks = torch.stack([LEFT, RIGHT])
    both = torch.stack([masks, masks])
    first = linker.choose(torch.tensor([[0.6, 0.5], [0.5, 0.6]]), both, 2)
    assert first.tolist() == [0, 1]
    second = linker.choose(torch.tensor([[0.5, 0.6], [0.6, 0.5]]), both, 2)
    assert second.tolist() == [0, 1]


def test_a_short_last_window():
    linker = OverlapLinker()
    masks = torch.stack([LEFT, RIGHT])[None]
    linker.choose(torch.tensor([[0.6, 0.5]]), masks, 3)
    last = masks.flip(1)[:, :, :1]
    assert linker.choose(torch.tensor([[0.6, 0.5]]), last, 3).item() == 1


def test_scores_of_zero_stay_numbers():
    linker = OverlapLinker()
    masks = torch.stack([LEFT, RIGHT])[None]
    for _ in range(300):
        chosen = linker.choose(torch.tensor([[0.0, 1e-4]]), masks, 2)
    assert chosen.item() == 1


def test_jump_is_checked():
    with pytest.raises(ValueError, match='jump must be in'):
        OverlapLinker(jump=0)
