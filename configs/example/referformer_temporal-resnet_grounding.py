# Second training of the example model: words. All but the decoders learns
# which pixels are meant by a sentence. The backbone comes from the first
# training and stays as it is.
_base_ = './referformer_temporal-resnet_example.py'
custom_imports = dict(imports=['referformer.testing.naming'])

model = dict(type='PixelGrounding', embed_dims=64)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
