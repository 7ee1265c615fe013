# Last training of the example model: all of it, the backbone too. It begins
# with the weights of the fourth training. docs/example_model.md tells how the
# model is made, referformer/testing/example.py runs the five trainings.
_base_ = './referformer_temporal-resnet_words.py'

# A batch shows five videos, too few for batch statistics.
model = dict(backbone=dict(frozen=False, norm_eval=True))
train_dataloader = dict(sampler=dict(samples_per_epoch=5120))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
default_hooks = dict(check_weights=dict(strict=True))
