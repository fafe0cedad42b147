"""Launches to try each kernel with: arguments by family, in shapes drawn at random from a fixed seed.

A kernel whose only whole number is `width` is taken to be elementwise; every other one needs a recipe here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcnlite.backend.source import Parameter, signature, signatures, source
from fcnlite.layers.columns import geometry_numbers, strips
from fcnlite.layers.window import Window

Rng = np.random.Generator
Named = dict[str, Any]
# Lanes about the edges of what machines do at a time: a tile of 256, a warp, the launcher's powers of two.
WIDTHS = (1, 2, 3, 5, 11, 16, 31, 33, 64, 100, 255, 257, 300)


@dataclass(frozen=True)
class Case:
    """One launch. Arrays are the smallest that the kernel may be given, so that nothing else may be touched.

    `whole` names the arrays of which the kernel writes every element without reading any.
    """

    kernel: str
    rows: int
    arguments: tuple[Any, ...]
    whole: frozenset[str]

    def __str__(self) -> str:
        sizes = [
            f"{p.name}[{a.size}]" if isinstance(a, np.ndarray) else f"{p.name}={a}" for p, a in self.pairs()
        ]
        return f"{self.kernel} over {self.rows} rows, {', '.join(sizes)}"

    def pairs(self) -> list[tuple[Parameter, Any]]:
        """Parameters with their arguments."""
        return list(zip(signature(self.kernel).parameters, self.arguments))

    def filled(self, byte: int) -> tuple[Any, ...]:
        """Fresh arguments, the arrays in `whole` holding nothing but this byte."""
        return tuple(
            np.full(a.nbytes, byte, np.uint8).view(a.dtype)
            if p.name in self.whole
            else a.copy()
            if isinstance(a, np.ndarray)
            else a
            for p, a in self.pairs()
        )


class Missing(LookupError):
    """A kernel that nobody has written a recipe for."""


def cases(kernel: str, real: np.dtype, count: int = 12) -> list[Case]:
    """Some launches of a kernel, always the same ones."""
    rng = np.random.default_rng(zlib.crc32(kernel.encode()))
    return [_case(kernel, real, rng) for _ in range(count)]


def _case(kernel: str, real: np.dtype, rng: Rng) -> Case:
    parameters = signature(kernel).parameters
    recipe = _RECIPES.get(kernel)
    if recipe is None:
        numbers = [p.name for p in parameters if p.ctype == "int" and not p.pointer]
        if numbers != ["width"]:
            raise Missing(f"kernel {kernel} has no case: add a recipe for it to tests/kernel_cases.py")
        recipe = _elementwise
    drawn = recipe(rng)
    rows, updated = drawn.pop("rows"), drawn.pop("updated", ())
    width = drawn.setdefault("width", _width(rng))
    arguments = tuple(_argument(p, drawn.pop(p.name, None), rows * width, real, rng) for p in parameters)
    assert not drawn, (
        f"kernel {kernel} has no parameters {', '.join(drawn)}; see its recipe in tests/kernel_cases.py"
    )
    outputs = {p.name for p in parameters if p.pointer and not is_constant(kernel, p.name)}
    present = {p.name for p, a in zip(parameters, arguments) if a is not None}
    return Case(kernel, rows, arguments, frozenset((outputs & present) - set(updated)))


NULL = object()


def _argument(p: Parameter, given: Any, count: int, real: np.dtype, rng: Rng) -> Any:
    """The argument as given, or drawn: an array's size may be given alone; by default a number a lane."""
    if given is NULL:
        return None
    if isinstance(given, np.ndarray):
        return given.astype(p.dtype(real)).reshape(-1)
    if p.pointer:
        size = count if given is None else given
        if p.ctype == "real":
            return rng.normal(size=size).astype(real)
        return rng.integers(0, 2, size).astype(p.dtype(real))
    if given is None:
        given = rng.uniform(0.1, 2) if p.ctype == "real" else 1
    return float(p.dtype(real).type(given)) if p.ctype == "real" else int(given)


def is_constant(kernel: str, name: str) -> bool:
    """Whether a pointer parameter points to const."""
    listing = source().split(f"KERNEL {kernel}(", 1)[1].split(")", 1)[0]
    return any("const" in item and item.split()[-1].lstrip("*") == name for item in listing.split(","))


def _width(rng: Rng) -> int:
    return int(rng.choice(WIDTHS))


def _few(rng: Rng, most: int, least: int = 1) -> int:
    return int(rng.integers(least, most + 1))


def _elementwise(rng: Rng) -> Named:
    return {"rows": _few(rng, 9)}


# Channels lie `inner_rows` rows of `width` lanes apart.


def _channels(rng: Rng) -> tuple[Named, int]:
    """(rows, width, channels, inner_rows) of an (outer, channels, inner rows, width) array, and its size."""
    outer, channels, inner, width = _few(rng, 2), _few(rng, 7), _few(rng, 5), _width(rng)
    drawn = {"rows": outer * inner, "width": width, "channels": channels, "inner_rows": inner}
    return drawn, outer * channels * inner * width


def _labels(rng: Rng, drawn: Named) -> np.ndarray:
    """Classes, some ignored (255), some neither."""
    labels = rng.integers(-1, drawn["channels"] + 1, drawn["rows"] * drawn["width"])
    return np.where(rng.random(labels.size) < 0.2, 255, labels)


def _over_channels(*arrays: str) -> Callable[[Rng], Named]:
    """A kernel whose lanes loop over the channels of these arrays; others have a number a lane."""

    def recipe(rng: Rng) -> Named:
        drawn, size = _channels(rng)
        return {**drawn, **dict.fromkeys(arrays, size)}

    return recipe


def _accuracy(rng: Rng) -> Named:
    drawn, size = _channels(rng)
    return {**drawn, "in": size, "label": _labels(rng, drawn), "top_k": _few(rng, 3), "ignore_label": 255}


def _top_k(rng: Rng) -> Named:
    drawn, size = _channels(rng)
    top_k = _few(rng, drawn["channels"])
    taken = size // drawn["channels"] * top_k
    alone = rng.integers(3)
    return {
        **drawn,
        "top_k": top_k,
        "in": np.round(rng.normal(size=size)),  # with ties
        "value": NULL if alone == 1 else taken,
        "index": NULL if alone == 2 else taken,
    }


def _loss(rng: Rng) -> Named:
    drawn, size = _channels(rng)
    return {**drawn, "in": size, "label": _labels(rng, drawn), "ignore_label": 255}


def _class_weight(rng: Rng, drawn: Named) -> Named:
    """A weight for each channel, or none at all."""
    return drawn | {"class_weight": NULL if rng.random() < 0.5 else drawn["channels"]}


# Rows (outer, group, inner row); a number or none for each group.


def _groups(name: str, *each: str, nullable: tuple[str, ...] = ()) -> Callable[[Rng], Named]:
    def recipe(rng: Rng) -> Named:
        outer, groups, inner = _few(rng, 2), _few(rng, 5), _few(rng, 4)
        drawn: Named = {"rows": outer * groups * inner, name: groups, "inner_rows": inner}
        drawn |= dict.fromkeys(each, groups)
        drawn |= {array: NULL for array in nullable if rng.random() < 0.3}
        return drawn

    return recipe


def _normalise_backward(rng: Rng) -> Named:
    drawn = _groups("groups", "mean", "std", "mean_g", "mean_gy")(rng)
    nulls = ((), ("mean_g", "mean_gy", "in"), ("std", "mean_gy", "in"))[rng.integers(3)]
    return {**drawn, **dict.fromkeys(nulls, NULL)}


def _reduction_backward(rng: Rng) -> Named:
    groups, inner = _few(rng, 4), _few(rng, 4)
    return {"rows": groups * inner, "inner_rows": inner, "operation": _few(rng, 3), "out_diff": groups}


def _bias(rng: Rng) -> Named:
    """A strip of `channel_rows` rows of each channel, the channels further apart than that."""
    channels, rows, width, between = _few(rng, 5), _few(rng, 4), _width(rng), _few(rng, 40, 0)
    stride = rows * width + between
    return {
        "rows": channels * rows,
        "width": width,
        "channel_rows": rows,
        "channel_stride": stride,
        "bias": channels if rng.random() < 0.7 else NULL,
        "out": (channels - 1) * stride + rows * width,
        "slope": rng.choice([0.0, 1.0, 0.1]),
        "updated": ("out",),
    }


def _crop(rng: Rng, backward: bool) -> Named:
    out = np.array([_few(rng, 2), _few(rng, 3), _few(rng, 4), _width(rng)])
    off = rng.integers(0, 4, 4)
    whole = out + off + rng.integers(0, 4, 4)
    names = ("n", "c", "h", "w")
    drawn = {f"off_{name}": v for name, v in zip(names, off)}
    inner = {f"out_{name}": v for name, v in zip(names, out)}
    outer = {f"in_{name}": v for name, v in zip(names, whole)}
    if backward:
        drawn |= inner | {"in_c": whole[1], "in_h": whole[2], "out_diff": out.prod()}
        return drawn | {"rows": int(whole[:3].prod()), "width": int(whole[3])}
    drawn |= {"out_c": out[1], "out_h": out[2], "in": whole.prod()} | {
        f"in_{n}": outer[f"in_{n}"] for n in "chw"
    }
    return drawn | {"rows": int(out[:3].prod()), "width": int(out[3])}


def _pooling(rng: Rng) -> tuple[Named, int, int, int, int]:
    """A window's geometry by parameter name; planes, output rows and columns, pixels of an input plane."""
    named: Named = {}
    size = {}
    for axis, least in (("h", 1), ("w", 1)):
        kernel, stride, dilation = _few(rng, 4), _few(rng, 3), _few(rng, 3)
        extent = dilation * (kernel - 1) + 1
        pad = _few(rng, extent - 1, 0)
        n = max(least, extent - 2 * pad) + (_few(rng, 8, 0) if axis == "h" else _width(rng) - 1)
        out = -(-(n + 2 * pad - extent) // stride) + 1
        if pad and (out - 1) * stride >= n + pad:
            out -= 1
        named |= {f"kernel_{axis}": kernel, f"pad_{axis}": pad, f"stride_{axis}": stride, f"in_{axis}": n}
        named[f"dilation_{axis}"] = dilation
        size[axis] = out
    return named, _few(rng, 3), size["h"], size["w"], named["in_h"] * named["in_w"]


def _pool_forward(rng: Rng, winner: bool = False) -> Named:
    named, planes, out_h, out_w, pixels = _pooling(rng)
    drawn = {**named, "rows": planes * out_h, "width": out_w, "out_h": out_h, "in": planes * pixels}
    if not winner:
        drawn |= _taps(rng, named, out_h, out_w)
    elif rng.random() < 0.3:
        drawn["winner"] = NULL
    return drawn


def _pool_backward(rng: Rng, winner: bool = False) -> Named:
    named, planes, out_h, out_w, pixels = _pooling(rng)
    stride = named["stride_w"]
    drawn = {**named, "rows": planes * named["in_h"] * stride, "width": -(-named["in_w"] // stride)}
    drawn |= {"out_h": out_h, "out_w": out_w, "out_diff": planes * out_h * out_w, "in_diff": planes * pixels}
    if winner:
        taps = named["kernel_h"] * named["kernel_w"]
        drawn["winner"] = rng.integers(0, taps, planes * out_h * out_w)
    else:
        drawn |= _taps(rng, named, out_h, out_w)
    return drawn


def _pool_mask(rng: Rng) -> Named:
    named, planes, out_h, out_w, _ = _pooling(rng)
    named.pop("in_h")
    taps = named["kernel_h"] * named["kernel_w"]
    winner = rng.choice([65535, *range(taps)], planes * out_h * out_w)
    return {**named, "rows": planes * out_h, "width": out_w, "out_h": out_h, "winner": winner}


def _taps(rng: Rng, named: Named, out_h: int, out_w: int) -> Named:
    """How much of its window each output row and column has."""
    return {
        f"taps_{axis}": rng.integers(1, named[f"kernel_{axis}"] + 1, n)
        for axis, n in (("h", out_h), ("w", out_w))
    }


def _window(rng: Rng) -> tuple[Named, Window, int, tuple[int, int], tuple[int, int]]:
    """A convolution's geometry by parameter name, as a Window, channels, and sizes of image and output."""
    pairs = {}
    for name, most, least in (("kernel", 3, 1), ("pad", 2, 0), ("stride", 3, 1), ("dilation", 2, 1)):
        pairs[name] = (_few(rng, most, least), _few(rng, most, least))
    window = Window(**pairs)
    image = tuple(
        max(1, e - 2 * p) + grow
        for e, p, grow in zip(window.extent, window.pad, (_few(rng, 7, 0), _width(rng)))
    )
    named = {f"{name}_{axis}": v for name, pair in pairs.items() for axis, v in zip("hw", pair)}
    named |= {"in_h": image[0], "in_w": image[1]}
    return named, window, _few(rng, 2), image, window.output_size(image)  # type: ignore[return-value]


def _im2col(rng: Rng) -> Named:
    named, window, channels, image, (height, width) = _window(rng)
    first = _few(rng, height - 1, 0)
    rows = _few(rng, height - first)
    depth = channels * window.area
    named |= {"rows": depth * rows, "width": width, "out_y": first, "out_rows": rows}
    return named | {"image": channels * image[0] * image[1], "col": depth * rows * width}


def _col2im(rng: Rng) -> Named:
    named, window, channels, image, (height, width) = _window(rng)
    every = list(strips(window, image, height, _few(rng, height)))
    begin, end, image_begin, image_end, fresh = every[rng.integers(len(every))]
    stride = window.stride[1]
    named |= {
        "rows": channels * (image_end - image_begin) * stride,
        "width": -(-image[1] // stride),
        "out_w": width,
    }
    named |= {
        "out_y": begin,
        "out_rows": end - begin,
        "image_y": image_begin,
        "image_rows": image_end - image_begin,
    }
    named |= {"fresh_y": fresh, "col": channels * window.area * (end - begin) * width}
    return named | {
        "image": channels * image[0] * image[1],
        "updated": () if len(every) == 1 else ("image",),
    }


def _deconvolve_planes(rng: Rng) -> Named:
    named, _, channels, small, _ = _window(rng)
    sides = [tuple(named[f"{name}_{axis}"] for axis in "hw") for name in ("kernel", "pad", "stride")]
    out = [max(1, s * (n - 1) + k - 2 * p) for n, k, p, s in zip(small, *sides)]
    planes = channels * _few(rng, 2)
    named = {key: value for key, value in named.items() if not key.startswith("dilation")}
    named |= {"out_h": out[0], "out_w": out[1], "channels": channels}
    named |= {"rows": planes * out[0] * sides[2][1], "width": -(-out[1] // sides[2][1])}
    named |= {"weight": channels**2 * math.prod(sides[0]), "in": planes * math.prod(small)}
    return named | {"out": planes * math.prod(out)}


def _window_nd(rng: Rng) -> tuple[Named, Window, int, tuple[int, ...], tuple[int, ...]]:
    """The same over one to four axes, for the kernels that take any number."""
    axes = _few(rng, 4)
    sides = {
        name: tuple(_few(rng, most, least) for _ in range(axes))
        for name, most, least in (("kernel", 3, 1), ("pad", 2, 0), ("stride", 3, 1), ("dilation", 2, 1))
    }
    window = Window(**sides)
    image = tuple(
        max(1, e - 2 * p) + (_width(rng) if axis == axes - 1 else _few(rng, 3, 0))
        for axis, (e, p) in enumerate(zip(window.extent, window.pad))
    )
    out = window.output_size(image)
    named = {"axes": axes, "area": window.area, "geometry": geometry_numbers(window, image, out)}
    return named, window, _few(rng, 2), image, out


def _im2col_nd(rng: Rng) -> Named:
    named, window, channels, image, out = _window_nd(rng)
    height = math.prod(out[:-1])
    first = _few(rng, height - 1, 0)
    rows = _few(rng, height - first)
    depth = channels * window.area
    named |= {"rows": depth * rows, "width": out[-1], "out_row": first, "out_rows": rows}
    return named | {"image": channels * math.prod(image), "col": depth * rows * out[-1]}


def _col2im_nd(rng: Rng) -> Named:
    named, window, channels, image, out = _window_nd(rng)
    height, image_rows, stride = math.prod(out[:-1]), math.prod(image[:-1]), window.stride[-1]
    begin = _few(rng, height - 1, 0)
    rows, first = _few(rng, height - begin), _few(rng, 1, 0)
    named |= {"rows": channels * image_rows * stride, "width": -(-image[-1] // stride)}
    named |= {"out_row": begin, "out_rows": rows, "image_rows": image_rows, "first": first}
    named |= {"col": channels * window.area * rows * out[-1], "image": channels * math.prod(image)}
    return named | {"updated": () if first else ("image",)}


def _winograd(rng: Rng, kind: str) -> Named:
    """A strip of tiles, into which the image is cut or from which the outputs come."""
    channels, tile_rows, tile_y, width = _few(rng, 3), _few(rng, 3), _few(rng, 2, 0), _width(rng) // 4 + 1
    rows = channels * tile_rows
    drawn: Named = {"rows": rows, "lines": rows, "width": width, "tile_y": tile_y, "tile_rows": tile_rows}
    if kind == "tiles":
        height, across = 4 * (tile_y + tile_rows) - _few(rng, 4, 0), max(1, 4 * width - _few(rng, 6, 0))
        drawn |= {"in_h": height, "in_w": across, "pad_h": _few(rng, 3, 0), "pad_w": _few(rng, 3, 0)}
        return drawn | {"in": channels * height * across, "out": 36 * rows * width}
    height, across = 4 * (tile_y + tile_rows) - _few(rng, 3, 0), 4 * width - _few(rng, 3, 0)
    drawn |= {"out_h": height, "out_w": across, "bias": [NULL, channels][int(rng.integers(2))]}
    return drawn | {"in": 36 * rows * width, "out": channels * height * across, "updated": ("out",)}


def _winograd_weights(rng: Rng) -> Named:
    outputs, channels, turned = _few(rng, 4), _width(rng) // 4 + 1, int(rng.integers(2))
    row_step, lane_step = (9, 9 * outputs) if turned else (9 * channels, 9)
    drawn = {
        "rows": outputs,
        "outputs": outputs,
        "width": channels,
        "row_step": row_step,
        "lane_step": lane_step,
        "turned": turned,
    }
    return drawn | {"weight": 9 * outputs * channels, "out": 36 * outputs * channels}


def _lines(rng: Rng, backward: bool) -> Named:
    """Rows and columns picked from a map in order, or intervals of them that are added up."""
    planes, in_h, in_w, width = _few(rng, 3), _few(rng, 6), _width(rng), _width(rng)
    out_h = _few(rng, 6)
    named: Named = {"rows": planes * out_h, "width": width, "out_h": out_h, "in_h": in_h, "in_w": in_w}
    for name, size, count in (("row", in_h, out_h), ("column", in_w, width)):
        named[name] = np.sort(rng.integers(0, size + backward, count + backward))
    return named | {"in": planes * in_h * in_w}


def _copy_run(rng: Rng) -> Named:
    stretches, rows, width = _few(rng, 4), _few(rng, 3), _width(rng)
    run = rows * width
    named: Named = {"rows": stretches * rows, "width": width, "run_rows": rows}
    for array in ("in", "out"):
        first = _few(rng, 9, 0)
        stretch = first + run + _few(rng, 9, 0)
        named |= {f"{array}_stretch": stretch, f"{array}_first": first}
        named[array] = (stretches - 1) * stretch + first + run
    return named | {"updated": ("out",)}


def _tile_backward(rng: Rng) -> Named:
    stretches, rows, width, tiles = _few(rng, 3), _few(rng, 3), _width(rng), _few(rng, 4)
    named = {"rows": stretches * rows, "width": width, "run_rows": rows, "tiles": tiles}
    return named | {"out_diff": stretches * tiles * rows * width}


def _lrn(rng: Rng) -> Named:
    n, channels, height, width = _few(rng, 2), _few(rng, 6), _few(rng, 4), _width(rng)
    across = rng.random() < 0.5
    named: Named = {"rows": n * channels * height, "width": width, "channels": channels, "height": height}
    named |= {"reach_c": _few(rng, 3, 0) if across else 0, "reach": 0 if across else _few(rng, 3, 0)}
    return named | {"beta": 0.75 if rng.random() < 0.5 else 0.6}


def _lrn_forward(rng: Rng) -> Named:
    return _lrn(rng) | [{}, {"scale": NULL}, {"out": NULL}][rng.integers(3)]


def _lrn_backward(rng: Rng) -> Named:
    named = _lrn(rng)
    return named | {"scale": rng.uniform(1, 2, named["rows"] * named["width"])}


def _softmax_loss_backward(rng: Rng) -> Named:
    drawn, size = _channels(rng)
    drawn |= {"in": size, "in_diff": size, "label": _labels(rng, drawn), "ignore_label": 255}
    return drawn | {"weight": 1, "normaliser": np.array([7.0])}


def _infogain_forward(rng: Rng) -> Named:
    drawn = _loss(rng)
    return drawn | {"gain": drawn["channels"] ** 2}


def _infogain_backward(rng: Rng) -> Named:
    drawn = _softmax_loss_backward(rng)
    return drawn | {"gain": drawn["channels"] ** 2, "gain_sums": drawn["channels"]}


# One row a sample.


def _pairs(rng: Rng) -> Named:
    """Pairs of vectors, their squared distances, and which of them are similar."""
    rows = _few(rng, 9)
    drawn = {"rows": rows, "weight": 1, "legacy": int(rng.integers(2))}
    return drawn | {"square": rng.uniform(0, 4, rows), "similar": rng.integers(0, 2, rows)}


def _pair_losses(rng: Rng) -> Named:
    drawn = _pairs(rng) | {"width": 1}
    del drawn["weight"]
    return drawn


def _hinge_backward(rng: Rng) -> Named:
    rows, width = _few(rng, 9), _width(rng)
    label = rng.integers(0, width, rows)
    return {"rows": rows, "width": width, "squared": int(rng.integers(2)), "weight": 1, "label": label}


def _logistic_loss_forward(rng: Rng) -> Named:
    rows, classes = _few(rng, 9), _few(rng, 7)
    drawn = {"rows": rows, "width": 1, "classes": classes, "label": rng.integers(-1, classes + 1, rows)}
    return drawn | {"in": rng.uniform(0, 1, rows * classes)}


def _sigmoid_loss(**scalars: int) -> Callable[[Rng], Named]:
    def recipe(rng: Rng) -> Named:
        rows, width = _few(rng, 9), _width(rng)
        target = rng.choice([0, 0.3, 1, 255], rows * width)
        return {"rows": rows, "width": width, "target": target, "ignore_label": 255, **scalars}

    return recipe


def _gather(rng: Rng, backward: bool) -> Named:
    """Rows of a table of `items`, picked by `picks` indices; forwards some of them point nowhere."""
    items, picks, inner, width = _few(rng, 6), _few(rng, 9), _few(rng, 3), _width(rng)
    item = inner * width
    drawn = {"width": width, "inner_rows": inner}
    if not backward:
        index = rng.integers(-1, items + 1, picks)
        return drawn | {"rows": picks * inner, "items": items, "index": index, "in": items * item}
    accumulate = int(rng.integers(2))
    drawn |= {"rows": items * inner, "picks": picks, "index": rng.integers(0, items, picks)}
    drawn |= {"accumulate": accumulate, "out_diff": picks * item}
    return drawn | ({"updated": ("in_diff",)} if accumulate else {})


def _numbered(**given: Any) -> Callable[[Rng], Named]:
    """Elementwise, with the number of an input, and arrays that are read as well as written."""

    def recipe(rng: Rng) -> Named:
        first = rng.random() < 0.5
        drawn = {"rows": _few(rng, 9), **given}
        return drawn | {"number": 0 if first else 1}

    return recipe


def _updating(*arrays: str, **numbers: tuple[int, int]) -> Callable[[Rng], Named]:
    """Elementwise, reading the arrays it writes; whole numbers from a range."""

    def recipe(rng: Rng) -> Named:
        drawn = {name: _few(rng, most, least) for name, (least, most) in numbers.items()}
        return {"rows": _few(rng, 9), "updated": arrays, **drawn}

    return recipe


def _lstm_unit(*gates: str) -> Callable[[Rng], Named]:
    """A row a stream: four gates to each lane, and a number that says whether the state goes on."""

    def recipe(rng: Rng) -> Named:
        rows, width = _few(rng, 9), _width(rng)
        return {"rows": rows, "width": width, "cont": rows} | dict.fromkeys(gates, 4 * rows * width)

    return recipe


def _solver(*histories: str, **numbers: float) -> Callable[[Rng], Named]:
    """A step that reads and writes diff, weight and histories, which hold means of squares; decays as given."""

    def recipe(rng: Rng) -> Named:
        rows, width = _few(rng, 9), _width(rng)
        held = {name: rng.uniform(0, 1, rows * width) for name in histories}
        drawn = {
            "rows": rows,
            "width": width,
            "l1": _few(rng, 1, 0),
            "updated": ("diff", *histories, "weight"),
        }
        return drawn | held | numbers

    return recipe


# Kernels of forks' layers.


def _upsample(rng: Rng, backward: bool) -> Named:
    """Planes whose values go to places of larger planes, some of them to none."""
    planes, size, out_size = _few(rng, 5), _width(rng), _few(rng, 90)
    drawn = {"rows": planes, "out_size": out_size, "mask": rng.integers(-1, out_size + 1, planes * size)}
    if backward:
        return drawn | {"width": size, "out_diff": planes * out_size}
    return drawn | {"width": 1, "size": size, "in": planes * size, "out": planes * out_size}


def _interpolation(rng: Rng, name: str, size: int, out: int) -> Named:
    """What an axis's outputs read, and which outputs read an input."""
    low = np.sort(rng.integers(0, size, out))
    high = np.minimum(low + 1, size - 1)
    begin = np.searchsorted(high, np.arange(size), "left")
    end = np.searchsorted(low, np.arange(size), "right")
    return {
        f"low_{name}": low,
        f"high_{name}": high,
        f"part_{name}": rng.uniform(0, 1, out),
        f"begin_{name}": begin,
        f"end_{name}": end,
    }


def _interp(rng: Rng, backward: bool) -> Named:
    planes, in_h, in_w, out_h, out_w = _few(rng, 3), _few(rng, 6), _few(rng, 40), _few(rng, 6), _few(rng, 40)
    axes = _interpolation(rng, "y", in_h, out_h) | _interpolation(rng, "x", in_w, out_w)
    if backward:
        sizes = {"rows": planes * in_h, "width": in_w, "in_h": in_h, "out_h": out_h, "out_w": out_w}
        return sizes | axes | {"out_diff": planes * out_h * out_w}
    axes = {name: value for name, value in axes.items() if not name.startswith(("begin", "end"))}
    sizes = {"rows": planes * out_h, "width": out_w, "in_h": in_h, "in_w": in_w, "out_h": out_h}
    return sizes | axes | {"in": planes * in_h * in_w}


def _permute(rng: Rng) -> Named:
    axes = _few(rng, 5)
    size = [_few(rng, 4) for _ in range(axes)]
    order = rng.permutation(axes)
    strides = np.array([int(np.prod(size[axis + 1 :])) for axis in range(axes)])
    out = [size[axis] for axis in order]
    drawn = {"rows": int(np.prod(out[:-1])), "width": out[-1], "axes": axes, "in": int(np.prod(size))}
    return drawn | {"size": np.array(out), "stride": strides[order]}


def _channel_dots(rng: Rng) -> Named:
    drawn, size = _channels(rng)
    scale = NULL if rng.random() < 0.5 else drawn["channels"]
    return drawn | {"in1": size, "in2": size, "scale": scale}


def _l2_normalise(rng: Rng, *of_rows: str, nullable: bool = False) -> Named:
    outer, channels, inner, width = _few(rng, 2), _few(rng, 7), _few(rng, 5), _width(rng)
    shared = int(rng.integers(2))
    lengths = outer if shared else outer * inner * width
    drawn = {"rows": outer * channels * inner, "width": width, "channels": channels, "inner_rows": inner}
    drawn |= {"shared": shared, "scale": NULL if nullable and rng.random() < 0.5 else channels}
    return drawn | {name: rng.uniform(1, 2, lengths) for name in of_rows}


def _splat(rng: Rng) -> Named:
    width, in_width = _width(rng), _few(rng, 50)
    begin = np.concatenate([[0], np.cumsum(rng.integers(0, 4, width))])
    drawn = {"rows": _few(rng, 5), "width": width, "in_width": in_width, "begin": begin}
    source = rng.integers(0, in_width, begin[-1])
    drawn |= {"source": source, "weight": len(source)}
    return drawn | {"in": drawn["rows"] * in_width}


def _blur(rng: Rng) -> Named:
    rows, width = _few(rng, 5), _width(rng)
    neighbours = {name: rng.integers(-1, width, width) for name in ("before", "after")}
    return {"rows": rows, "width": width, **neighbours}


def _slice(rng: Rng) -> Named:
    rows, width, in_width, corners = _few(rng, 5), _width(rng), _few(rng, 50), _few(rng, 4)
    point = rng.integers(0, in_width, corners * width)
    drawn = {"rows": rows, "width": width, "in_width": in_width, "corners": corners, "point": point}
    return drawn | {"weight": corners * width, "factor": width, "in": rows * in_width}


def _regions(rng: Rng, images: int, regions: int, in_h: int, in_w: int) -> np.ndarray:
    """Regions of interest, some of them of no image or beyond its edge."""
    corners = rng.uniform(-2, 2 * max(in_h, in_w), (regions, 4))
    return np.concatenate([rng.integers(-1, images + 1, (regions, 1)), corners], axis=1).reshape(-1)


def _roi_pool(rng: Rng, backward: bool) -> Named:
    images, channels, in_h, in_w = _few(rng, 2), _few(rng, 3), _few(rng, 7), _few(rng, 40)
    regions, out_h, out_w = _few(rng, 4), _few(rng, 3), _few(rng, 9)
    cells = out_h * out_w
    rois = _regions(rng, images, regions, in_h, in_w)
    if not backward:
        sizes = {"rows": regions * channels * out_h, "width": out_w, "images": images, "channels": channels}
        sizes |= {"in_h": in_h, "in_w": in_w, "out_h": out_h, "spatial_scale": 0.5}
        return sizes | {"rois": rois, "in": images * channels * in_h * in_w}
    winner = rng.integers(-1, in_h * in_w, regions * channels * cells)
    sizes = {"rows": images * channels * in_h, "width": in_w, "channels": channels, "in_h": in_h}
    sizes |= {"regions": regions, "cells": cells, "rois": rois, "winner": winner}
    return sizes | {"out_diff": regions * channels * cells}


_RECIPES: dict[str, Callable[[Rng], Named]] = {
    "accuracy_forward": _accuracy,
    "adadelta_update": _solver("history", "steps", momentum=0.9),
    "adam_update": _solver("mean", "square", beta1=0.9, beta2=0.999),
    "add_scaled": _updating("out"),
    "argmax_forward": _over_channels("in"),
    "ave_pool_backward": _pool_backward,
    "ave_pool_forward": _pool_forward,
    "bias_forward": _bias,
    "centred_squares": _groups("groups", "mean"),
    "channel_dots": _channel_dots,
    "col2im": _col2im,
    "col2im_nd": _col2im_nd,
    "contrastive_loss_backward": _pairs,
    "contrastive_loss_forward": _pair_losses,
    "copy_run": _copy_run,
    "crop_backward": lambda rng: _crop(rng, True),
    "crop_forward": lambda rng: _crop(rng, False),
    "deconvolve_planes": _deconvolve_planes,
    "eltwise_max": _numbered(updated=("out", "winner")),
    "eltwise_max_backward": _numbered(),
    "gather_backward": lambda rng: _gather(rng, True),
    "gather_forward": lambda rng: _gather(rng, False),
    "hinge_backward": _hinge_backward,
    "im2col": _im2col,
    "im2col_nd": _im2col_nd,
    "infogain_loss_backward": _infogain_backward,
    "infogain_loss_forward": _infogain_forward,
    "interp_backward": lambda rng: _interp(rng, True),
    "interp_forward": lambda rng: _interp(rng, False),
    "l2_normalise_backward": lambda rng: _l2_normalise(rng, "norm", "dot"),
    "l2_normalise_forward": lambda rng: _l2_normalise(rng, "norm", nullable=True),
    "lattice_blur": _blur,
    "lattice_slice": _slice,
    "lattice_splat": _splat,
    "logistic_loss_forward": _logistic_loss_forward,
    "lrn_backward": _lrn_backward,
    "lrn_forward": _lrn_forward,
    "lstm_unit_backward": _lstm_unit("gates", "gates_diff"),
    "lstm_unit_forward": _lstm_unit("gates"),
    "max_pool_backward": lambda rng: _pool_backward(rng, True),
    "max_pool_forward": lambda rng: _pool_forward(rng, True),
    "max_pool_mask": _pool_mask,
    "nesterov_update": _solver("history", momentum=0.9),
    "normalise_backward": _normalise_backward,
    "normalise_forward": _groups("groups", "mean", "std", nullable=("std",)),
    "normalise_products": _groups("groups", "mean", "std"),
    "pick_lines": lambda rng: _lines(rng, False),
    "permute": _permute,
    "prelu_backward": _groups("channels", "slope"),
    "prelu_forward": _groups("channels", "slope"),
    "reduction_backward": _reduction_backward,
    "rms_update": _solver("history", keep=0.9),
    "roi_pool_backward": lambda rng: _roi_pool(rng, True),
    "roi_pool_forward": lambda rng: _roi_pool(rng, False),
    "scale_forward": _groups("channels", "factor", "bias", nullable=("factor", "bias")),
    "sgd_update": _solver("history", momentum=0.9),
    "sigmoid_loss_backward": _sigmoid_loss(weight=1, normaliser=1),
    "sigmoid_loss_forward": _sigmoid_loss(),
    "softmax_backward": _over_channels("out", "out_diff", "in_diff"),
    "softmax_forward": _over_channels("in", "out"),
    "sum_lines": lambda rng: _lines(rng, True),
    "softmax_loss_backward": lambda rng: _class_weight(rng, _softmax_loss_backward(rng)),
    "softmax_loss_forward": lambda rng: _class_weight(rng, _loss(rng)),
    "tile_backward": _tile_backward,
    "top_k_forward": _top_k,
    "upsample_backward": lambda rng: _upsample(rng, True),
    "upsample_forward": lambda rng: _upsample(rng, False),
    "winograd_out": lambda rng: _winograd(rng, "out"),
    "winograd_tiles": lambda rng: _winograd(rng, "tiles"),
    "winograd_weights": _winograd_weights,
}


def without_kernel() -> list[str]:
    """Recipes for kernels that do not exist (any more)."""
    return sorted(_RECIPES.keys() - signatures().keys())
