# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import math
from itertools import product

import pytest
import torch

from referformer.models import VideoSwinTransformer
from referformer.models.backbones.video_swin import (
    PatchMerging3D,
    SwinBlock3D,
)
from referformer.models.backbones.windows import (
    join_windows,
    plan_windows,
    split_windows,
)

from ..helpers import randomise

WINDOW = (2, 4, 4)
ARCH = {'embed_dims': 8, 'depths': (2, 2, 1), 'num_heads': (1, 2, 2)}


def build(**kwargs):
    args = dict(arch=ARCH, window_size=WINDOW, drop_path_rate=0.0)
    model = VideoSwinTransformer(**{**args, **kwargs})
    randomise(model)
    return model


def naive_attention(attn, x, shifted):
    """Every pair of tokens on its own, from the definition of windows."""
    size = x.shape[1:4]
    window = [min(a, b) for a, b in zip(size, WINDOW, strict=True)]
    shift = [
        b // 2 if shifted and a > b else 0
        for a, b in zip(size, WINDOW, strict=True)
    ]
    full = [math.ceil(a / b) * b for a, b in zip(size, window, strict=True)]
    # tokens outside the clip are zeros that take part, as published
    padded = torch.zeros(*full, x.shape[-1], dtype=x.dtype)
    padded[: size[0], : size[1], : size[2]] = x[0]
    places = list(product(*map(range, full)))
    groups, slots = [], []
    for place in places:
        group, slot = [], 0
        for axis in range(3):
            s = (place[axis] - shift[axis]) % full[axis]
            wrapped = s >= full[axis] - shift[axis]
            group += [s // window[axis], wrapped]
            slot = slot * window[axis] + s % window[axis]
        groups.append(group)
        # where the table believes this token to be
        slots.append(
            (
                slot // (WINDOW[1] * WINDOW[2]),
                slot // WINDOW[2] % WINDOW[1],
                slot % WINDOW[2],
            )
        )
    heads, dim = attn.num_heads, x.shape[-1] // attn.num_heads
    tokens = torch.stack([padded[p] for p in places])
    q, k, v = attn.qkv(tokens).view(-1, 3, heads, dim).unbind(1)
    spans = [2 * side - 1 for side in WINDOW]
    out = torch.zeros(len(places), heads, dim, dtype=x.dtype)
    for i in range(len(places)):
        mates = [j for j in range(len(places)) if groups[j] == groups[i]]
        rows = []
        for j in mates:
            row = 0
            for axis in range(3):
                offset = slots[i][axis] - slots[j][axis]
                row = row * spans[axis] + offset + WINDOW[axis] - 1
            rows.append(row)
        score = torch.einsum('hd,jhd->jh', q[i], k[mates]) / dim**0.5
        score = score + attn.relative_position_bias_table[rows]
        out[i] = torch.einsum('jh,jhd->hd', score.softmax(0), v[mates])
    out = attn.proj(out.flatten(1)).view(*full, -1)
    return out[None, : size[0], : size[1], : size[2]]


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize(
    'size',
    [
        (2, 4, 4),  # one window
        (1, 3, 3),  # smaller than the window: the table's corner is read
        (1, 4, 9),  # a still image: only some axes shift
        (5, 6, 7),  # longer than the window, padded on every axis
    ],
)
def test_window_attention_equals_the_definition(size, shifted):
    block = SwinBlock3D(8, 2, WINDOW, 2.0, 0.0, 0.0, 0.0)
    randomise(block)
    x = torch.randn(1, *size, 8)
    plan = plan_windows(size, WINDOW, shifted, x.device)
    torch.testing.assert_close(
        block._window_attention(x, plan),
        naive_attention(block.attn, x, shifted),
        rtol=1e-4,
        atol=1e-5,
    )


def test_clips_do_not_mix_in_shifted_windows():
    block = SwinBlock3D(8, 2, WINDOW, 2.0, 0.0, 0.0, 0.0)
    randomise(block)
    x = torch.randn(2, 5, 6, 7, 8)
    plan = plan_windows((5, 6, 7), WINDOW, True, x.device)
    assert plan.counts == [2, 2, 2, 2, 1, 1, 1, 1]
    both = block(x, plan)
    for n in range(2):
        alone = block(x[n : n + 1], plan)
        torch.testing.assert_close(both[n : n + 1], alone)


def test_the_bias_is_never_repeated():
    """Masks and biases belong to kinds of windows, whose number is fixed."""
    block = SwinBlock3D(8, 2, WINDOW, 2.0, 0.0, 0.0, 0.0)
    numbers = {}
    for size in ((4, 8, 8), (12, 40, 40)):
        plan = plan_windows(size, WINDOW, True, torch.device('cpu'))
        biases = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                'torch.nn.functional.scaled_dot_product_attention',
                lambda q, k, v, attn_mask, dropout_p, out=biases: (
                    out.append(attn_mask.numel()) or v
                ),
            )
            block(torch.randn(1, *size, 8), plan)
        numbers[size] = sum(biases)
    assert len(set(numbers.values())) == 1
    assert numbers[size] == 8 * 2 * 32 * 32


def test_windows_can_be_undone():
    x = torch.randn(2, 4, 8, 12, 3)
    windows = split_windows(x, WINDOW)
    assert windows.shape == (2, 2 * 2 * 3, 32, 3)
    assert torch.equal(windows[0, 0].view(2, 4, 4, 3), x[0, :2, :4, :4])
    assert torch.equal(join_windows(windows, WINDOW, x.shape), x)


def test_patches_are_merged_column_by_column():
    merging = PatchMerging3D(1)
    seen = []
    merging.norm.register_forward_hook(
        lambda module, args, out: seen.append(args[0])
    )
    merging(torch.arange(6.0).view(1, 1, 2, 3, 1))  # rows 0 1 2 / 3 4 5
    assert seen[0][0, 0, 0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        ((64, 96), [(16, 24), (8, 12), (4, 6)]),
        ((45, 70), [(12, 18), (6, 9), (3, 5)]),
        ((5, 9), [(2, 3), (1, 2), (1, 1)]),
    ],
)
@pytest.mark.parametrize('num_frames', [1, 2, 5])
def test_output_sizes(num_frames, size, expected):
    maps = build()(torch.randn(2, num_frames, 3, *size))
    assert [tuple(m.shape) for m in maps] == [
        (2 * num_frames, 8 * 2**i, *hw) for i, hw in enumerate(expected)
    ]


def test_clips_are_independent_but_frames_are_not():
    model = build()
    clips = torch.randn(2, 2, 3, 32, 32)
    changed = clips.clone()
    changed[0, 1] += 1.0
    before, after = model(clips)[-1], model(changed)[-1]
    assert not torch.allclose(before[0], after[0])  # frame 0 of clip 0
    torch.testing.assert_close(before[2:], after[2:])


def test_checkpointing_gives_the_same_gradient():
    plain, saving = build(), build(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    clips = torch.randn(1, 3, 3, 33, 40)
    for model in (plain, saving):
        sum(m.square().mean() for m in model(clips)).backward()
    for (name, a), b in zip(
        plain.named_parameters(), saving.parameters(), strict=True
    ):
        assert a.grad.abs().sum() > 0, name
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_drop_path_grows_with_depth():
    model = build(drop_path_rate=0.4)
    rates = [
        block.drop_path.drop_prob
        for stage in model.layers
        for block in stage.blocks
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_kinetics_weights(tmp_path, prefix):
    """A recogniser's file: two-frame patches, merging inside the stages."""
    ours = build().state_dict()
    theirs = {'cls_head.fc_cls.weight': torch.zeros(400, 32)}
    for name, value in ours.items():
        if name == 'patch_embed.proj.weight':
            value = torch.cat([value * 0.25, value * 0.75], 2)
        name = name.replace('downsamples.0.', 'layers.0.downsample.')
        name = name.replace('downsamples.1.', 'layers.1.downsample.')
        theirs['backbone.' + name] = value
    path = tmp_path / 'recogniser.pth'
    torch.save({'state_dict': theirs, 'meta': {}}, path)
    init = dict(type='Pretrained', checkpoint=str(path))
    if prefix:
        init['prefix'] = prefix
    model = VideoSwinTransformer(arch=ARCH, window_size=WINDOW, init_cfg=init)
    model.init_weights()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, ours[name], msg=name)


def test_own_weights_load_unchanged():
    model, other = build(), VideoSwinTransformer(arch=ARCH, window_size=WINDOW)
    other.load_state_dict(model.state_dict(), strict=True)
    clips = torch.randn(1, 2, 3, 32, 32)
    model.eval()
    other.eval()
    assert torch.equal(model(clips)[-1], other(clips)[-1])


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='huge'), r"'huge' is not one of \['base', 'small', 'tiny"),
        (dict(patch_size=(2, 4, 4)), 'first number must be 1'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
