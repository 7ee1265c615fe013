# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from torch import nn

from referformer.models import ConditionalQueries, ReferDeformableTransformer
from referformer.models.transformers.decoder import refine_boxes

from ..helpers import crop, random_frames, randomise

SIZES = [(8, 12), (4, 6), (2, 3)]
VALID = [(8, 8), (4, 4), (2, 2)]


@pytest.fixture
def parts():
    transformer = ReferDeformableTransformer(
        embed_dims=16,
        num_heads=2,
        num_levels=3,
        num_points=2,
        num_encoder_layers=2,
        num_decoder_layers=2,
        feedforward_channels=32,
        dropout=0.0,
        num_memory_levels=2,
    )
    queries = ConditionalQueries(num_queries=3, embed_dims=16)
    branches = nn.ModuleList(nn.Linear(16, 4) for _ in range(2))
    for part in (transformer, queries, branches):
        randomise(part)
        part.double()
    return transformer, queries, branches


def run(parts, levels, num_frames=2):
    transformer, queries, branches = parts
    torch.manual_seed(1)
    sentence = torch.randn(1, 16, dtype=torch.float64)
    return transformer(levels, queries(sentence, num_frames), branches)


def levels_of(num_frames=2, valid=(None,) * 3):
    return [
        random_frames(num_frames, 16, size, keep, torch.float64)
        for size, keep in zip(SIZES, valid, strict=True)
    ]


def test_shapes(parts):
    out = run(parts, levels_of())
    assert out.hidden.shape == (2, 2, 3, 16)
    assert out.init_reference.shape == (2, 3, 2)
    assert out.references.shape == (2, 2, 3, 4)
    assert [m.shape[-2:] for m in out.memory] == [(8, 12), (4, 6)]


def test_padding_changes_nothing(parts):
    padded = levels_of(valid=VALID)
    unpadded = [crop(x, keep) for x, keep in zip(padded, VALID, strict=True)]
    ours, expected = run(parts, padded), run(parts, unpadded)
    # the sampling grid is float32
    close = dict(rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.hidden, expected.hidden, **close)
    torch.testing.assert_close(ours.references, expected.references, **close)
    for level, ref, (h, w) in zip(
        ours.memory, expected.memory, VALID, strict=False
    ):
        torch.testing.assert_close(level[..., :h, :w], ref, **close)


def test_frames_are_independent(parts):
    levels = levels_of()
    ours = run(parts, levels)
    changed = [x._replace(map=x.map.clone()) for x in levels]
    for level in changed:
        level.map[1] += 1.0
    other = run(parts, changed)
    torch.testing.assert_close(other.hidden[:, 0], ours.hidden[:, 0])
    assert not torch.allclose(other.hidden[:, 1], ours.hidden[:, 1])


def test_references_are_refined_and_detached(parts):
    branches = parts[2]
    out = run(parts, levels_of())
    assert not out.references.requires_grad
    reference = torch.logit(out.init_reference)
    expected = branches[0](out.hidden[0])
    expected[..., :2] += reference
    torch.testing.assert_close(
        out.references[0], expected.sigmoid().detach(), rtol=1e-4, atol=1e-4
    )
    expected = branches[1](out.hidden[1]) + torch.logit(out.references[0])
    torch.testing.assert_close(
        out.references[1], expected.sigmoid().detach(), rtol=1e-4, atol=1e-4
    )


def test_init_weights_keeps_the_ring_of_offsets(parts):
    transformer = parts[0].float()
    transformer.init_weights()
    attn = transformer.encoder.layers[0].self_attn
    assert not attn.sampling_offsets.weight.any()
    ring = attn.sampling_offsets.bias.view(2, 3, 2, 2)
    # head 0 looks right, head 1 left; point k is k + 1 cells away
    assert ring[0, 0].tolist() == [[1, 0], [2, 0]]
    torch.testing.assert_close(ring[1], -ring[0], rtol=0, atol=1e-6)


def test_init_weights_draws_projections_as_one_matrix():
    transformer = ReferDeformableTransformer(embed_dims=64, num_heads=2)
    transformer.init_weights()
    attn = transformer.decoder.layers[0].self_attn
    # Xavier over 3C rows and C columns, and over C rows
    for layer, fans in ((attn.k_proj, 4 * 64), (attn.out_proj, 2 * 64)):
        bound = (6 / fans) ** 0.5
        largest = layer.weight.abs().max().item()
        assert largest == pytest.approx(bound, rel=0.01)
        assert not layer.bias.any()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_references_keep_their_digits_under_autocast(parts, dtype):
    transformer, queries, branches = (part.float() for part in parts)
    levels = [
        x._replace(map=x.map.float(), pos=x.pos.float()) for x in levels_of()
    ]
    sentence = torch.randn(1, 16)
    with torch.autocast('cpu', dtype=dtype):
        out = transformer(levels, queries(sentence, 2), branches)
    assert out.init_reference.dtype == out.references.dtype == torch.float32
    exact = queries(sentence, 2).reference
    assert torch.equal(out.init_reference, exact)
    # given the states, a refined reference is what float32 makes of it
    expected = refine_boxes(
        branches[1], out.hidden[1].float(), out.references[0]
    )
    assert torch.equal(out.references[1], expected)


def test_checkpointing_changes_nothing(parts):
    transformer = parts[0]
    levels = levels_of()
    grads = []
    for with_cp in (False, True):
        transformer.encoder.with_cp = with_cp
        transformer.zero_grad()
        run(parts, levels).hidden.square().sum().backward()
        grads.append([p.grad.clone() for p in transformer.parameters()])
    for ours, expected in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected)
