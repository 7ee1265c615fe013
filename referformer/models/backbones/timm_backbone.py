# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Any network of timm that gives maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.checkpoints.initial import needs_initial_weights
from referformer.errors import (
    ConfigError,
    MissingCheckpointError,
    MissingPackageError,
)
from referformer.registry import MODELS
from referformer.utils.configs import one_line
from referformer.utils.foreign_imports import stand_in_for_torchvision


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A network of `timm <https://huggingface.co/docs/timm>`_.

    Unlike ``mmpretrain.TIMMBackbone``, it fetches no weights of its own when
    a checkpoint of the whole model follows, and needs no torchvision.

    Args:
        model_name (str): Name in timm, with or without the tag of the
            weights: ``'sam2_hiera_tiny.fb_r896_2pt1'``.
        pretrained (bool): Whether to begin with timm's weights:
            ``checkpoints/timm/<model_name>/model.safetensors`` if it is
            there, else the Hugging Face Hub.
        out_indices (Sequence[int]): Stages whose maps are given.
        init_cfg (dict, optional): Initialisation config of mmengine.
        **kwargs: Arguments of the network, see ``timm.create_model``.

    Raises:
        MissingPackageError: If timm is not installed.
        ConfigError: If timm has no such network, or it gives no maps.
        MissingCheckpointError: If its weights cannot be fetched.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.pretrained = pretrained and needs_initial_weights()
        self.net = _create(
            model_name,
            self.pretrained,
            features_only=True,
            out_indices=tuple(out_indices),
            **kwargs,
        )

    def init_weights(self) -> None:
        """Leave the weights as timm has made or loaded them."""
        if self.init_cfg:
            super().init_weights()
        self._is_init = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images (B, 3, H, W) to a map (B, C, h, w) per stage."""
        maps = self.net(images)
        if str(getattr(self.net, 'output_fmt', None)).endswith('NHWC'):
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        return tuple(maps)


def _create(name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Call ``timm.create_model``; what it raises becomes a sentence."""
    try:
        with stand_in_for_torchvision():
            import timm
    except ImportError as error:
        raise MissingPackageError(
            f'the backbone {name} needs timm ({error})',
            value=name,
            remedy='run: pip install --no-deps timm',
        ) from error
    if not timm.is_model(name):
        known = timm.list_models(f'*{name.split("_")[0]}*')[:6]
        raise ConfigError(
            f'timm {timm.__version__} has no network {name!r}; names such as '
            f'{", ".join(known) or "resnet50"} are listed by '
            'timm.list_models().',
            value=name,
        )
    file = Path('checkpoints', 'timm', name, 'model.safetensors')
    if pretrained and file.is_file():
        kwargs['pretrained_cfg_overlay'] = dict(file=str(file))
    try:
        return timm.create_model(name, pretrained=pretrained, **kwargs)
    except OSError as error:
        raise MissingCheckpointError(
            f'the weights of {name} cannot be fetched ({one_line(error)})',
            file=file,
            remedy=f'put those of huggingface.co/timm/{name} at {file}, or '
            'set pretrained=False.',
        ) from error
    # a stage or a tag that it has not, a file of another network
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(
            f'{name} of timm cannot be used so ({one_line(error)}).',
            value=name,
        ) from error
