"""One layer of a Kolmogorov-Arnold network with cubic B-splines, numerically that of Blealtan/efficient-kan."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KANLayer(nn.Module):
    """Sum a base term and a learned spline per input.

    y_o = sum_i base[o, i] silu(x_i) + sum_ij spline[o, i, j] scaler[o, i] B_j(x_i)

    Args:
        inputs, outputs: widths.
        intervals: number of spline intervals in -1..1.
        order: of the splines, 3 = cubic.
    """

    grid: Tensor

    def __init__(self, inputs: int, outputs: int, intervals: int = 5, order: int = 3) -> None:
        super().__init__()
        self.order = order
        step = 2.0 / intervals
        knots = torch.arange(-order, intervals + order + 1, dtype=torch.float32) * step - 1.0
        self.register_buffer("grid", knots.expand(inputs, -1).contiguous())
        self.base_weight = nn.Parameter(torch.empty(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.empty(outputs, inputs, intervals + order))
        self.spline_scaler = nn.Parameter(torch.empty(outputs, inputs))
        self.reset_parameters(intervals)

    @torch.no_grad()
    def reset_parameters(self, intervals: int, noise: float = 0.1) -> None:
        """Draw fresh weights: the splines start as the least-squares fit of a little noise at the inner knots."""
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5))
        inner = self.grid[:1, self.order : self.order + intervals + 1].T
        bases = bspline_bases(inner, self.grid[:1], self.order)[
            :, 0
        ]  # the same for every input while the grid is fresh
        outputs, inputs, _ = self.spline_weight.shape
        values = (torch.rand(outputs, inputs, intervals + 1) - 0.5) * noise / intervals
        self.spline_weight.copy_(values @ torch.linalg.pinv(bases).T)

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(F.silu(x), self.base_weight)
        bases = bspline_bases(x, self.grid, self.order).flatten(-2)
        weight = (self.spline_weight * self.spline_scaler[..., None]).flatten(1)
        return base + F.linear(bases, weight)


def bspline_bases(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """Evaluate all B-splines of `order` by the Cox-de Boor recursion.

    Intervals are closed on the left and open on the right; beyond the outer knots every basis is zero.

    Args:
        x: `(B, inputs)`.
        grid: `(inputs, knots)`, ascending.

    Returns:
        `(B, inputs, knots - 1 - order)`.
    """
    x = x[..., None]
    bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for k in range(1, order + 1):
        rising = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)])
        falling = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k])
        bases = rising * bases[..., :-1] + falling * bases[..., 1:]
    return bases
