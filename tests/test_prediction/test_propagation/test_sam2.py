# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""SAM 2 frame by frame is SAM 2 on the whole video."""

import sys

import numpy as np
import pytest
import torch
import transformers

from referformer.errors import (
    CheckpointError,
    ConfigError,
    MissingCheckpointError,
    MissingPackageError,
)
from referformer.prediction.propagation import SAM2Propagator

from .helpers import SIZE, box, run

SIDE = 64


def tiny_config():
    """SAM 2 with every part it has, as small as they get."""
    hiera = dict(
        model_type='sam2_hiera_det_model',
        hidden_size=12,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[12, 24, 48, 96],
        num_attention_heads_per_stage=[1, 1, 2, 4],
        window_size_per_stage=[4, 4, 2, 2],
        global_attention_blocks=[4],
        mlp_ratio=2.0,
    )
    vision = dict(
        model_type='sam2_vision_model',
        backbone_config=hiera,
        backbone_channel_list=[96, 48, 24, 12],
        backbone_feature_sizes=[[SIDE // s, SIDE // s] for s in (4, 8, 16)],
        fpn_hidden_size=128,
    )
    return dict(
        vision_config=vision,
        image_size=SIDE,
        prompt_encoder_config=dict(
            hidden_size=128,
            image_size=SIDE,
            patch_size=16,
            mask_input_channels=8,
        ),
        mask_decoder_config=dict(
            hidden_size=128,
            mlp_dim=64,
            num_attention_heads=2,
            iou_head_hidden_dim=32,
        ),
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64,
        memory_fuser_num_layers=1,
    )


@pytest.fixture(scope='module')
def propagator():
    """Random weights with which the object is always there, and moves."""
    torch.manual_seed(0)
    propagator = SAM2Propagator(hf_config=tiny_config())
    propagator.prepare(torch.device('cpu'))
    model = propagator.model
    with torch.no_grad():
        for weights in model.parameters():
            # zeros would hide a part; those of transformers are too small
            weights.add_(0.1 * torch.randn_like(weights))
        model.mask_decoder.pred_obj_score_head.proj_out.bias += 4
    return propagator


def noise(length):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (length, *SIZE, 3), np.uint8)


def whole_run(propagator, frames, masks, key):
    """Logits of transformers' own run over a whole video, by frame."""
    model = propagator.model
    encoded = [propagator.encode(frame) for frame in frames]
    session = propagator.new_session(SIZE)
    pixels = [frame.pixels for frame in encoded]
    session.processed_frames = dict(enumerate(pixels))
    for n, mask in enumerate(masks):
        seed = torch.from_numpy(mask)[None, None].float()
        seed = torch.nn.functional.interpolate(
            seed, (SIDE, SIDE), mode='bilinear', antialias=True
        )
        index = session.obj_id_to_idx(n)
        session.add_mask_inputs(index, key, (seed >= 0.5).float())
    session.obj_with_new_inputs = list(range(len(masks)))
    model(session, frame_idx=key)
    logits = {}
    for reverse in (False, True):
        for output in model.propagate_in_video_iterator(
            session, start_frame_idx=key, reverse=reverse
        ):
            logits[output.frame_idx] = output.pred_masks.clone()
    return logits


@pytest.mark.parametrize(('length', 'key'), [(36, 18), (5, 0), (5, 4)])
def test_the_same_as_its_own_run_over_the_whole_video(propagator, length, key):
    frames = noise(length)
    masks = np.stack([box(5), box(25, 14)])
    expected = whole_run(propagator, frames, masks, key)
    logits, most = {}, 0
    tracker = propagator.start(
        propagator.encode(frames[key]), masks, key, length
    )
    for numbers in (range(key + 1, length), range(key - 1, -1, -1)):
        for t in numbers:
            logits[t] = tracker._run(propagator.encode(frames[t]), t)
            kept = tracker.session.output_dict_per_obj[0]
            most = max(most, len(kept['non_cond_frame_outputs']))
        tracker = propagator.start(None, None, key, length, tracker)
    for t in logits:
        assert (logits[t] == expected[t]).all()
    assert sorted([*logits, key]) == list(range(length))
    # there is something to compare: masks that differ from frame to frame
    stacked = torch.stack(list(logits.values()))
    assert (stacked > -1000).all()
    assert (stacked > 0).any()
    assert (stacked.diff(dim=0).abs().amax((1, 2, 3, 4)) > 1e-3).all()
    assert most <= 31


def test_objects_with_different_key_frames_share_the_features(propagator):
    frames = noise(6)
    own = np.stack([np.stack([box(5), box(25, 14)])] * 6)
    scores = np.full((6, 2), 0.3)
    scores[1, 0] = scores[4, 1] = 0.9
    seen = []
    handle = propagator.model.vision_encoder.register_forward_hook(
        lambda *_: seen.append(1)
    )
    together = run(propagator, frames, own, scores)
    handle.remove()
    assert len(seen) == 5 + 4  # frames 1 to 5 forward, 3 to 0 backward
    for e in range(2):
        alone = run(
            propagator, frames, own[:, e : e + 1], scores[:, e : e + 1]
        )
        np.testing.assert_array_equal(together[:, e], alone[:, 0])
    # a key frame keeps its own mask
    np.testing.assert_array_equal(together[1, 0], own[1, 0])


def test_weights_from_a_folder(propagator, tmp_path):
    propagator.model.save_pretrained(tmp_path / 'sam')
    loaded = SAM2Propagator('sam', local_root=str(tmp_path))
    frames, own = noise(3), np.stack([box(5)[None]] * 3)
    scores = np.array([[0.9], [0.5], [0.5]])
    np.testing.assert_array_equal(
        run(loaded, frames, own, scores), run(propagator, frames, own, scores)
    )


def test_weights_of_another_model(propagator, tmp_path):
    model = propagator.model
    weights = model.state_dict()
    weights.pop('no_object_pointer')
    model.save_pretrained(tmp_path / 'sam', state_dict=weights)
    with pytest.raises(CheckpointError, match='no_object_pointer'):
        SAM2Propagator(str(tmp_path / 'sam')).prepare(torch.device('cpu'))


def test_weights_that_are_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    path = tmp_path / 'nothing'
    with pytest.raises(MissingCheckpointError, match='download') as caught:
        SAM2Propagator(str(path)).prepare(torch.device('cpu'))
    assert str(path) in str(caught.value)


def test_a_class_that_transformers_lacks(monkeypatch):
    class Old:
        __version__ = '4.56.0'

    monkeypatch.setitem(sys.modules, 'transformers', Old())
    propagator = SAM2Propagator('any', tracker='EdgeTamVideo')
    with pytest.raises(MissingPackageError, match=r'4\.56\.0.*EdgeTamVideo'):
        propagator.prepare(torch.device('cpu'))


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        dict(pretrained='a', hf_config={}),
        dict(pretrained='a', tracker='x'),
    ],
)
def test_impossible_settings(arguments):
    with pytest.raises(ConfigError):
        SAM2Propagator(**arguments)


@pytest.mark.parametrize(
    'name', ['Sam2Video', 'EdgeTamVideo', 'Sam3TrackerVideo']
)
def test_the_trackers_have_one_interface(name):
    if not hasattr(transformers, f'{name}Model'):
        pytest.skip(f'transformers {transformers.__version__} has no {name}')
    for suffix in ('Model', 'Config', 'InferenceSession'):
        assert hasattr(transformers, name + suffix)
    model = getattr(transformers, f'{name}Model')
    assert callable(model.propagate_in_video_iterator)
