# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Translate parameter names and layouts between the authors' code and ours.

The published checkpoints store ``{'model': {name: tensor}, ...}``. Every rule
is a pair of name templates, read left to right to import and right to left to
export, so both directions always agree.
"""

import re
from collections.abc import Container, Iterator, Mapping, MutableMapping

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


def _rules(kind: str) -> Iterator[tuple[str, str]]:
    """Pairs of prefixes, theirs and ours, more specific ones first.

    ``{i}`` and ``{j}`` stand for integers.
    """
    body = 'backbone.0.body.'
    if kind == 'swin':
        theirs = body + 'layers.{i}.blocks.{j}.'
        ours = 'backbone.stages.{i}.blocks.{j}.'
        yield theirs + 'attn.', ours + 'attn.w_msa.'
        yield theirs + 'mlp.fc1.', ours + 'ffn.layers.0.0.'
        yield theirs + 'mlp.fc2.', ours + 'ffn.layers.1.'
        yield theirs, ours
        yield (
            body + 'layers.{i}.downsample.',
            'backbone.stages.{i}.downsample.',
        )
        yield body + 'patch_embed.proj.', 'backbone.patch_embed.projection.'
    yield body, 'backbone.'

    yield 'input_proj.3.0.', 'neck.extra_convs.0.conv.'
    yield 'input_proj.3.1.', 'neck.extra_convs.0.gn.'
    yield 'input_proj.{i}.0.', 'neck.convs.{i}.conv.'
    yield 'input_proj.{i}.1.', 'neck.convs.{i}.gn.'

    yield 'text_encoder.', 'text_encoder.language_model.'
    yield 'resizer.', 'text_encoder.projection.'
    yield 'fusion_module.multihead_attn.', 'fusion.attn.'
    yield 'query_embed.', 'queries.query_embed.'
    yield 'transformer.reference_points.', 'queries.reference_points.'
    yield 'transformer.level_embed', 'transformer.level_embed'
    norms = {
        'encoder': ('norm1', 'norm2'),
        # the authors number the norms of a decoder layer by age, not order:
        # self-attention is followed by norm2, cross-attention by norm1
        'decoder': ('norm2', 'norm1', 'norm3'),
    }
    for part, names in norms.items():
        layer = f'transformer.{part}.layers.{{i}}.'
        for k, name in enumerate(names):
            yield f'{layer}{name}.', f'{layer}norms.{k}.'
        yield layer + 'linear1.', layer + 'ffn.layers.0.0.'
        yield layer + 'linear2.', layer + 'ffn.layers.1.'
        for attn in ('self_attn.', 'cross_attn.'):
            yield layer + attn, layer + attn

    yield 'class_embed.{i}.', 'head.cls_branches.{i}.'
    for k in range(3):
        box = f'bbox_embed.{{i}}.layers.{k}.'
        yield box, f'head.reg_branches.{{i}}.{2 * k}.'
        controller = f'controller.layers.{k}.'
        yield controller, f'head.mask_head.controller.{2 * k}.'
    for k in range(4):
        theirs = f'pixel_decoder.cross_attn_{k + 1}.'
        ours = f'pixel_decoder.blocks.{k}.'
        yield theirs + 'self_attn.', ours + 'self_attn.'
        yield theirs + 'multihead_attn.', ours + 'cross_attn.'
        yield theirs + 'linear1.', ours + 'ffn.layers.0.0.'
        yield theirs + 'linear2.', ours + 'ffn.layers.1.'
        for n in range(3):
            yield f'{theirs}norm{n + 1}.', f'{ours}norms.{n}.'
        for conv, name in (('adapter', 'lateral'), ('layer', 'output')):
            theirs = f'pixel_decoder.{conv}_{k + 1}.'
            ours = f'pixel_decoder.{name}_convs.{k}.'
            yield theirs + 'norm.', ours + 'gn.'
            yield theirs, ours + 'conv.'
    yield 'pixel_decoder.mask_features.', 'pixel_decoder.mask_features.'


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
    once = {k: v for k, v in state_dict.items() if not k.startswith(_ALIAS)}
    out = _translate(once, kind, inverse=False)
    split_joint_projections(out)
    if kind == 'resnet':
        # frozen in the authors' code, which does not count batches
        for name in [n for n in out if n.endswith('.running_var')]:
            counter = name.replace('running_var', 'num_batches_tracked')
            out[counter] = torch.zeros((), dtype=torch.long)
    if kind == 'swin':
        # mmdet stores the window indices with the weights, like the authors
        _add_window_indices(out)
    return out


def _translate(
    weights: Mapping[str, Tensor], kind: str, inverse: bool
) -> dict[str, Tensor]:
    """Rename weights, and lay Swin's patch merging out as the target does."""
    rules = _compile(kind, inverse)
    reorder = _unswap_merge_order if inverse else _swap_merge_order
    out, unplaced = {}, []
    for name, value in weights.items():
        if _DERIVED.search(name):
            continue
        target = _rename(name, rules)
        if target is None:
            unplaced.append(name)
            continue
        if kind == 'swin' and '.downsample.' in name:
            value = reorder(name, value)
        out[target] = value
    if unplaced:
        owner = "the authors'" if inverse else 'this'
        raise CheckpointError(
            f'{len(unplaced)} parameters have no place in {owner} model: '
            + ', '.join(sorted(unplaced))
        )
    return out


def _add_window_indices(weights: MutableMapping[str, Tensor]) -> None:
    """Add the index buffer that the authors store beside a bias table."""
    for name in [n for n in weights if n.endswith('position_bias_table')]:
        rows = weights[name].shape[0]
        if rows == 15 * 13 * 13:
            window = (8, 7, 7)
        else:
            side = (int(rows**0.5) + 1) // 2
            window = (1, side, side)
        index = name.replace('bias_table', 'index')
        weights[index] = relative_position_index(window)


def to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate our state dict into the authors' layout.

    Args:
        state_dict (Mapping[str, Tensor]): ``checkpoint['state_dict']``.

    Returns:
        dict[str, Tensor]: Loads into the published code, which expects the box
        heads twice and the window index buffers.

    Raises:
        CheckpointError: If the backbone is not recognised, or naming every
            parameter that has no place there.
    """
    state_dict = dict(state_dict)
    _join_projections(state_dict)
    out = _translate(state_dict, backbone_kind(state_dict), inverse=True)
    for name in [n for n in out if n.startswith('bbox_embed.')]:
        out['transformer.decoder.' + name] = out[name]
    _add_window_indices(out)
    return out
