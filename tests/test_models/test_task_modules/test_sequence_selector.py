# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.models import MeanScoreSelector


def test_scores_are_averaged_before_the_classes_compete():
    # frame scores of query 0: class 0 wins one frame, class 1 the other two
    prob = torch.tensor(
        [
            [[0.9, 0.1], [0.5, 0.1]],
            [[0.1, 0.6], [0.5, 0.1]],
            [[0.1, 0.6], [0.5, 0.1]],
        ]
    )
    selected = MeanScoreSelector(topk=2)(prob.logit()[None])
    assert selected.query.tolist() == [[1, 0]]
    assert selected.labels.tolist() == [[0, 1]]
    torch.testing.assert_close(selected.scores, torch.tensor([[0.5, 1.3 / 3]]))
    # frame by frame, of the same query and class
    expected = torch.tensor([[[0.5, 0.1], [0.5, 0.6], [0.5, 0.6]]])
    torch.testing.assert_close(selected.frame_scores, expected)


def test_mean_of_probabilities_not_of_logits():
    logits = torch.tensor([[9.0, 1.0], [-1.0, 1.0]]).view(1, 2, 2, 1)
    assert logits.mean(1)[0, 0] > logits.mean(1)[0, 1]
    assert MeanScoreSelector()(logits).query.tolist() == [[1]]


def test_more_than_there_are():
    selected = MeanScoreSelector(topk=10)(torch.randn(2, 3, 5, 1))
    assert selected.query.shape == (2, 5)
    assert (selected.scores.diff(dim=1) <= 0).all()


def test_bad_topk():
    with pytest.raises(ValueError, match='at least 1, got 0'):
        MeanScoreSelector(topk=0)
