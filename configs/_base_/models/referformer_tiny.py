# The published model, shrunk until it trains from scratch on two CPU cores:
# narrow ResNet-18 with batch statistics, 64 channels, few layers, a one-layer
# text encoder over hashed words.
_base_ = './referformer_r50.py'

model = dict(
    data_preprocessor=dict(pad_size_divisor=8),
    backbone=dict(
        _delete_=True,
        type='mmdet.ResNet',
        depth=18,
        base_channels=24,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(in_channels=[48, 96, 192], out_channels=64),
    positional_encoding=dict(num_feats=32),
    text_encoder=dict(
        _delete_=True,
        type='HFTextEncoder',
        hf_config=dict(
            model_type='roberta',
            vocab_size=4096,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=72,
            pad_token_id=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        tokenizer=dict(type='HashTokenizer', vocab_size=4096, max_length=64),
        embed_dims=64,
        pooling='mean',
        dropout=0.0,
    ),
    fusion=dict(embed_dims=64, num_heads=4),
    # With one query, the sentence alone decides which object is found.
    queries=dict(num_queries=1, embed_dims=64),
    transformer=dict(
        embed_dims=64,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=3,
        feedforward_channels=128,
        dropout=0.0,
    ),
    pixel_decoder=dict(
        in_channels=[24, 64, 64, 64],
        embed_dims=64,
        mask_channels=16,
        num_heads=4,
        feedforward_channels=128,
        dropout=0.0,
    ),
    head=dict(
        embed_dims=64,
        num_layers=3,
        mask_head=dict(embed_dims=64, mask_channels=16),
    ),
)
