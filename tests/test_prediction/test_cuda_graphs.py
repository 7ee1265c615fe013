# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Recorded steps give the results of steps that are called.

A recorder of the CPU stands in for CUDA: it runs the same function on the
same buffers again, so whatever is read from elsewhere, or overwritten, shows.
"""

import gc
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from torch import nn
from torch.utils._pytree import tree_leaves

from referformer.prediction import Predictor, cuda_graphs
from referformer.prediction.cuda_graphs import GraphedSteps, graphed_steps
from referformer.utils.kept import hold_what_is_kept, kept

from ..test_models.helpers import build_model


def distinct(tensor):
    """Numbers of an expanded tensor once, as they are in memory."""
    index = tuple(
        slice(0, 1) if stride == 0 else slice(None)
        for stride in tensor.stride()
    )
    return tensor[index]


class PretendRecorder:
    """Replays on the CPU by calling the function again."""

    made: ClassVar[list] = []
    limit = 10**9
    size = 1

    def __init__(self, device):
        self.max_bytes = self.limit
        self.num_bytes = self.recorded = self.replayed = 0
        self.made.append(self)

    def record(self, function):
        assert not torch.is_autocast_cache_enabled()
        self.recorded += 1
        outputs = function()
        self.num_bytes += self.size

        def replay():
            self.replayed += 1
            with torch.no_grad():
                again = function()
            for old, new in zip(
                tree_leaves(outputs), tree_leaves(again), strict=True
            ):
                if isinstance(old, torch.Tensor):
                    distinct(old).copy_(distinct(new))

        return replay, outputs


@pytest.fixture
def recorders(monkeypatch):
    """Recorders that were made, on a machine that records on its CPU."""
    monkeypatch.setattr(PretendRecorder, 'made', [])
    monkeypatch.setattr(cuda_graphs, 'CudaRecorder', PretendRecorder)
    monkeypatch.setattr(
        cuda_graphs, '_can_record', lambda device: not torch.is_grad_enabled()
    )
    return PretendRecorder.made


class Toy(nn.Module):
    """Counts how often it is called."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.calls = 0

    def step(self, x, times=1):
        self.calls += 1
        return {'out': self.fc(x) * times}, times


@pytest.fixture
def toy():
    return Toy().eval()


def run(steps, toy, shape=(2, 4), times=1):
    """Call the step with new numbers and check the result."""
    x = torch.randn(shape)
    with torch.no_grad():
        (out, echo) = steps(toy, 'step', x, times)
        assert torch.equal(out['out'], toy.fc(x) * times)
    assert echo == times
    return out['out']


def test_every_shape_is_recorded_at_its_third_call(recorders, toy):
    steps = GraphedSteps()
    for shape, times in [((2, 4), 1), ((3, 4), 1), ((2, 4), 2)]:
        for number in range(1, 6):
            run(steps, toy, shape, times)
            assert bool(recorders) or number < 3
    (recorder,) = recorders
    assert (recorder.recorded, recorder.replayed) == (3, 9)


def test_results_are_copies(recorders, toy):
    steps = GraphedSteps(after=1)
    first = run(steps, toy)
    before = first.clone()
    run(steps, toy)
    assert torch.equal(first, before)


def test_expanded_tensors_stay_expanded(recorders, toy):
    steps = GraphedSteps(after=1)
    toy.step = lambda x: (x[:1] + 1).expand(x.shape)
    for _ in range(3):
        x = torch.randn(1, 4).expand(3, 4)
        with torch.no_grad():
            out = steps(toy, 'step', x)
        assert torch.equal(out, x + 1)
        assert out.stride(0) == 0
    assert recorders[0].recorded == 1


def test_what_came_last_stays(recorders, toy):
    steps = GraphedSteps(after=1, max_shapes=2)
    for rows in (1, 2, 1, 3, 1, 2):
        run(steps, toy, (rows, 4))
    # the second time of 2 rows comes after 3 had taken their place
    assert recorders[0].recorded == 4


def test_one_autocast_is_not_another(recorders, toy):
    steps = GraphedSteps(after=1)
    run(steps, toy)
    x = torch.randn(2, 4)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        out = steps(toy, 'step', x)[0]['out']
    assert out.dtype == torch.bfloat16
    assert recorders[0].recorded == 2


@pytest.mark.parametrize(
    'prevent',
    [
        lambda toy: toy.fc.train(),
        lambda toy: toy.fc.register_forward_hook(lambda *_: None),
        lambda toy: toy.register_forward_pre_hook(lambda *_: None),
    ],
)
def test_not_recorded(recorders, toy, prevent):
    prevent(toy)
    steps = GraphedSteps(after=1)
    run(steps, toy)
    assert not recorders


def test_not_recorded_for_gradients(recorders, toy):
    out, _ = GraphedSteps(after=1)(toy, 'step', torch.randn(2, 4))
    out['out'].sum().backward()
    assert not recorders


def test_moved_weights_are_noticed(recorders, toy):
    steps = GraphedSteps(after=1)
    run(steps, toy)
    toy.fc.weight.data.zero_()  # in place: the record reads the new ones
    run(steps, toy)
    assert len(recorders) == 1
    toy.fc.weight.data = torch.randn(4, 4)
    run(steps, toy)
    toy.fc = nn.Linear(4, 4).eval()
    run(steps, toy)
    assert [r.recorded for r in recorders] == [1, 1, 1]


def test_a_step_that_cannot_be_recorded(recorders, toy, monkeypatch):
    def refuse(self, function):
        raise RuntimeError('operation not permitted\nand more')

    monkeypatch.setattr(PretendRecorder, 'record', refuse)
    steps = GraphedSteps(after=2)
    run(steps, toy)
    with pytest.warns(UserWarning, match='step runs .*not permitted'):
        run(steps, toy)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        run(steps, toy)


def test_no_more_memory_than_allowed(recorders, toy, monkeypatch):
    monkeypatch.setattr(PretendRecorder, 'limit', 2)
    steps = GraphedSteps(after=1)
    for rows in (1, 2, 3, 1, 2, 3):
        run(steps, toy, (rows, 4))
    # three rows were one too many; the others are recorded again
    assert [r.recorded for r in recorders] == [3, 2]


def test_steps_go_with_their_model(recorders):
    toy = Toy().eval()
    run(graphed_steps(toy), toy)
    assert graphed_steps(toy) is graphed_steps(toy)
    before = len(cuda_graphs._steps)
    del toy
    gc.collect()
    assert len(cuda_graphs._steps) == before - 1


def test_a_record_holds_what_is_kept():
    @kept(maxsize=1)
    def numbers(n):
        return torch.arange(n)

    with hold_what_is_kept() as held:
        first = numbers(3)
        assert numbers(3) is first
        numbers(4)
    assert numbers(3) is not first
    assert [len(value) for value in held] == [3, 3, 4]


# -- the whole model ----------------------------------------------------------

SIZE = (32, 48)


def predict(model, frames, texts, **settings):
    # a copy would be another model, for which nothing is recorded yet
    model.predictor = Predictor(**settings)
    sample = TrackDataSample(
        metainfo=dict(expressions=[dict(text=text) for text in texts])
    )
    sample.video_data_samples = [
        DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
        for _ in frames
    ]
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found = model.test_step({'inputs': [clip], 'data_samples': [sample]})
    return [
        (
            frame.pred_track_instances.scores,
            frame.pred_track_instances.bboxes,
            frame.pred_track_instances.masks.logits,
        )
        for video in found
        for frame in video
    ]


def check_videos(model, atol=1e-5, **settings):
    """Predict videos with and without graphs; the masks must be equal."""
    rng = np.random.default_rng(0)
    for length, texts in [
        (15, ['the dog']),
        (8, ['a dog', 'the red circle on the left']),
        (17, ['the cat']),
        (8, ['a cat', 'the blue circle on the right']),
    ]:
        video = rng.integers(0, 256, (length, *SIZE, 3), np.uint8)
        with torch.inference_mode():
            expected = predict(model, video, texts, **settings)
            found = predict(model, video, texts, cuda_graphs=True, **settings)
        for one, other in zip(found, expected, strict=True):
            for part, whole in zip(one, other, strict=True):
                torch.testing.assert_close(part, whole, rtol=0, atol=atol)


def check_recorded(model):
    """What :func:`check_videos` recorded must be there at its end."""
    entries = graphed_steps(model)._entries
    recorded = {key[0] for key, entry in entries.items() if entry.recorded}
    assert recorded >= {'extract_feat', 'predict_sequences'}


@pytest.mark.parametrize(
    ('backbone', 'link'),
    [('resnet', 'overlap'), ('swin', 'none'), ('video-swin', 'none')],
)
def test_predictions_are_the_same(recorders, backbone, link):
    model = build_model(backbone=backbone).eval()
    check_videos(model, window=3, link=link, batch_frames=64)
    (recorder,) = recorders
    assert recorder.replayed > 8
    check_recorded(model)


# -- on a GPU -----------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('backbone', ['resnet', 'swin', 'video-swin'])
def test_predictions_of_a_gpu(backbone, precision):
    model = build_model(backbone=backbone).cuda().eval()
    with warnings.catch_warnings():
        warnings.filterwarnings('error', '.*without a CUDA graph')
        atol = 1e-4 if precision == 'fp32' else 2e-2
        check_videos(model, atol, window=3, precision=precision)
    check_recorded(model)


@pytest.mark.cuda
def test_a_step_that_a_gpu_cannot_record():
    toy = Toy().cuda().eval()
    toy.step = lambda x: toy.fc(x) * x.max().item()
    steps = GraphedSteps(after=2)
    for number in range(4):
        x = torch.rand(2, 4, device='cuda')
        with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            out = steps(toy, 'step', x)
        assert torch.equal(out, toy.fc(x) * x.max())
        assert bool(caught) == (number == 1)
    # and other steps can still be recorded
    del toy.step
    for _ in range(3):
        x = torch.rand(3, 4, device='cuda')
        with torch.no_grad():
            out = steps(toy, 'step', x)[0]['out']
            assert torch.equal(out, toy.fc(x))
    assert [bool(e.recorded) for e in steps._entries.values()] == [False, True]
