# The tiny model with a backbone that sees time: what the example model is.
_base_ = './referformer_tiny.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TemporalResNet',
        widths=(24, 48, 96, 128),
        depths=(2, 2, 2, 1),
        temporal_stages=(0, 1, 2),
    ),
    # three levels: at stride 64, such small frames have six pixels
    neck=dict(in_channels=[48, 96, 128], num_outs=3),
    text_encoder=dict(
        hf_config=dict(vocab_size=1600),
        tokenizer=dict(vocab_size=1600),
    ),
    transformer=dict(
        num_levels=3,
        num_points=2,
        num_encoder_layers=3,
        num_decoder_layers=3,
    ),
    # Objects have 30 pixels: their outlines are learnt at stride 2.
    head=dict(num_layers=3, criterion=dict(mask_stride=2)),
)
