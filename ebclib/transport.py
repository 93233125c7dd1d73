"""Entropic optimal transport between an image's density on its blocks and its points, as published.

DM-Count (Wang et al. 2020) compares b = Y*/ΣY* on the centres of h × w blocks with a = 1/n on each of
n points. The cost C is the squared distance in px², K = exp(−C/ε), and Sinkhorn's iterations are

    v = b / (Kᵀu + δ),    u = a / (K v + δ),    u = 1/n at first, δ = 1e-16.

The loss needs the dual on the blocks, β = ε ln(v + δ), alone: its gradient is β/S − ⟨Y*, β⟩/S² with
S = ΣY*. The floor δ belongs to the method. Moving a person never costs more than ε ln(1/δ) = 368 px²,
about 19 px: what is further away is let go instead of carried. Without the floor the gradient is up to
34 times as large, and trains worse (`results/README.md`).

C is a sum over x and y, so each row of K is an outer product, K_p = k_y ⊗ k_x. Below e⁻⁸⁷ an entry is
nothing beside the floor, so k_y has a few blocks only: Kᵀu and Kv are sums of a few weighted rows each,
for all images of a batch at once. `torch.nn.functional.embedding_bag` computes such sums. Nothing here
waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

REGULARISATION = 10.0  # ε, px²
ITERATIONS = 100
FLOOR = 1e-16  # δ
TOLERANCE = 1e-9  # squared error of the blocks' marginal at which an image's iterations end
CHECK_EVERY = 10  # iterations
LEAST_EXPONENT = -87.0  # of e, in K; float32 has no normal numbers below
LEAST_COUNT = 1e-3  # people; a smaller predicted total would make gradients explode


def transport_loss(density: Tensor, points: Sequence[Tensor], block_size_px: int) -> Tensor:
    """The transport term of each image: its value is 0, its gradient β/S − ⟨Y*, β⟩/S².

    So it is in DM-Count's code and CLIP-EBC's release, whose term is ⟨gradient, Y*⟩. An image without
    people, or without density, has no gradient. Arguments and errors are those of `block_duals`; gives
    (B,), float32, or float64 where the density is.
    """
    beta = block_duals(density, points, block_size_px)  # (B, h, w)
    density = density.to(beta.dtype)
    total = density.sum((1, 2), keepdim=True).clamp(min=LEAST_COUNT)
    cost = (density / total * beta).sum((1, 2))  # (B,)
    return cost - cost.detach()


@torch.no_grad()
def block_duals(
    density: Tensor, points: Sequence[Tensor], block_size_px: int, iterations: int = ITERATIONS
) -> Tensor:
    """β, the dual potential on the blocks, in px², after Sinkhorn's iterations with the floor.

    Parameters
    ----------
    density : (B, h, w), people per block, any scale; what is negative counts as zero
    points : B tensors (n_b, 2), x and y in pixels of the image; n_b may be 0
    block_size_px : r, the side of a block in pixels
    iterations : at most so many; an image ends earlier where every tenth finds it converged

    Returns
    -------
    (B, h, w); 0 for an image without people or density

    Raises
    ------
    ValueError : shapes that do not belong together; r not positive
    """
    _check(density, points, block_size_px)
    dtype = torch.float64 if density.dtype == torch.float64 else torch.float32
    density = density.to(dtype).clamp(min=0)
    position = torch.cat([p.to(density) for p in points])  # (P, 2), P = Σ n_b
    if not len(position):
        return torch.zeros_like(density)
    image = torch.cat([p.new_full((len(p),), b, dtype=torch.long) for b, p in enumerate(points)])
    a = torch.cat([position.new_full((len(p),), 1 / max(1, len(p))) for p in points])  # (P,)
    total = density.sum((1, 2), keepdim=True)  # (B, 1, 1)
    b = torch.where(total > 0, density / total, 0.0)
    times_k, times_kt = _kernel(position, image, density.shape, block_size_px)

    floor = b.new_full((), FLOOR)
    u, v = a, b
    final, done = b, torch.zeros_like(total, dtype=torch.bool)
    for iteration in range(iterations):
        reached = times_kt(u)  # (B, h, w)
        if iteration and iteration % CHECK_EVERY == 0:
            final = torch.where(done, final, v)
            done = done | ((reached * v - b).square().sum((1, 2), keepdim=True) <= TOLERANCE)
        v = b / reached.add_(floor)
        u = a / times_k(v).add_(floor)
    v = torch.where(done, final, v)
    crowded = torch.zeros_like(total).index_add_(0, image, torch.ones_like(a)[:, None, None]) > 0
    return torch.where(crowded & (total > 0), REGULARISATION * (v + FLOOR).log(), 0.0)


def _kernel(
    position: Tensor, image: Tensor, shape: torch.Size, r: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """v ↦ K v, (B, h, w) → (P,), and u ↦ Kᵀu, (P,) → (B, h, w), over all images.

    ``position`` (P, 2) holds x and y in pixels, ``image`` (P,) the image of each point, ``shape`` B, h, w.
    """
    batch, h, w = shape
    reach = math.ceil(math.sqrt(-LEAST_EXPONENT * REGULARISATION) / r - 0.5)  # blocks up and down
    kx = _factor(position[:, :1], torch.arange(w, device=position.device), r)  # (P, w)
    row = torch.arange(-reach, reach + 1, device=position.device) + (
        position[:, 1:] / r
    ).floor().long().clamp(0, h - 1)  # (P, 2·reach + 1)
    inside = (row >= 0) & (row < h)
    ky = torch.where(inside, _factor(position[:, 1:], row, r), 0.0)
    row = row.clamp(0, h - 1) + h * image[:, None]  # among the B·h rows of the batch

    # K's pairs of a point and a row of blocks, point by point; Kᵀ's are the same, row by row.
    of_point = torch.arange(0, row.numel(), row.shape[1], device=row.device)
    pairs, order = row.flatten().sort()
    of_row = torch.searchsorted(pairs, torch.arange(batch * h, device=row.device))
    point, weight = order // row.shape[1], ky.flatten()[order]
    row, ky = row.flatten(), ky.flatten()

    def times_k(v: Tensor) -> Tensor:
        across = F.embedding_bag(row, v.view(-1, w), of_point, mode="sum", per_sample_weights=ky)
        return across.mul_(kx).sum(1)  # (P, w) -> (P,)

    def times_kt(u: Tensor) -> Tensor:
        table = u[:, None] * kx  # (P, w)
        sums = F.embedding_bag(point, table, of_row, mode="sum", per_sample_weights=weight)
        return sums.view(batch, h, w)  # (B·h, w) -> (B, h, w)

    return times_k, times_kt


def _factor(position: Tensor, block: Tensor, r: int) -> Tensor:
    """One axis of K, exp(−(x − centre)²/ε): positions in px (P, 1), blocks (…, k) → (P, k)."""
    exponent = (position - (block + 0.5) * r).square() / -REGULARISATION
    return torch.where(exponent < LEAST_EXPONENT, 0.0, exponent.exp())


def _check(density: Tensor, points: Sequence[Tensor], block_size_px: int) -> None:
    """Refuse what does not belong together, saying why."""
    if density.ndim != 3 or density[:1].numel() == 0:
        raise ValueError(f"density is {tuple(density.shape)}; expected (B, h, w), none of them 0.")
    if len(points) != len(density):
        raise ValueError(
            f"{len(points)} sets of points for {len(density)} images: give one tensor an image, "
            "of shape (0, 2) where nobody is."
        )
    for b, positions in enumerate(points):
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise ValueError(
                f"points[{b}] is {tuple(positions.shape)}; expected (n, 2), columns x and y in pixels."
            )
    if not block_size_px > 0:
        raise ValueError(f"block_size_px is {block_size_px}; it must be above 0.")
