# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import torch

from referformer.models import ConditionalQueries


def test_language_is_the_content_and_position_is_shared():
    queries = ConditionalQueries(num_queries=5, embed_dims=16)
    queries.init_weights()
    sentence = torch.randn(2, 16)
    out = queries(sentence, num_frames=3)
    assert out.content.shape == out.pos.shape == (6, 5, 16)
    assert out.reference.shape == (6, 5, 2)
    for frame in range(6):
        expected = sentence[frame // 3].expand(5, 16)
        assert torch.equal(out.content[frame], expected)
        assert torch.equal(out.pos[frame], queries.query_embed.weight)
    expected = queries.reference_points(queries.query_embed.weight).sigmoid()
    torch.testing.assert_close(out.reference[4], expected)
