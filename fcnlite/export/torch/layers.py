"""Caffe's layers as functions of PyTorch tensors, gradients included; each reads its settings from the layer once.

A function takes its module, which holds the parameters, and the bottoms. It is a `partial` of a function of this
module, so that nets can be saved whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fcnlite.blob import Node
from fcnlite.export.windows import PoolingWindow

Function: TypeAlias = Callable[..., Any]
FUNCTIONS: dict[str, Callable[[Node], Function]] = {}  # by Caffe's type: reads a layer, gives its function
_LOWEST = float(np.finfo(np.float32).min)
_CONV: tuple[Any, ...] = (None, F.conv1d, F.conv2d, F.conv3d)
_MAX_POOL: tuple[Any, ...] = (None, F.max_pool1d, F.max_pool2d, F.max_pool3d)
_DECONV: tuple[Any, ...] = (None, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def reads(*types: str) -> Callable[[Callable[[Node], Function]], Callable[[Node], Function]]:
    """Decorate what reads the settings of some layer types."""

    def register(reader: Callable[[Node], Function]) -> Callable[[Node], Function]:
        FUNCTIONS.update(dict.fromkeys(types, reader))
        return reader

    return register


def _weights(module: Any) -> tuple[Tensor, Tensor | None]:
    return module.weight, getattr(module, "bias", None)


# Windows


@reads("Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def _read_window(node: Node) -> Function:
    layer: Any = node.layer
    window = layer.window
    if layer.channel_axis != 1 or not 1 <= window.axes <= 3:
        raise layer.fail("there is no PyTorch form of it with these axes")
    settings = {
        "stride": window.stride,
        "padding": window.pad,
        "dilation": window.dilation,
        "groups": layer.group,
    }
    function = _deconvolution if layer.type == "Deconvolution" else _convolution
    return partial(function, **settings)


def _convolution(module: Any, *bottoms: Tensor, **settings: Any) -> Any:
    convolve = _CONV[bottoms[0].dim() - 2]
    return tuple(convolve(bottom, *_weights(module), **settings) for bottom in bottoms)


def _deconvolution(module: Any, *bottoms: Tensor, **settings: Any) -> Any:
    deconvolve = _DECONV[bottoms[0].dim() - 2]
    return tuple(deconvolve(bottom, *_weights(module), **settings) for bottom in bottoms)


@reads("Im2col")
def _read_im2col(node: Node) -> Function:
    layer: Any = node.layer
    if layer.channel_axis != 1 or layer.window.axes != 2:
        raise layer.fail("there is no PyTorch form of it with these axes")
    return partial(_columns, window=layer.window)


def _columns(module: Any, x: Tensor, window: Any) -> Tensor:
    made = F.unfold(x, window.kernel, window.dilation, window.pad, window.stride)
    return made.reshape([*made.shape[:2], *window.output_size(x.shape[2:])])


@reads("Pooling")
def _read_pooling(node: Node) -> Function:
    layer: Any = node.layer
    average = not layer.is_max
    if layer.is_global:
        return _global_average if average else partial(_global_maximum, places=len(node.tops) > 1)
    window = PoolingWindow(layer)
    return (
        partial(_average, window=window)
        if average
        else partial(_maximum, window=window, places=len(node.tops) > 1)
    )


def _global_average(module: Any, x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def _global_maximum(module: Any, x: Tensor, places: bool) -> Any:
    top, index = x.flatten(2).max(2)
    shape = (*x.shape[:2], *[1] * (x.dim() - 2))
    return (top.reshape(shape), index.reshape(shape).to(x.dtype)) if places else top.reshape(shape)


def _padded(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float) -> Tensor:
    pads = [n for pair in zip(reversed(begin), reversed(end)) for n in pair]
    return F.pad(x, pads, value=value)


def _maximum(module: Any, x: Tensor, window: PoolingWindow, places: bool) -> Any:
    inside = _padded(x, window.pad, window.end, _LOWEST)
    pool = _MAX_POOL[x.dim() - 2]
    settings = {"stride": window.stride, "dilation": window.dilation}
    top, index = pool(inside, window.kernel, return_indices=True, **settings)
    if not places:
        return top
    width = inside.shape[3]
    y, across = index // width - window.pad[0], index % width - window.pad[1]
    return top, (y * x.shape[3] + across).to(x.dtype)


def _average(module: Any, x: Tensor, window: PoolingWindow) -> Tensor:
    """The sum over each window by that of ones over it; only the padding that hangs over does not count."""
    inside = _padded(x, window.pad, window.pad, 0)
    ones = torch.ones((1, 1, *inside.shape[2:]), dtype=x.dtype, device=x.device)
    zeros = [0] * len(window.overhang)
    total, count = (_sums(_padded(values, zeros, window.overhang, 0), window) for values in (inside, ones))
    return total / count


def _sums(x: Tensor, window: PoolingWindow) -> Tensor:
    if max(window.dilation) == 1 and x.dim() == 4:
        return F.avg_pool2d(x, window.kernel, window.stride, divisor_override=1)
    planes = x.reshape(-1, 1, *x.shape[2:])
    ones = torch.ones((1, 1, *window.kernel), dtype=x.dtype, device=x.device)
    sums = _CONV[x.dim() - 2](planes, ones, stride=window.stride, dilation=window.dilation)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


@reads("SPP")
def _read_pyramid(node: Node) -> Function:
    layer: Any = node.layer
    average = layer.param.spp_param.pool == layer.param.spp_param.AVE
    pooled = _average if average else partial(_maximum, places=False)
    return partial(_pyramid, levels=[partial(pooled, window=PoolingWindow(pool)) for pool in layer.pools])


def _pyramid(module: Any, x: Tensor, levels: Sequence[Function]) -> Tensor:
    maps = [level(module, x) for level in levels]
    return maps[0] if len(maps) == 1 else torch.cat([level.flatten(1) for level in maps], 1)


@reads("LRN")
def _read_lrn(node: Node) -> Function:
    p = node.layer.param.lrn_param
    size = int(p.local_size)
    if p.norm_region == p.ACROSS_CHANNELS:
        return partial(_lrn_across, size=size, alpha=p.alpha, beta=p.beta, k=p.k)
    return partial(_lrn_within, size=size, alpha=p.alpha, beta=p.beta)


def _lrn_across(module: Any, x: Tensor, **settings: Any) -> Tensor:
    return F.local_response_norm(x, **settings)


def _lrn_within(module: Any, x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    return x * (1 + alpha * F.avg_pool2d(x * x, size, 1, (size - 1) // 2)) ** -beta


# Value by value


def _apply(module: Any, *x: Tensor, function: Function, **settings: Any) -> Any:
    return function(*x, **settings)


_PLAIN: dict[str, Function] = {
    "Sigmoid": torch.sigmoid,
    "TanH": torch.tanh,
    "AbsVal": torch.abs,
    "BNLL": partial(F.softplus, threshold=50),
}


@reads(*_PLAIN)
def _read_plain(node: Node) -> Function:
    return partial(_apply, function=_PLAIN[node.layer.type])


@reads("ReLU")
def _read_relu(node: Node) -> Function:
    return partial(_apply, function=F.leaky_relu, negative_slope=node.layer.param.relu_param.negative_slope)


@reads("ELU")
def _read_elu(node: Node) -> Function:
    return partial(_apply, function=F.elu, alpha=node.layer.param.elu_param.alpha)


@reads("Clip")
def _read_clip(node: Node) -> Function:
    p = node.layer.param.clip_param
    return partial(_apply, function=torch.clamp, min=p.min, max=p.max)


@reads("PReLU")
def _read_prelu(node: Node) -> Function:
    return _prelu


def _prelu(module: Any, x: Tensor) -> Tensor:
    return F.prelu(x, module.weight.reshape(-1))


@reads("Swish")
def _read_swish(node: Node) -> Function:
    return partial(_swish, beta=node.layer.param.swish_param.beta)


def _swish(module: Any, x: Tensor, beta: float) -> Tensor:
    return x * torch.sigmoid(beta * x)


@reads("Threshold")
def _read_threshold(node: Node) -> Function:
    return partial(_threshold, limit=node.layer.param.threshold_param.threshold)


def _threshold(module: Any, x: Tensor, limit: float) -> Tensor:
    return (x > limit).to(x.dtype)


@reads("Power")
def _read_power(node: Node) -> Function:
    p = node.layer.param.power_param
    return partial(_power, power=p.power, scale=p.scale, shift=p.shift)


def _power(module: Any, x: Tensor, power: float, scale: float, shift: float) -> Tensor:
    if power * scale == 0:
        return torch.full_like(x, float(np.float32(shift) ** np.float32(power)))
    base = shift + scale * x
    return base if power == 1 else base**power


@reads("Exp")
def _read_exp(node: Node) -> Function:
    p = node.layer.param.exp_param
    log_base = 1.0 if p.base == -1 else math.log(p.base)
    return partial(_exp, inner=log_base * p.scale, outer=math.exp(log_base * p.shift))


def _exp(module: Any, x: Tensor, inner: float, outer: float) -> Tensor:
    return outer * torch.exp(inner * x)


@reads("Log")
def _read_log(node: Node) -> Function:
    p = node.layer.param.log_param
    return partial(_log, factor=1.0 if p.base == -1 else 1 / math.log(p.base), scale=p.scale, shift=p.shift)


def _log(module: Any, x: Tensor, factor: float, scale: float, shift: float) -> Tensor:
    return factor * torch.log(shift + scale * x)


@reads("Dropout")
def _read_dropout(node: Node) -> Function:
    return partial(_dropout, ratio=node.layer.param.dropout_param.dropout_ratio)


def _dropout(module: Any, x: Tensor, ratio: float) -> Tensor:
    return F.dropout(x, ratio, module.training)


@reads("Split")
def _read_split(node: Node) -> Function:
    return partial(_same, count=len(node.tops))


def _same(module: Any, x: Tensor, count: int) -> tuple[Tensor, ...]:
    return (x,) * count


@reads("Eltwise")
def _read_eltwise(node: Node) -> Function:
    p = node.layer.param.eltwise_param
    if p.operation == p.MAX:
        return _largest
    return partial(_eltwise, operation=p.EltwiseOp.Name(p.operation), factors=list(p.coeff))


def _eltwise(module: Any, *x: Tensor, operation: str, factors: Sequence[float]) -> Tensor:
    terms = [factor * each for factor, each in zip(factors, x)] if factors else list(x)
    total = terms[0]
    for term in terms[1:]:
        total = total + term if operation == "SUM" else total * term
    return total


def _largest(module: Any, first: Tensor, second: Tensor, *others: Tensor) -> Tensor:
    """The maximum; the gradient of equal ones goes to the second bottom rather than the first, as in Caffe."""
    total = torch.where(first > second, first, second)
    for other in others:
        total = torch.where(other > total, other, total)
    return total


@reads("Scale")
def _read_scale(node: Node) -> Function:
    p = node.layer.param.scale_param
    return partial(_scale, axis=p.axis, with_bias=p.bias_term)


def _scale(module: Any, x: Tensor, *factor: Tensor, axis: int, with_bias: bool) -> Tensor:
    top = x * _aligned(x, factor[0] if factor else module.weight, axis)
    return top + _aligned(x, module.bias, axis) if with_bias else top


@reads("Bias")
def _read_bias(node: Node) -> Function:
    return partial(_bias, axis=node.layer.param.bias_param.axis)


def _bias(module: Any, x: Tensor, *bias: Tensor, axis: int) -> Tensor:
    return x + _aligned(x, bias[0] if bias else module.bias, axis)


def _aligned(x: Tensor, operand: Tensor, axis: int) -> Tensor:
    """The operand with axes of 1 behind it, so that it meets `x` from `axis` on."""
    behind = x.dim() - axis % x.dim() - operand.dim() if operand.dim() else 0
    return operand.reshape([*operand.shape, *[1] * behind])


@reads("BatchNorm")
def _read_batch_norm(node: Node) -> Function:
    p = node.layer.param.batch_norm_param
    by_net = p.use_global_stats if p.HasField("use_global_stats") else None
    return partial(_batch_norm, eps=p.eps, fraction=p.moving_average_fraction, by_net=by_net)


def _batch_norm(module: Any, x: Tensor, eps: float, fraction: float, by_net: bool | None) -> Tensor:
    """By the moving sums or, in training, by the batch, whose statistics then enter the sums."""
    if by_net if by_net is not None else not module.training:
        divisor = torch.where(module.scale_factor == 0, 1, module.scale_factor)
        known = module.scale_factor != 0
        mean, variance = module.mean / divisor * known, module.variance / divisor * known
    else:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean, variance = x.mean(axes), x.var(axes, correction=0)
        members = x.numel() // x.shape[1]
        unbiased = variance * (members / max(members - 1, 1))
        with torch.no_grad():
            for total, value in ((module.mean, mean), (module.variance, unbiased), (module.scale_factor, 1)):
                total.mul_(fraction).add_(value)
    deviation = torch.sqrt(variance + eps)
    return (x - _aligned(x, mean, 1)) / _aligned(x, deviation, 1)


@reads("MVN")
def _read_mvn(node: Node) -> Function:
    p = node.layer.param.mvn_param
    return partial(_mvn, first=1 if p.across_channels else 2, eps=p.eps, normalize=p.normalize_variance)


def _mvn(module: Any, x: Tensor, first: int, eps: float, normalize: bool) -> Tensor:
    axes = list(range(first, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (torch.sqrt((centred**2).mean(axes, keepdim=True)) + eps) if normalize else centred


@reads("Softmax")
def _read_softmax(node: Node) -> Function:
    return partial(_apply, function=F.softmax, dim=node.layer.param.softmax_param.axis)


# Shapes


@reads("Crop")
def _read_crop(node: Node) -> Function:
    layer: Any = node.layer
    first = layer.param.crop_param.axis % len(node.bottoms[0].shape)
    return partial(_crop, first=first, offsets=layer.offsets[first:])


def _crop(module: Any, x: Tensor, like: Tensor, first: int, offsets: Sequence[int]) -> Tensor:
    for axis, offset in enumerate(offsets, first):
        x = x.narrow(axis, offset, like.shape[axis])
    return x


@reads("Concat")
def _read_concat(node: Node) -> Function:
    p = node.layer.param.concat_param
    return partial(_concat, axis=int(p.concat_dim if p.HasField("concat_dim") else p.axis))


def _concat(module: Any, *x: Tensor, axis: int) -> Tensor:
    return torch.cat(x, axis)


@reads("Slice")
def _read_slice(node: Node) -> Function:
    p = node.layer.param.slice_param
    axis = int(p.slice_dim if p.HasField("slice_dim") else p.axis)
    return partial(_slice, axis=axis, points=[int(n) for n in p.slice_point], parts=len(node.tops))


def _slice(module: Any, x: Tensor, axis: int, points: Sequence[int], parts: int) -> tuple[Tensor, ...]:
    return torch.tensor_split(x, list(points) if points else parts, axis)


@reads("Tile")
def _read_tile(node: Node) -> Function:
    p, rank = node.layer.param.tile_param, len(node.bottoms[0].shape)
    return partial(
        _apply, function=torch.tile, dims=[p.tiles if i == p.axis % rank else 1 for i in range(rank)]
    )


@reads("Flatten")
def _read_flatten(node: Node) -> Function:
    p = node.layer.param.flatten_param
    return partial(_apply, function=torch.flatten, start_dim=p.axis, end_dim=p.end_axis)


@reads("Reshape")
def _read_reshape(node: Node) -> Function:
    p = node.layer.param.reshape_param
    return partial(_reshape, axis=p.axis, count=p.num_axes, dims=list(p.shape.dim))


def _reshape(module: Any, x: Tensor, axis: int, count: int, dims: Sequence[int]) -> Tensor:
    first = axis if axis >= 0 else x.dim() + 1 + axis
    end = x.dim() if count == -1 else first + count
    kept = [dim or x.shape[first + i] for i, dim in enumerate(dims)]
    return x.reshape(*x.shape[:first], *kept, *x.shape[end:])


@reads("InnerProduct")
def _read_inner_product(node: Node) -> Function:
    p = node.layer.param.inner_product_param
    return partial(_inner_product, axis=p.axis % len(node.bottoms[0].shape), transposed=p.transpose)


def _inner_product(module: Any, x: Tensor, axis: int, transposed: bool) -> Tensor:
    weight, bias = _weights(module)
    return F.linear(x.reshape(*x.shape[:axis], -1), weight.T if transposed else weight, bias)


@reads("Reduction")
def _read_reduction(node: Node) -> Function:
    p = node.layer.param.reduction_param
    first = p.axis % len(node.bottoms[0].shape)
    return partial(_reduction, first=first, operation=p.ReductionOp.Name(p.operation), factor=p.coeff)


def _reduction(module: Any, x: Tensor, first: int, operation: str, factor: float) -> Tensor:
    rows = x.reshape(*x.shape[:first], -1)
    if operation == "MEAN":
        return factor * rows.mean(-1)
    terms = {"SUM": rows, "ASUM": rows.abs(), "SUMSQ": rows * rows}[operation]
    return factor * terms.sum(-1)


@reads("ArgMax")
def _read_argmax(node: Node) -> Function:
    p = node.layer.param.argmax_param
    axis = p.axis % len(node.bottoms[0].shape) if p.HasField("axis") else None
    return partial(_argmax, axis=axis, count=int(p.top_k), values=p.out_max_val)


def _argmax(module: Any, x: Tensor, axis: int | None, count: int, values: bool) -> Tensor:
    """Of equal values the later, as in Caffe: a stable order of the axis turned round."""
    rows = x.flatten(1) if axis is None else x
    along = 1 if axis is None else axis
    largest, places = torch.sort(rows.flip(along), dim=along, descending=True, stable=True)
    largest, places = largest.narrow(along, 0, count), rows.shape[along] - 1 - places.narrow(along, 0, count)
    if axis is not None:
        return largest if values else places.to(x.dtype)
    top = torch.stack([places.to(x.dtype), largest] if values else [places.to(x.dtype)], 1)
    return top.reshape(*top.shape, *[1] * (max(x.dim(), 3) - 3))


@reads("Embed")
def _read_embed(node: Node) -> Function:
    return _embed


def _embed(module: Any, x: Tensor) -> Tensor:
    weight, bias = _weights(module)
    rows = F.embedding(x.long(), weight)
    return rows if bias is None else rows + bias


@reads("BatchReindex")
def _read_batch_reindex(node: Node) -> Function:
    return _batch_reindex


def _batch_reindex(module: Any, x: Tensor, index: Tensor) -> Tensor:
    return x[index.long()]


@reads("Filter")
def _read_filter(node: Node) -> Function:
    return _filter


def _filter(module: Any, *x: Tensor) -> tuple[Tensor, ...]:
    chosen = x[-1].reshape(-1) != 0
    return tuple(each[chosen] for each in x[:-1])


@reads("DummyData")
def _read_dummy_data(node: Node) -> Function:
    return partial(_constants, count=len(node.tops))


def _constants(module: Any, count: int) -> tuple[Tensor, ...]:
    return tuple(getattr(module, f"top_{i}") for i in range(count))


@reads("Parameter")
def _read_parameter(node: Node) -> Function:
    return _parameter


def _parameter(module: Any) -> Tensor:
    return module.weight
