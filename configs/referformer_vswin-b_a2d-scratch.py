# A2D-Sentences alone, from the pretrained backbone: clips of six frames and no
# dropout in the transformer.
_base_ = [
    './_base_/models/referformer_vswin-b.py',
    './_base_/datasets/a2d.py',
    './_base_/schedules/a2d-scratch_12e.py',
    './_base_/default_runtime.py',
]

model = dict(
    mask_resize='two_step',
    transformer=dict(dropout=0.0),
    # the published mAP ranks all five queries of an expression
    head=dict(selector=dict(topk=5)),
)
train_dataloader = dict(batch_size=1)
_base_.train_dataloader.dataset.pipeline[1].num_frames = 6
_base_.test_dataloader.dataset.pipeline[1].num_frames = 6
