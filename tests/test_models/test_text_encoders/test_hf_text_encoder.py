# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from referformer.registry import MODELS
from referformer.testing import tiny_text_encoder_cfg

TINY = dict(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    vocab_size=512,
)
CLIP = dict(TINY, max_position_embeddings=66, eos_token_id=2, bos_token_id=0)
OTHERS = [
    (dict(model_type='bert', **TINY), 'pooler'),
    (dict(model_type='bert', **TINY), 'mean'),
    (dict(model_type='xlm-roberta', **TINY), 'first'),
    (
        dict(
            model_type='distilbert',
            vocab_size=512,
            dim=32,
            n_layers=1,
            n_heads=2,
            hidden_dim=64,
        ),
        'mean',
    ),
    (
        dict(
            model_type='t5',
            vocab_size=512,
            d_model=32,
            d_ff=64,
            d_kv=16,
            num_layers=1,
            num_heads=2,
        ),
        'mean',
    ),
    (dict(model_type='clip_text_model', **CLIP), 'pooler'),
    (
        dict(model_type='clip', text_config=CLIP, vision_config=dict(TINY)),
        'pooler',
    ),
]
TEXTS = ['a red circle on the left', 'the dog']


def build(**changes):
    return MODELS.build({**tiny_text_encoder_cfg(), **changes})


def encode(encoder, texts):
    return encoder(encoder.tokenize(texts))


@pytest.fixture
def folder(tmp_path):
    """A model and a tokenizer as save_pretrained leaves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ['<s>', '<pad>', '</s>', '<unk>', *' '.join(TEXTS).split()]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    raw = Tokenizer(models.WordLevel(vocab, unk_token='<unk>'))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token='<s>',
        eos_token='</s>',
        pad_token='<pad>',
        unk_token='<unk>',
        model_max_length=20,
    ).save_pretrained(tmp_path / 'tiny')
    cfg = tiny_text_encoder_cfg()['hf_config']
    config = AutoConfig.for_model(**cfg)
    model = AutoModel.from_config(config)
    model.save_pretrained(tmp_path / 'tiny')
    return tmp_path / 'tiny', model


def test_shapes_and_mask():
    encoder = build().eval()
    text = encode(encoder, TEXTS)
    assert text.words.shape == text.word_pos.shape == (2, 8, 32)
    assert text.sentence.shape == (2, 32)
    assert text.padding_mask.sum(1).tolist() == [0, 4]


@pytest.mark.parametrize('pooling', ['pooler', 'first', 'mean'])
def test_padding_changes_nothing(pooling):
    encoder = build(pooling=pooling).eval()
    together, alone = encode(encoder, TEXTS), encode(encoder, TEXTS[1:])
    torch.testing.assert_close(together.words[1:, :4], alone.words)
    torch.testing.assert_close(together.word_pos[1:, :4], alone.word_pos)
    torch.testing.assert_close(together.sentence[1:], alone.sentence)


@pytest.mark.parametrize('texts', [TEXTS, TEXTS[1:]])
def test_attention_is_the_same_while_a_graph_is_recorded(monkeypatch, texts):
    """transformers looks at values otherwise, and makes other masks."""
    encoder = build().eval()
    given = []
    attention = F.scaled_dot_product_attention

    def look(*args, attn_mask=None, **kwargs):
        given.append((attn_mask.tolist(), attn_mask.stride()))
        return attention(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', look)
    encode(encoder, texts)
    called, given[:] = given.copy(), []
    capturing = 'torch.cuda.is_current_stream_capturing'
    monkeypatch.setattr(capturing, lambda: True)
    encode(encoder, texts)
    assert given == called


@pytest.mark.parametrize(('hf_config', 'pooling'), OTHERS)
def test_other_encoders(hf_config, pooling):
    encoder = build(hf_config=hf_config, pooling=pooling).eval()
    text = encode(encoder, TEXTS)
    assert text.words.shape == (2, 8, 32)
    assert text.sentence.isfinite().all()
    # different expressions, different features
    assert not torch.allclose(text.sentence[0], text.sentence[1], atol=1e-3)
    encoder.train()
    text = encode(encoder, TEXTS)
    (text.words.square().sum() + text.sentence.sum()).backward()
    idle = [
        n
        for n, p in encoder.named_parameters()
        if p.requires_grad and p.grad is None
    ]
    assert not idle


@pytest.mark.parametrize('kind', ['distilbert', 't5'])
def test_pooler_that_does_not_exist(kind):
    cfg = next(cfg for cfg, _ in OTHERS if cfg['model_type'] == kind)
    encoder = build(hf_config=cfg, pooling='pooler')
    with pytest.raises(ValueError, match=rf"{kind} .*pooling to 'mean'"):
        encode(encoder, TEXTS)


def test_mean_ignores_padding():
    encoder = build(pooling='mean')
    words = torch.randn(1, 4, 32)
    mask = torch.tensor([[1, 1, 0, 0]])
    pooled = encoder._pool(None, words, mask)
    torch.testing.assert_close(pooled, words[:, :2].mean(1))


def test_frozen_has_no_gradient_but_keeps_dropout():
    encoder = build(**tiny_text_encoder_cfg(dropout=0.5, frozen=True))
    encoder.train()
    encoder.projection.eval()
    first, second = (encode(encoder, TEXTS).words for _ in range(2))
    assert not torch.allclose(first, second)
    first.sum().backward()
    grads = {n: p.grad for n, p in encoder.named_parameters()}
    for name, grad in grads.items():
        assert (grad is None) == name.startswith('language_model'), name
    assert not any(
        p.requires_grad for p in encoder.language_model.parameters()
    )


def test_local_folder_round_trip(folder):
    path, model = folder
    encoder = MODELS.build(
        dict(type='HFTextEncoder', pretrained=str(path), embed_dims=32)
    )
    encoder.init_weights()
    for name, value in model.state_dict().items():
        loaded = encoder.language_model.state_dict()[name]
        torch.testing.assert_close(loaded, value, msg=name)
    tokens = encoder.tokenize(TEXTS)
    # the words of the first text have the ids from 4 on, then "dog"
    assert tokens.ids.tolist() == [
        [0, 4, 5, 6, 7, 8, 9, 2],
        [0, 8, 10, 2, 1, 1, 1, 1],
    ]
    assert tokens.attention_mask.sum(1).tolist() == [8, 4]
    assert encoder(tokens).words.shape == (2, 8, 32)


def test_name_is_looked_for_in_the_local_root(folder):
    path, _ = folder
    encoder = MODELS.build(
        dict(
            type='HFTextEncoder',
            pretrained='tiny',
            local_root=str(path.parent),
            embed_dims=32,
        )
    )
    assert encoder.language_model.config.hidden_size == 32


def test_too_long_for_the_tokenizer(folder):
    path, _ = folder
    encoder = MODELS.build(
        dict(type='HFTextEncoder', pretrained=str(path), embed_dims=32)
    )
    encoder.tokenize(['dog ' * 18])
    with pytest.raises(ValueError, match=r"'dog dog .* 21 tokens.* most 20"):
        encoder.tokenize(['the dog', 'dog ' * 19])


def test_a_tokenizer_that_names_no_limit(folder):
    """What transformers gives one without a ``tokenizer_config.json``."""
    path, _ = folder
    encoder = MODELS.build(
        dict(type='HFTextEncoder', pretrained=str(path), embed_dims=32)
    )
    encoder.tokenizer.model_max_length = int(1e30)
    assert encoder.tokenize(['the dog']).ids.shape[0] == 1


def test_init_weights_of_the_model_keeps_loaded_weights(folder, monkeypatch):
    from referformer.testing import tiny_model_cfg

    path, loaded = folder
    cfg = tiny_model_cfg()
    cfg['text_encoder'] = dict(
        type='HFTextEncoder', pretrained=str(path), embed_dims=32
    )
    model = MODELS.build(cfg)
    # older versions of transformers draw all weights anew in here
    monkeypatch.setattr(
        type(model.text_encoder.language_model),
        'init_weights',
        lambda self: pytest.fail('weights were initialised again'),
    )
    model.init_weights()
    ours = model.text_encoder.language_model.state_dict()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(ours[name], value, msg=name)


def test_unreachable_hub_names_the_folder_to_fill(tmp_path):
    cfg = dict(
        type='HFTextEncoder',
        pretrained='somebody/no-such-encoder',
        local_root=str(tmp_path),
    )
    with pytest.raises(OSError, match='put them into') as error:
        MODELS.build(cfg)
    assert f'{tmp_path}/somebody/no-such-encoder/' in str(error.value)


def test_incomplete_folder_names_itself(tmp_path):
    (tmp_path / 'half').mkdir()
    config = {'model_type': 'roberta', **TINY}
    (tmp_path / 'half/config.json').write_text(json.dumps(config))
    cfg = dict(type='HFTextEncoder', pretrained=str(tmp_path / 'half'))
    with pytest.raises(OSError, match=f"'{tmp_path}/half' with AutoModel"):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(pooling='max'), r"pooling must be one of \('pooler', .*'max'"),
        (dict(pretrained='roberta-base'), 'either pretrained'),
        (dict(hf_config=None), 'either pretrained'),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize('text', ['', '   ', None, 3])
def test_empty_expression(text):
    with pytest.raises(ValueError, match='non-empty string, got'):
        build().tokenize(['the dog', text])


def test_missing_tokenizer():
    with pytest.raises(ValueError, match='has no tokenizer'):
        build(tokenizer=None).tokenize(['the dog'])
