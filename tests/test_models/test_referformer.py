# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Properties of the whole model."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from pycocotools import mask as mask_utils
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from referformer.errors import ConfigError, DataError
from referformer.prediction import Predictor
from referformer.registry import MODELS
from referformer.structures import split_expressions
from referformer.testing import DEMO_TEXTS, demo_refer_inputs, tiny_model_cfg

from .helpers import build_model, randomise

BACKBONES = ('resnet', 'swin', 'video-swin')
CLOSE = dict(rtol=1e-4, atol=1e-4)


def prepare(model, data, training=True):
    return model.data_preprocessor(data, training)


def losses_of(model, data):
    return model(**prepare(model, data), mode='loss')


@MODELS.register_module(force=True)
class PatchBackbone(BaseModule):
    """Convolutions that never look over the border of a patch."""

    def __init__(self):
        super().__init__()
        channels, strides = (3, 8, 16, 32, 64), (4, 2, 2, 2)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], s, s, bias=False)
            for i, s in enumerate(strides)
        )

    def forward(self, x):
        outs = []
        for conv in self.convs:
            x = conv(x).tanh()
            outs.append(x)
        return tuple(outs)


# -- batches and padding -----------------------------------------------------


def test_padding_changes_no_score_and_no_box():
    """Where backbone and neck keep to their pixels, nothing else leaks.

    Published backbones, group norms and the reduced attention of the pixel
    decoder do read over the border; that is part of the design.
    """
    cfg = tiny_model_cfg()
    cfg['backbone'] = dict(type='PatchBackbone')
    cfg['neck']['norm_cfg'] = None
    model = MODELS.build(cfg).double().eval()
    randomise(model)
    sizes = [(128, 128), (64, 64)]
    clips = torch.zeros(2, 2, 3, 128, 128, dtype=torch.float64)
    for n, (height, width) in enumerate(sizes):
        clips[n, ..., :height, :width] = torch.randn(2, 3, height, width)
    text = model.text_encoder(model.text_encoder.tokenize(DEMO_TEXTS[:2]))
    decoded, _ = model.decode(model.extract_feat(clips, sizes), text)
    for n, (height, width) in enumerate(sizes):
        visual = model.extract_feat(clips[n : n + 1, ..., :height, :width])
        assert not visual.padded
        alone, _ = model.decode(visual, text.split(1)[n])
        frames = slice(2 * n, 2 * n + 2)
        torch.testing.assert_close(
            decoded.hidden[:, frames], alone.hidden, **CLOSE
        )
        torch.testing.assert_close(
            decoded.references[:, frames], alone.references, **CLOSE
        )


@pytest.mark.parametrize('backbone', BACKBONES)
def test_clips_of_a_batch_are_independent(backbone):
    model = build_model(backbone=backbone).eval()
    data = demo_refer_inputs(sizes=[(64, 96), (50, 70)])
    batch = prepare(model, data)
    with torch.no_grad():
        together = model(**batch, mode='tensor')
        for n in range(2):
            alone = model(
                batch['inputs'][n : n + 1],
                batch['data_samples'][n : n + 1],
                mode='tensor',
            )
            for ours, expected in zip(together, alone, strict=True):
                torch.testing.assert_close(
                    ours[:, n : n + 1], expected, **CLOSE
                )


@pytest.mark.parametrize('backbone', BACKBONES)
def test_batch_of_two_is_two_batches_of_one(backbone):
    model = build_model(backbone=backbone)
    data = demo_refer_inputs(num_frames=3, absent=[(1, 0)])
    together = losses_of(model, data)
    sums = dict.fromkeys(together, 0.0)
    for n, visible in enumerate([3, 2]):
        data = demo_refer_inputs(num_frames=3, absent=[(1, 0)])
        one = {key: value[n : n + 1] for key, value in data.items()}
        for name, loss in losses_of(model, one).items():
            sums[name] += loss * visible
    for name, loss in together.items():
        torch.testing.assert_close(loss, sums[name] / 5, **CLOSE)


@pytest.mark.parametrize('backbone', ['resnet', 'swin'])
def test_order_of_frames_does_not_matter_to_2d_backbones(backbone):
    model = build_model(backbone=backbone).double()

    def losses(order):
        data = demo_refer_inputs(num_frames=3, absent=[(0, 1)])
        for n, sample in enumerate(data['data_samples']):
            data['inputs'][n] = data['inputs'][n][order]
            frames = sample.video_data_samples
            sample.video_data_samples = [frames[t] for t in order]
        batch = prepare(model, data)
        return model(
            batch['inputs'].double(), batch['data_samples'], mode='loss'
        )

    before, after = losses([0, 1, 2]), losses([2, 0, 1])
    for name in before:
        torch.testing.assert_close(
            after[name], before[name], rtol=1e-5, atol=1e-5
        )


# -- training ----------------------------------------------------------------


@pytest.mark.parametrize('frozen_text', [False, True])
@pytest.mark.parametrize('backbone', BACKBONES)
def test_all_parameters_get_gradients(backbone, frozen_text):
    model = build_model(backbone=backbone, frozen_text=frozen_text)
    sum(losses_of(model, demo_refer_inputs()).values()).backward()
    idle = set()
    for name, param in model.named_parameters():
        if param.grad is None:
            assert not param.requires_grad, name
            idle.add(name)
        else:
            assert param.grad.isfinite().all(), name
            assert param.grad.abs().sum() > 0, name
    expected = {
        name
        for name, _ in model.named_parameters()
        if (frozen_text and name.startswith('text_encoder.language_model.'))
        or (
            backbone == 'resnet'
            and name.startswith(('backbone.conv1.', 'backbone.layer1.'))
        )
        or (
            backbone == 'resnet'
            and ('.bn' in name or '.downsample.1.' in name)
        )
    }
    assert idle == expected


def test_mean_pooling_leaves_no_parameter_without_gradient():
    cfg = tiny_model_cfg()
    cfg['text_encoder']['pooling'] = 'mean'
    model = MODELS.build(cfg)
    sum(losses_of(model, demo_refer_inputs()).values()).backward()
    idle = [
        name
        for name, param in model.named_parameters()
        if param.requires_grad and param.grad is None
    ]
    assert not idle


@pytest.mark.parametrize('backbone', BACKBONES)
def test_a_few_steps_lower_the_loss(backbone):
    model = MODELS.build(tiny_model_cfg(backbone))
    model.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(6):
        loss = sum(losses_of(model, demo_refer_inputs(1)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] * 0.9


@pytest.mark.parametrize('backbone', BACKBONES)
def test_mixed_precision(backbone):
    model = build_model(backbone=backbone)
    exact = losses_of(model, demo_refer_inputs())
    with torch.autocast('cpu', torch.bfloat16):
        mixed = losses_of(model, demo_refer_inputs())
    for name, loss in mixed.items():
        assert loss.dtype == torch.float32, name
        torch.testing.assert_close(loss, exact[name], rtol=0.3, atol=0.3)
    sum(mixed.values()).backward()


def test_many_classes():
    model = build_model(num_classes=65)
    losses = losses_of(model, demo_refer_inputs(num_classes=65))
    assert all(loss.isfinite() for loss in losses.values())
    model.eval()
    data = prepare(model, demo_refer_inputs(num_classes=65), training=False)
    with torch.no_grad():
        preds = model(**data, mode='tensor')
        samples = model(**data, mode='predict')
    assert preds.logits.shape[-1] == 65
    for n, sample in enumerate(samples):
        best = preds.logits[-1, n].sigmoid().mean(0).flatten().argmax()
        instances = sample[0].pred_track_instances
        assert instances.labels.tolist() == [int(best) % 65]


def test_one_word_per_expression():
    model = build_model()
    data = demo_refer_inputs(texts=['dog', 'the'])
    assert all(x.isfinite() for x in losses_of(model, data).values())


# -- prediction --------------------------------------------------------------


@pytest.mark.parametrize('topk', [1, 3])
@pytest.mark.parametrize('backbone', BACKBONES)
def test_prediction_equals_the_full_forward(backbone, topk):
    model = build_model(backbone=backbone, topk=topk).eval()
    data = prepare(model, demo_refer_inputs(ori_scale=1.5), training=False)
    calls = []
    model.head.mask_head.register_forward_hook(
        lambda module, args, out: calls.append(out.shape[1])
    )
    with torch.no_grad():
        preds = model(**data, mode='tensor')
        calls.clear()
        samples = model(**data, mode='predict')
    assert calls == [topk]
    for n, sample in enumerate(samples):
        scores = preds.logits[-1, n].sigmoid().mean(0)[:, 0]
        query = scores.topk(topk).indices
        for t, frame in enumerate(sample.video_data_samples):
            found = frame.pred_track_instances
            torch.testing.assert_close(found.scores, scores[query])
            logits = F.interpolate(
                preds.masks[-1, n, t, query][None], (96, 144), mode='bilinear'
            )[0]
            assert found.masks.shape == (topk, 96, 144)
            assert found.masks.dtype == torch.bool
            assert (found.masks == (logits > 0)).float().mean() > 0.999
            cx, cy, w, h = preds.boxes[-1, n, t, query].unbind(-1)
            expected = torch.stack(
                [
                    (cx - w / 2) * 144,
                    (cy - h / 2) * 96,
                    (cx + w / 2) * 144,
                    (cy + h / 2) * 96,
                ],
                -1,
            )
            torch.testing.assert_close(found.bboxes, expected, **CLOSE)


def test_mask_threshold():
    cfg = tiny_model_cfg()
    cfg['predictor'] = dict(mask_thr=0.6)
    model = MODELS.build(cfg).eval()
    randomise(model)
    (sample,) = model.test_step(demo_refer_inputs(1, ori_scale=1.0))
    preds = model(**prepare(model, demo_refer_inputs(1)), mode='tensor')
    query = preds.logits[-1, 0].sigmoid().mean(0)[:, 0].argmax()
    for t, frame in enumerate(sample.video_data_samples):
        logits = preds.masks[-1, 0, t, query][None, None]
        logits = F.interpolate(logits, (64, 96), mode='bilinear')[0, 0]
        expected = logits.sigmoid() > 0.6
        assert expected.any()
        found = frame.pred_track_instances.masks[0]
        assert (found == expected).float().mean() > 0.999
    cfg['predictor'] = dict(mask_thr=1.0)
    with pytest.raises(ConfigError, match=r'in \(0, 1\), got 1.0'):
        MODELS.build(cfg)


def test_old_places_of_settings():
    """`model.window` and `model.mask_thr` of older configs still work."""
    cfg = tiny_model_cfg()
    cfg.update(window=4, mask_thr=0.6)
    with (
        pytest.warns(FutureWarning, match=r'model\.predictor\.window'),
        pytest.warns(FutureWarning, match=r'model\.predictor\.mask_thr'),
    ):
        assert MODELS.build(cfg).predictor == Predictor(4, mask_thr=0.6)
    cfg.update(predictor=dict(window=5))
    with pytest.warns(FutureWarning), pytest.warns(match='mask_thr'):
        assert MODELS.build(cfg).predictor.window == 5


def test_without_annotations():
    model = build_model().eval()
    data = demo_refer_inputs(with_annotations=False, size=(45, 70))
    with torch.no_grad():
        samples = model.test_step(data)
    assert samples[1][1].pred_track_instances.masks.shape == (1, 90, 140)


def test_one_frame():
    model = build_model().eval()
    with torch.no_grad():
        samples = model.test_step(demo_refer_inputs(1, num_frames=1))
    assert len(samples[0]) == 1


# -- one annotated frame (A2D-, JHMDB-Sentences) -----------------------------


def annotated_inputs():
    return demo_refer_inputs(num_frames=3, annotated_positions=[1, 2])


@pytest.mark.parametrize('backbone', BACKBONES)
def test_annotated_frame(backbone):
    model = build_model(backbone=backbone, topk=3)
    shapes = []
    model.backbone.register_forward_hook(
        lambda module, args, out: shapes.append(args[0].shape)
    )
    losses = losses_of(model, annotated_inputs())
    assert all(loss.isfinite() for loss in losses.values())
    # a video backbone looks at the clip, an image backbone only at the frame
    assert shapes == [
        (2, 3, 3, 64, 96) if 'video' in backbone else (2, 3, 64, 96)
    ]
    model.eval()
    with torch.no_grad():
        preds = model(**prepare(model, annotated_inputs()), mode='tensor')
        samples = model.test_step(annotated_inputs())
    assert preds.logits.shape[:3] == (2, 2, 1)
    for sample, annotated in zip(samples, (1, 2), strict=True):
        for t, frame in enumerate(sample.video_data_samples):
            assert ('pred_track_instances' in frame) == (t == annotated)


def predict_annotated(model, change):
    data = prepare(model, annotated_inputs())
    clips = data['inputs']
    clips[0, change] += 1.0
    with torch.no_grad():
        return model(**data, mode='tensor').logits[-1, 0]


def test_other_frames_matter_to_video_backbones_only():
    image = build_model(backbone='resnet').eval()
    torch.testing.assert_close(
        predict_annotated(image, 0), predict_annotated(image, 2)
    )
    video = build_model(backbone='video-swin').eval()
    assert not torch.allclose(
        predict_annotated(video, 0), predict_annotated(video, 2), atol=1e-5
    )


@pytest.mark.parametrize('backbone', BACKBONES)
def test_annotated_frame_is_taken_from_its_own_clip(backbone):
    model = build_model(backbone=backbone).eval()
    clips = prepare(model, annotated_inputs())['inputs']
    one = model.extract_feat(clips, frame_indices=[1, 2])
    every = model.extract_feat(clips)
    frames = [1, 3 + 2]  # of 2 clips of 3 frames
    torch.testing.assert_close(one.fine.map, every.fine.map[frames], **CLOSE)
    for ours, expected in zip(one.levels, every.levels, strict=True):
        torch.testing.assert_close(ours.map, expected.map[frames], **CLOSE)
        assert torch.equal(ours.pos, expected.pos[frames])


def test_annotated_frame_equals_a_clip_of_that_frame():
    model = build_model().eval()
    data = prepare(model, annotated_inputs())
    visual = model.extract_feat(data['inputs'], frame_indices=[1, 2])
    alone = model.extract_feat(data['inputs'][[0, 1], [1, 2]][:, None])
    for ours, expected in zip(visual.levels, alone.levels, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize('backbone', BACKBONES)
def test_frames_shared_in_training_give_the_same_losses(backbone):
    model = build_model(backbone=backbone)
    data = prepare(model, annotated_inputs())
    # two expressions, and two frames, of the first clip; one of the second
    order = [0, 0, 1]
    data = {
        'inputs': data['inputs'][order],
        'data_samples': [
            copy.deepcopy(data['data_samples'][n]) for n in order
        ],
    }
    data['data_samples'][1].set_metainfo(dict(text='the other one'))
    expected = model(**data, mode='loss')
    clips = []
    model.backbone.register_forward_hook(
        lambda module, args, out: clips.append(len(args[0]))
    )
    model.share_frames = True
    found = model(**data, mode='loss')
    assert clips == [2]
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-3, atol=1e-4)


# -- cost --------------------------------------------------------------------


def flops_of(function, *args):
    counter = FlopCounterMode(display=False)
    with counter:
        result = function(*args)
    return result, counter.get_total_flops()


def test_frames_are_seen_once_for_all_expressions():
    # instead of no_grad, under which the counter stumbles over parameters
    model = build_model().eval().requires_grad_(False)
    batch = prepare(model, demo_refer_inputs(1, num_frames=2))
    seen = []
    model.backbone.register_forward_hook(lambda *args: seen.append('backbone'))
    model.neck.register_forward_hook(lambda *args: seen.append('neck'))
    visual, of_frames = flops_of(model.extract_feat, batch['inputs'])
    answers = []
    for i, expression in enumerate(DEMO_TEXTS):
        tokens = model.text_encoder.tokenize([expression])
        text, of_text = flops_of(model.text_encoder, tokens)
        (decoded, mask_feats), of_decoder = flops_of(
            model.decode, visual, text
        )
        preds, of_head = flops_of(
            model.head, decoded, mask_feats, visual.sizes
        )
        assert seen == ['backbone', 'neck']
        answers.append((preds, of_text + of_decoder + of_head))
        assert of_frames > 0
        assert i == 0 or answers[i][1] != answers[0][1]  # other lengths
    # asked one by one from the start, everything is the same, and the whole
    # cost is that of the frames plus that of the expression
    for (preds, cost), expression in zip(answers, DEMO_TEXTS, strict=True):
        data = demo_refer_inputs(1, num_frames=2, texts=[expression])
        expected, total = flops_of(
            lambda data: model(**prepare(model, data), mode='tensor'), data
        )
        torch.testing.assert_close(preds.masks, expected.masks, **CLOSE)
        assert total == of_frames + cost


# -- videos with all their expressions ---------------------------------------

TEXTS = ('the small dog', 'a cat to the right of the big red ball', 'it')


def videos(texts=TEXTS, num_frames=5, **kwargs):
    """Two videos of several expressions each, in one padded batch."""
    data = demo_refer_inputs(num_frames=num_frames, **kwargs)
    for n, sample in enumerate(data['data_samples']):
        del sample.text
        expressions = [
            dict(exp_id=f'{n}{e}', text=text, obj_id=str(e), label=0)
            for e, text in enumerate(texts)
        ]
        sample.set_metainfo(dict(expressions=expressions))
    return data


def one_by_one(model, data):
    """Each expression of each video as a clip of its own."""
    outputs = []
    for frames, sample in zip(
        data['inputs'], data['data_samples'], strict=True
    ):
        for clip in split_expressions(sample):
            clip = dict(inputs=[frames], data_samples=[clip])
            outputs += model.test_step(clip)
    return outputs


def assert_equal_outputs(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.text == other.text
        assert one.exp_id == other.exp_id
        assert 'expressions' not in one
        for a, b in zip(
            one.video_data_samples, other.video_data_samples, strict=True
        ):
            a, b = a.pred_track_instances, b.pred_track_instances
            torch.testing.assert_close(a.scores, b.scores)
            torch.testing.assert_close(a.bboxes, b.bboxes, rtol=0, atol=1e-2)
            masks = a.masks.to_tensor(), b.masks
            assert masks[0].dtype == torch.bool
            assert (masks[0] != masks[1]).float().mean() < 1e-3


@pytest.mark.parametrize('backbone', ['resnet', 'video-swin'])
@pytest.mark.parametrize('window', [None, 2])
def test_expressions_of_a_video_share_its_features(backbone, window):
    model = build_model(backbone=backbone).eval()
    model.predictor = Predictor(window)
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        found = model.test_step(videos())
        num_windows = 1 if window is None else 3
        assert len(calls) == 2 * num_windows  # two videos
        expected = one_by_one(model, videos())
    assert len(calls) == 2 * num_windows * (1 + len(TEXTS))
    assert_equal_outputs(found, expected)


def test_a_window_sees_its_own_frames():
    """Windows of three frames predict what clips of these frames do."""
    model = build_model().eval()
    data = demo_refer_inputs(num_frames=5, batch_size=1)
    model.predictor = Predictor(window=3)
    with torch.no_grad():
        (whole,) = model.test_step(data)
        model.predictor = Predictor()
        for part in (slice(0, 3), slice(3, 5)):
            clip = demo_refer_inputs(num_frames=5, batch_size=1)
            sample = clip['data_samples'][0]
            sample.video_data_samples = sample.video_data_samples[part]
            clip['inputs'] = [clip['inputs'][0][part]]
            (alone,) = model.test_step(clip)
            for a, b in zip(
                whole.video_data_samples[part],
                alone.video_data_samples,
                strict=True,
            ):
                a, b = a.pred_track_instances, b.pred_track_instances
                torch.testing.assert_close(a.scores, b.scores)
                assert torch.equal(a.masks, b.masks)


def test_split_expressions_hands_out_the_truth():
    (sample,) = videos(texts=TEXTS[:2], batch_size=1)['data_samples']
    shape = sample[0].ori_shape
    mask = np.zeros(shape, np.uint8, order='F')
    mask[2:5, 3:9] = 1
    for frame in sample.video_data_samples:
        rles = [mask_utils.encode(mask), None]
        frame.set_metainfo(dict(gt_rles=rles))
    known, unknown = split_expressions(sample)
    assert (known.obj_id, unknown.obj_id) == ('0', '1')
    truth = known[0].gt_instances.masks.to_ndarray()
    np.testing.assert_array_equal(truth[0], mask.astype(bool))
    assert 'gt_instances' not in unknown[0]
    assert 'gt_rles' not in known[0]


@pytest.mark.filterwarnings('ignore:model.window is now')
@pytest.mark.parametrize(
    ('key', 'value'), [('window', 0), ('mask_resize', 'bicubic')]
)
def test_impossible_settings(key, value):
    cfg = tiny_model_cfg()
    cfg[key] = value
    with pytest.raises(ConfigError, match=f'{key} must be'):
        MODELS.build(cfg)


def test_the_channels_of_another_backbone():
    cfg = tiny_model_cfg()
    cfg['backbone']['base_channels'] = 16
    with pytest.raises(
        ConfigError,
        match=r'gives \(16, 32, 64, 128\) channels; set '
        r'model\.neck\.in_channels=\(32, 64, 128\) and '
        r'model\.pixel_decoder\.in_channels=\(16, 32, 32, 32\)\.',
    ):
        MODELS.build(cfg).eval().extract_feat(torch.zeros(1, 1, 3, 32, 32))


def test_an_expression_that_is_too_long_is_named():
    model = build_model()
    data = demo_refer_inputs(texts=['the dog', 'dog ' * 99])
    with pytest.raises(
        DataError, match=r"^video demo_1, expression 0: .*'dog dog"
    ):
        model(**model.data_preprocessor(data, True), mode='loss')
