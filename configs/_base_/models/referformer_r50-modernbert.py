# ModernBERT; the sentence is the mean of its words.
_base_ = './referformer_r50.py'

model = dict(
    text_encoder=dict(
        pretrained='answerdotai/ModernBERT-base', pooling='mean'
    ),
)
image_pretrained = (
    'checkpoints/referformer_r50-modernbert_refcoco-pretrain.pth'
)
