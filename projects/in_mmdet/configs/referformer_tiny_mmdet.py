"""The model of the quickstart in a config of MMDetection."""

_base_ = [
    'mmdet::_base_/default_runtime.py',
    '../../../configs/_base_/models/referformer_tiny.py',
    '../../../configs/_base_/datasets/synthetic.py',
    '../../../configs/_base_/schedules/quickstart.py',
]

custom_imports = dict(imports=['referformer.registry'])

# Bare names inside of the model are ours in any scope.
model = dict(type='referformer.ReferFormer')

# So are those inside of a part with a scope, as of its transforms and of the
# sampler within the sampler.
ours = dict(_scope_='referformer')
train_dataloader = dict(sampler=ours, dataset=ours)
test_dataloader = dict(dataset=ours)
test_evaluator = ours

# Others take a prefix.
optim_wrapper = dict(
    type='referformer.ReferOptimWrapper',
    constructor='referformer.MergedOptimWrapperConstructor',
)
default_hooks = dict(
    resume=dict(type='referformer.ReproducibleResumeHook'),
    check_weights=dict(type='referformer.CheckWeightsHook', strict=True),
    visualization=dict(type='referformer.ReferVisualizationHook'),
)
visualizer = dict(type='referformer.ReferLocalVisualizer')
randomness = dict(seed=0)
