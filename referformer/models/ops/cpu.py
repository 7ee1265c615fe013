# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-scale deformable attention that is fast on CPUs.

It is a weighted sum of rows of a table, ``embedding_bag``: a fraction of the
time and memory of ``grid_sample``. The backward pass keeps nothing but the
arguments.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from referformer.models.ops.levels import FeatureLevels, Shapes
from referformer.utils.precision import at_least_float32

# Said once by PyTorch for any use; what is used here is tested.
warnings.filterwarnings('ignore', 'Sparse CSR tensor support is in beta')

#: Width of the zeros around each level: a sample that lies wholly outside is
#: moved to where all its four neighbours are zero, and so are its gradients.
_BORDER = 2
#: Samples to work on at a time; what they need stays in the cache.
_SAMPLES_PER_PART = 2**19


class _Corners(NamedTuple):
    """Where samples fall: rows of the table, for n bags of S samples.

    Attributes:
        rows (Tensor): Upper left neighbour, int32, shape (n, S).
        right (Tensor): Part of the cell left of the sample, shape (n, S).
        down (Tensor): Part of the cell above the sample, shape (n, S).
    """

    rows: Tensor
    right: Tensor
    down: Tensor

    def weights(self, attention: Tensor) -> Tensor:
        """Weights of the four neighbours, shape (n, 4, S)."""
        lower = attention * self.down
        upper = attention - lower
        lower_right, upper_right = lower * self.right, upper * self.right
        return torch.stack(
            (
                upper - upper_right,
                upper_right,
                lower - lower_right,
                lower_right,
            ),
            1,
        )


class _Table:
    """All levels of a frame above one another in one image of rows.

    A row holds the channels of one head at one position, so that attention
    becomes a weighted sum of rows of a table: ``embedding_bag``. With one
    width for all levels, the neighbours of a position are a constant number
    of rows away.
    """

    def __init__(self, shapes: Shapes, num_heads: int) -> None:
        self.shapes = shapes
        self.num_heads = num_heads
        self.width = max(w for _, w in shapes) + 2 * _BORDER
        self.tops = [0]
        for height, _ in shapes:
            self.tops.append(self.tops[-1] + height + 2 * _BORDER)
        self.height = self.tops.pop()
        #: Rows from the upper left to each of the four neighbours.
        down = self.width * num_heads
        self.steps = (0, num_heads, down, down + num_heads)

    def windows(self, image: Tensor) -> Iterator[Tensor]:
        """The levels in an image of shape (B, height, width, C)."""
        for top, (height, width) in zip(self.tops, self.shapes, strict=True):
            yield image[
                :,
                top + _BORDER : top + _BORDER + height,
                _BORDER : _BORDER + width,
            ]

    def draw(self, value: Tensor) -> Tensor:
        """Lay out values (B, tokens, H, D) as rows (B, rows, D)."""
        value = value.flatten(2)
        image = value.new_zeros(
            len(value), self.height, self.width, value.shape[-1]
        )
        levels = value.split([h * w for h, w in self.shapes], 1)
        for window, level in zip(self.windows(image), levels, strict=True):
            window.copy_(level.view_as(window))
        return image.view(len(value), -1, value.shape[-1] // self.num_heads)

    def tokens(self, rows: Tensor) -> Tensor:
        """Undo :meth:`draw`."""
        image = rows.view(len(rows), self.height, self.width, -1)
        tokens = torch.cat(
            [level.flatten(1, 2) for level in self.windows(image)], 1
        )
        return tokens.unflatten(2, (self.num_heads, -1))

    def find(self, locations: Tensor) -> _Corners:
        """Find samples (B, Q, H, L, P, 2) in the rows of B frames."""
        num_frames, _, num_heads, _, num_points, _ = locations.shape

        def per_sample(numbers: Sequence[int]) -> Tensor:
            return locations.new_tensor(numbers).repeat_interleave(num_points)

        heights, widths = map(
            per_sample, zip(*self.shapes, strict=True)
        )  # [L * P]
        x, y = locations.flatten(3, 4).unbind(-1)  # [B, Q, H, L * P]
        x = (x * widths - 0.5).clamp_(min=-_BORDER).minimum(widths)
        y = (y * heights - 0.5).clamp_(min=-_BORDER).minimum(heights)
        left, top = x.floor(), y.floor()
        rows = (top + (per_sample(self.tops) + _BORDER)) * self.width
        # a NaN stays one in the weights; as a row it would be out of bounds
        rows = (rows + (left + _BORDER)).nan_to_num_(0.0).int() * num_heads
        heads = torch.arange(num_heads, dtype=torch.int32, device=rows.device)
        frames = torch.arange(num_frames, dtype=torch.int32)
        frames = frames.to(rows.device) * (self.height * self.steps[2])
        rows = rows + (frames.view(-1, 1, 1, 1) + heads[:, None])
        return _Corners(
            rows.flatten(0, 2),
            (x - left).flatten(0, 2),
            (y - top).flatten(0, 2),
        )


class _SampleLevels(torch.autograd.Function):
    """Weighted sums of bilinear samples, a few frames at a time.

    Only the inputs are kept for the backward pass; what follows from them is
    cheaper to compute again than to keep.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        value: Tensor,
        locations: Tensor,
        weights: Tensor,
        shapes: Shapes,
    ) -> Tensor:
        ctx.shapes = shapes
        ctx.save_for_backward(value, locations, weights)
        num_heads, channels = value.shape[2:]
        layout = _Table(shapes, num_heads)
        steps = value.new_tensor(layout.steps, dtype=torch.int32)[:, None]
        outs = []
        for part in _SampleLevels.parts(locations, layout):
            corners = layout.find(locations[part])
            outs.append(
                F.embedding_bag(
                    (corners.rows[:, None] + steps).flatten(1),
                    layout.draw(value[part]).view(-1, channels),
                    per_sample_weights=corners.weights(
                        weights[part].flatten(3).flatten(0, 2)
                    ).flatten(1),
                    mode='sum',
                )
            )
        num_frames, num_queries = locations.shape[:2]
        return torch.cat(outs).view(num_frames, num_queries, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        num_heads, channels = value.shape[2:]
        layout = _Table(ctx.shapes, num_heads)
        steps = value.new_tensor(layout.steps, dtype=torch.int32)[:, None]
        sizes = value.new_tensor(ctx.shapes)
        heights, widths = sizes.repeat_interleave(
            locations.shape[-2], 0
        ).unbind(-1)  # [L * P]
        grads = tuple(map(torch.empty_like, (value, locations, weights)))
        grad_value, grad_locations, grad_weights = grads
        for part in _SampleLevels.parts(locations, layout):
            corners = layout.find(locations[part])
            attention = weights[part].flatten(3).flatten(0, 2)
            table = layout.draw(value[part]).view(-1, channels)
            bags = grad[part].reshape(-1, channels)

            # What each neighbour contributes to the loss, (n, S) each.
            rows = (corners.rows[:, None] + steps).flatten(1)
            pattern = torch.arange(len(rows) + 1, dtype=torch.int32)
            pattern = pattern.to(rows.device) * rows.shape[1]
            products = torch.sparse_csr_tensor(
                pattern,
                rows.flatten(),
                bags.new_zeros(rows.numel()),
                (len(rows), len(table)),
                check_invariants=False,
            )
            torch.sparse.sampled_addmm(
                products, bags, table.t(), beta=0.0, out=products
            )
            products = products.values().view(len(rows), 4, -1)
            upper_left, upper_right, lower_left, lower_right = products.unbind(
                1
            )
            upper_slope = upper_right - upper_left
            lower_slope = lower_right - lower_left
            upper = upper_left + corners.right * upper_slope
            lower = lower_left + corners.right * lower_slope
            slope_x = upper_slope.lerp(lower_slope, corners.down)
            slope_y = lower - upper
            grad_locations[part] = torch.stack(
                (slope_x * attention * widths, slope_y * attention * heights),
                -1,
            ).view_as(locations[part])
            grad_weights[part] = upper.lerp(lower, corners.down).view_as(
                weights[part]
            )

            # The transposed sum: samples in the order of their rows.
            order = corners.rows.flatten().argsort()
            counts = torch.bincount(
                corners.rows.flatten(), minlength=len(table)
            )
            offsets = counts.cumsum(0) - counts
            bag_of_sample = order // corners.rows.shape[1]
            grad_table = torch.zeros_like(table)
            for step, weight in zip(
                layout.steps, corners.weights(attention).unbind(1), strict=True
            ):
                summed = F.embedding_bag(
                    bag_of_sample,
                    bags,
                    offsets,
                    per_sample_weights=weight.flatten().index_select(0, order),
                    mode='sum',
                )
                grad_table[step:] += summed[: len(summed) - step]
            grad_value[part] = layout.tokens(
                grad_table.view(len(value[part]), -1, channels)
            )
        return *grads, None

    @staticmethod
    def parts(locations: Tensor, layout: _Table) -> list[slice]:
        """Slices of the frames to work on one after another."""
        # a row of the table takes as much memory as some eight samples
        rows = layout.height * layout.steps[2]
        work = max(locations[0].numel() // 2, 8 * rows)
        frames = max(1, _SAMPLES_PER_PART // work)
        starts = range(0, len(locations), frames)
        return [slice(start, start + frames) for start in starts]


def sample_levels(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`referformer.models.ops.sample_levels`."""
    dtype = value.dtype
    # few CPUs are faster with half precision
    value = at_least_float32(value)
    return _SampleLevels.apply(
        value,
        locations.to(value.dtype),
        weights.to(value.dtype),
        levels.shapes,
    ).to(dtype)
