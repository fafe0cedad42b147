"""Layers that only Caffe's forks have, as functions of PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fcnlite.blob import Node
from fcnlite.export.torch.layers import Function, reads


@reads("Axpy")
def _read_axpy(node: Node) -> Function:
    return _axpy


def _axpy(module: Any, factor: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return factor.reshape([*x.shape[:2], *[1] * (x.dim() - 2)]) * x + y


@reads("BN")
def _read_bn(node: Node) -> Function:
    layer: Any = node.layer
    if layer.affine_only:
        return _affine
    p = layer.param.bn_param
    if layer.is_segnet:
        return partial(_bn_by_batch, eps=layer.eps)
    return partial(_bn, eps=layer.eps, momentum=p.momentum, frozen=p.frozen)


def _affine(module: Any, x: Tensor) -> Tensor:
    shape = [x.shape[1], *[1] * (x.dim() - 2)]
    return module.weight.reshape(shape) * x + module.bias.reshape(shape)


def _normalised(module: Any, x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    shape = [x.shape[1], *[1] * (x.dim() - 2)]
    return _affine(module, (x - mean.reshape(shape)) / torch.sqrt(variance.reshape(shape) + eps))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    return x.mean(axes), x.var(axes, correction=0)


def _bn_by_batch(module: Any, x: Tensor, eps: float) -> Tensor:
    return _normalised(module, x, *_statistics(x), eps)


def _bn(module: Any, x: Tensor, eps: float, momentum: float, frozen: bool) -> Tensor:
    """By the moving statistics or, in training, by the batch's, which then enter them."""
    if frozen or not module.training:
        return _normalised(module, x, module.mean, module.variance, eps)
    mean, variance = _statistics(x)
    with torch.no_grad():
        for held, value in ((module.mean, mean), (module.variance, variance)):
            held.mul_(momentum).add_((1 - momentum) * value.reshape(held.shape))
    return _normalised(module, x, mean, variance, eps)


@reads("Interp")
def _read_interp(node: Node) -> Function:
    p = node.layer.param.interp_param
    shrinks, zooms = p.HasField("shrink_factor"), p.HasField("zoom_factor")
    pads = (p.pad_beg, p.pad_end)
    if p.HasField("height") and p.HasField("width") and shrinks == zooms:
        return partial(_interp, pads=pads, size=(p.height, p.width))
    factors = (p.shrink_factor, p.zoom_factor) if shrinks or zooms else None
    return partial(_interp, pads=pads, factors=factors)


def _interp(
    module: Any,
    x: Tensor,
    *like: Tensor,
    pads: tuple[int, int],
    size: Sequence[int] | None = None,
    factors: tuple[int, int] | None = None,
) -> Tensor:
    inside = F.pad(x, [*pads, *pads])  # they are negative
    if factors is not None:
        size = [(n - 1) // factors[0] * factors[1] + 1 for n in inside.shape[2:]]
    wanted = list(size if size is not None else like[0].shape[2:])
    return F.interpolate(inside, size=wanted, mode="bilinear", align_corners=True)


@reads("Normalize")
def _read_normalize(node: Node) -> Function:
    p = node.layer.param.norm_param
    return partial(_normalize, across=p.across_spatial, eps=p.eps)


def _normalize(module: Any, x: Tensor, across: bool, eps: float) -> Tensor:
    axes = list(range(1, x.dim())) if across else [1]
    scale = module.weight
    if scale.dim():
        scale = scale.reshape([-1, *[1] * (x.dim() - 2)])
    return scale * x / torch.sqrt((x * x).sum(axes, keepdim=True) + eps)


@reads("Permute")
def _read_permute(node: Node) -> Function:
    layer: Any = node.layer
    return partial(_permute, order=list(layer.order))


def _permute(module: Any, x: Tensor, order: Sequence[int]) -> Tensor:
    return x.permute(order)


@reads("Upsample")
def _read_upsample(node: Node) -> Function:
    layer: Any = node.layer
    p = layer.param.upsample_param
    return partial(_upsample, fixed=layer.fixed, scale=layer.scale, less=(int(p.pad_out_h), int(p.pad_out_w)))


def _upsample(
    module: Any,
    x: Tensor,
    mask: Tensor,
    fixed: tuple[int, int] | None,
    scale: Sequence[int],
    less: Sequence[int],
) -> Tensor:
    size = fixed or [n * factor - pad for n, factor, pad in zip(x.shape[2:], scale, less)]
    planes = x.new_zeros([*x.shape[:2], size[0] * size[1]])
    return planes.scatter(2, mask.flatten(2).long(), x.flatten(2)).reshape([*x.shape[:2], *size])
