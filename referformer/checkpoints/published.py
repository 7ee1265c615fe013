# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Translate parameter names and layouts between the authors' code and ours.

The published checkpoints store ``{'model': {name: tensor}, ...}``. Every rule
is a pair of name templates, read left to right to import and right to left to
export, so both directions always agree.
"""

import re
from collections.abc import Container, Iterator, Mapping, MutableMapping
from typing import NamedTuple

import torch
from torch import Tensor

from referformer.errors import CheckpointError
from referformer.utils.attention_windows import relative_position_index

__all__ = [
    'backbone_kind',
    'from_published',
    'split_joint_projections',
    'to_published',
]

# buffers that are pure functions of the architecture
_DERIVED = re.compile(
    r'(relative_position_index|num_batches_tracked'
    r'|embeddings\.(position_ids|token_type_ids))$'
)
# tried in this order: Video Swin also has `layers`
_KINDS = {
    'resnet': re.compile(r'backbone\.(0\.body\.)?layer\d'),
    'video-swin': re.compile(r'backbone\.(0\.body\.)?downsamples\.'),
    'swin': re.compile(r'backbone\.(0\.body\.layers|stages)\.'),
}
# attention of ours, not of a language model
_QUERY_PROJECTION = re.compile(r'(?!text_encoder\.)(.*\.)q_proj\.(\w+)$')
# the authors register the shared box heads a second time here
_ALIAS = 'transformer.decoder.bbox_embed.'


class RenameRule(NamedTuple):
    """A pair of name templates.

    Attributes:
        theirs (str): Prefix in the authors' checkpoints; ``{i}`` and ``{j}``
            stand for integers.
        ours (str): Prefix in this package.
    """

    theirs: str
    ours: str


def _rules(kind: str) -> Iterator[RenameRule]:
    """Rules for a backbone kind, more specific prefixes first."""
    body = 'backbone.0.body.'
    if kind == 'swin':
        block = (
            body + 'layers.{i}.blocks.{j}.',
            'backbone.stages.{i}.blocks.{j}.',
        )
        for theirs, ours in (
            ('attn.', 'attn.w_msa.'),
            ('mlp.fc1.', 'ffn.layers.0.0.'),
            ('mlp.fc2.', 'ffn.layers.1.'),
            ('', ''),
        ):
            yield RenameRule(block[0] + theirs, block[1] + ours)
        yield RenameRule(
            body + 'layers.{i}.downsample.', 'backbone.stages.{i}.downsample.'
        )
        yield RenameRule(
            body + 'patch_embed.proj.', 'backbone.patch_embed.projection.'
        )
    yield RenameRule(body, 'backbone.')

    for i in range(3):
        yield RenameRule(f'input_proj.{i}.0.', f'neck.convs.{i}.conv.')
        yield RenameRule(f'input_proj.{i}.1.', f'neck.convs.{i}.gn.')
    yield RenameRule('input_proj.3.0.', 'neck.extra_convs.0.conv.')
    yield RenameRule('input_proj.3.1.', 'neck.extra_convs.0.gn.')

    yield RenameRule('text_encoder.', 'text_encoder.language_model.')
    yield RenameRule('resizer.', 'text_encoder.projection.')
    yield RenameRule('fusion_module.multihead_attn.', 'fusion.attn.')
    yield RenameRule('query_embed.', 'queries.query_embed.')
    yield RenameRule(
        'transformer.reference_points.', 'queries.reference_points.'
    )
    yield RenameRule('transformer.level_embed', 'transformer.level_embed')
    norms = {
        'encoder': ('norm1', 'norm2'),
        # the authors number the norms of a decoder layer by age, not order:
        # self-attention is followed by norm2, cross-attention by norm1
        'decoder': ('norm2', 'norm1', 'norm3'),
    }
    for part, names in norms.items():
        layer = f'transformer.{part}.layers.{{i}}.'
        for k, name in enumerate(names):
            yield RenameRule(f'{layer}{name}.', f'{layer}norms.{k}.')
        yield RenameRule(layer + 'linear1.', layer + 'ffn.layers.0.0.')
        yield RenameRule(layer + 'linear2.', layer + 'ffn.layers.1.')
        for attn in ('self_attn.', 'cross_attn.'):
            yield RenameRule(layer + attn, layer + attn)

    yield RenameRule('class_embed.{i}.', 'head.cls_branches.{i}.')
    for k in range(3):
        yield RenameRule(
            f'bbox_embed.{{i}}.layers.{k}.',
            f'head.reg_branches.{{i}}.{2 * k}.',
        )
        yield RenameRule(
            f'controller.layers.{k}.', f'head.mask_head.controller.{2 * k}.'
        )
    for k in range(4):
        block = f'pixel_decoder.cross_attn_{k + 1}.'
        ours = f'pixel_decoder.blocks.{k}.'
        yield RenameRule(block + 'self_attn.', ours + 'self_attn.')
        yield RenameRule(block + 'multihead_attn.', ours + 'cross_attn.')
        yield RenameRule(block + 'linear1.', ours + 'ffn.layers.0.0.')
        yield RenameRule(block + 'linear2.', ours + 'ffn.layers.1.')
        for n in range(3):
            yield RenameRule(f'{block}norm{n + 1}.', f'{ours}norms.{n}.')
        for conv, name in (('adapter', 'lateral'), ('layer', 'output')):
            theirs = f'pixel_decoder.{conv}_{k + 1}.'
            ours_conv = f'pixel_decoder.{name}_convs.{k}.'
            yield RenameRule(theirs + 'norm.', ours_conv + 'gn.')
            yield RenameRule(theirs, ours_conv + 'conv.')
    yield RenameRule(
        'pixel_decoder.mask_features.', 'pixel_decoder.mask_features.'
    )


def _compile(kind: str, inverse: bool) -> list[tuple[re.Pattern, str]]:
    compiled = []
    for rule in _rules(kind):
        source, target = reversed(rule) if inverse else rule
        pattern = re.escape(source)
        for name in 'ij':
            slot = re.escape(f'{{{name}}}')
            pattern = pattern.replace(slot, rf'(?P<{name}>\d+)')
        compiled.append((re.compile(pattern), target))
    return compiled


def _rename(name: str, rules: list[tuple[re.Pattern, str]]) -> str | None:
    for pattern, target in rules:
        match = pattern.match(name)
        if match:
            return target.format(**match.groupdict()) + name[match.end() :]
    return None


def backbone_kind(names: Mapping[str, Tensor]) -> str:
    """Tell the backbone family from parameter names of either side.

    Args:
        names (Mapping[str, Tensor]): A state dict.

    Returns:
        str: ``'resnet'``, ``'swin'`` or ``'video-swin'``.

    Raises:
        CheckpointError: If no backbone is recognised.
    """
    for kind, pattern in _KINDS.items():
        if any(pattern.match(name) for name in names):
            return kind
    raise CheckpointError(
        'no ResNet, Swin or Video Swin backbone found among the parameter '
        'names: is this a ReferFormer checkpoint?'
    )


def _swap_merge_order(name: str, value: Tensor) -> Tensor:
    """Reorder the 2x2 neighbours of Swin's patch merging.

    The official code concatenates them column by column with channels
    innermost; mmdet unfolds row by row with channels outermost.
    """
    if name.endswith('.reduction.weight'):
        rows = value.unflatten(1, (2, 2, -1))  # [out, col, row, C]
        return rows.permute(0, 3, 2, 1).flatten(1)
    merged = value.unflatten(0, (2, 2, -1))
    return merged.permute(2, 1, 0).flatten()


def _unswap_merge_order(name: str, value: Tensor) -> Tensor:
    """Undo :func:`_swap_merge_order`."""
    if name.endswith('.reduction.weight'):
        rows = value.unflatten(1, (-1, 2, 2))  # [out, C, row, col]
        return rows.permute(0, 3, 2, 1).flatten(1)
    return value.unflatten(0, (-1, 2, 2)).permute(2, 1, 0).flatten()


def _is_swin_merge(kind: str, name: str) -> bool:
    return kind == 'swin' and '.downsample.' in name


def split_joint_projections(
    weights: MutableMapping[str, Tensor],
    prefix: str = '',
    keep: Container[str] = (),
) -> None:
    """Split the joint projections of attention layers, in place.

    ``torch.nn.MultiheadAttention``, and this package in earlier versions,
    hold query, key and value projection in one ``in_proj_weight``.

    Args:
        weights (MutableMapping[str, Tensor]): State dict.
        prefix (str): Beginning of the names to look at.
        keep (Container[str]): Names to leave alone.
    """
    for name in list(weights):
        stem, joint, kind = name.rpartition('in_proj_')
        if not (joint and name.startswith(prefix)) or name in keep:
            continue
        parts = weights.pop(name).chunk(3)
        for part, value in zip('qkv', parts, strict=True):
            weights[f'{stem}{part}_proj.{kind}'] = value


def _join_projections(weights: MutableMapping[str, Tensor]) -> None:
    """Undo :func:`split_joint_projections`, in place."""
    for match in list(map(_QUERY_PROJECTION.match, weights)):
        if match:
            stem, kind = match.groups()
            weights[f'{stem}in_proj_{kind}'] = torch.cat(
                [weights.pop(f'{stem}{part}_proj.{kind}') for part in 'qkv']
            )


def from_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate an authors' state dict into ours.

    Args:
        state_dict (Mapping[str, Tensor]): ``checkpoint['model']``.

    Returns:
        dict[str, Tensor]: Loads strictly into the model of the same backbone.

    Raises:
        CheckpointError: If the backbone is not recognised, or naming every
            parameter that has no place here.
    """
    kind = backbone_kind(state_dict)
    rules = _compile(kind, inverse=False)
    out, unplaced = {}, []
    for name, value in state_dict.items():
        if _DERIVED.search(name) or name.startswith(_ALIAS):
            continue
        target = _rename(name, rules)
        if target is None:
            unplaced.append(name)
            continue
        if _is_swin_merge(kind, name):
            value = _swap_merge_order(name, value)
        out[target] = value
    if unplaced:
        raise CheckpointError(
            f'{len(unplaced)} parameters have no place in this model: '
            + ', '.join(sorted(unplaced))
        )
    split_joint_projections(out)
    if kind == 'resnet':
        # frozen in the authors' code, which does not count batches
        for name in [n for n in out if n.endswith('.running_var')]:
            counter = name.replace('running_var', 'num_batches_tracked')
            out[counter] = torch.zeros((), dtype=torch.long)
    if kind == 'swin':
        # mmdet stores the window indices with the weights, like the authors
        for name in [n for n in out if n.endswith('position_bias_table')]:
            index = name.replace('bias_table', 'index')
            out[index] = _relative_position_index(out[name])
    return out


def _relative_position_index(table: Tensor) -> Tensor:
    """The index buffer the authors store beside a bias table."""
    rows = table.shape[0]
    if rows == 15 * 13 * 13:
        return relative_position_index((8, 7, 7))
    side = (int(rows**0.5) + 1) // 2
    return relative_position_index((1, side, side))


def to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate our state dict into the authors' layout.

    Args:
        state_dict (Mapping[str, Tensor]): ``checkpoint['state_dict']``.

    Returns:
        dict[str, Tensor]: Loads into the published code, which wants the box
        heads twice and the window index buffers.

    Raises:
        CheckpointError: If the backbone is not recognised, or naming every
            parameter that has no place there.
    """
    kind = backbone_kind(state_dict)
    rules = _compile(kind, inverse=True)
    state_dict = dict(state_dict)
    _join_projections(state_dict)
    out, unplaced = {}, []
    for name, value in state_dict.items():
        if _DERIVED.search(name):
            continue
        target = _rename(name, rules)
        if target is None:
            unplaced.append(name)
            continue
        if _is_swin_merge(kind, name):
            value = _unswap_merge_order(name, value)
        out[target] = value
        if target.startswith('bbox_embed.'):
            out['transformer.decoder.' + target] = value
        if target.endswith('relative_position_bias_table'):
            index = target.replace('bias_table', 'index')
            out[index] = _relative_position_index(value)
    if unplaced:
        raise CheckpointError(
            f"{len(unplaced)} parameters have no place in the authors' "
            'model: ' + ', '.join(sorted(unplaced))
        )
    return out
