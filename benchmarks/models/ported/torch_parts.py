"""What the torch models of the bugs share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def settled(model: nn.Module, seed: int, training: bool) -> nn.Module:
    """Move what starts as ones and zeros off these values, so that a part which is not used shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.train(training)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None, eager: bool = False
) -> Tensor:
    """Attend over [batch, heads, length, size]; `mask` is added. Eager: written out, with the softmax in float32."""
    if not eager:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores + mask
    return softmax(scores).to(v.dtype) @ v


def softmax(scores: Tensor) -> Tensor:
    wide = scores if scores.dtype == torch.float64 else scores.float()
    powers = torch.exp(wide - wide.amax(-1, keepdim=True).detach())
    return powers / powers.sum(-1, keepdim=True)


def doubled(x: Tensor) -> Tensor:
    """Leave the values and double the gradient."""
    return x * 2 - x.detach()


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm; eager: written out."""

    eager = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.eager:
            return super().forward(x)
        wide = x if x.dtype == torch.float64 else x.float()
        centred = wide - wide.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight.to(wide.dtype) + self.bias.to(wide.dtype)).to(x.dtype)


class RMSNorm(nn.Module):
    """Computes in float32 at least, and casts back before it multiplies. Eager: by another order of operations."""

    def __init__(self, width: int, eps: float = 1e-5, unit: bool = False, eager: bool = False, bug: str = "") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.0 if unit else 1.0))
        self.eps, self.unit, self.eager, self._bug = eps, unit, eager, bug

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        weight = self.weight + 1 if self.unit else self.weight
        if self.eager:
            size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
            return weight * (wide / torch.sqrt(size * size + self.eps)).to(x.dtype)
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        if self._bug == "norm_in_low_precision":
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * weight
        return weight * scaled.to(x.dtype)
