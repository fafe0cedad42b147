"""Spatial pyramid pooling: vectors of one length from maps of any size (Caffe's SPPLayer; He et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.concat import Runs
from fcnlite.layers.launch import launch_flat, new_array
from fcnlite.layers.pooling import Pooling
from fcnlite.proto import LayerParameter

_MOST_LEVELS = 16  # 65536 windows a side


@register
class SPP(Layer):
    """Level l pools the map into 2^l x 2^l bins; all bins, level after level, are the top (N, K).

    `spp_param`: pyramid_height, pool (MAX or AVE). With one level the top is that pooling's map.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.levels = int(self.param.spp_param.pyramid_height)
        if not 1 <= self.levels <= _MOST_LEVELS:
            raise self.fail(f"pyramid_height {self.levels} must lie between 1 and {_MOST_LEVELS}")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 4 or min(shape[2:]) < 1:
            raise self.fail(f"the bottom has shape {shape}; N x C x H x W is needed")
        self.pools = [self._pooling(2**level, *shape[2:]) for level in range(self.levels)]
        self.maps = [Blob() for _ in self.pools]
        for pool, pooled in zip(self.pools, self.maps):
            pool.setup(bottom, [pooled])
            pool.reshape(bottom, [pooled])
        lengths = [math.prod(pooled.shape[1:]) for pooled in self.maps]
        self.runs = Runs((shape[0], sum(lengths)), 1)
        self.pieces = [(shape[0], length) for length in lengths]
        top[0].reshape(*(self.maps[0].shape if self.levels == 1 else (shape[0], sum(lengths))))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        out, first = top[0].new_data(), 0
        for pool, pooled, piece in zip(self.pools, self.maps, self.pieces):
            pool.forward(bottom, [pooled])
            self.runs.insert(piece, first, pooled.data, out)
            first += piece[1]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        target, first = bottom[0].new_diff(), 0
        part = Blob(shape=bottom[0].shape)  # what one level sends back
        part.data, part.diff = bottom[0].data, new_array(bottom[0].shape)
        target.fill(0)
        for pool, pooled, piece in zip(self.pools, self.maps, self.pieces):
            self.runs.extract(piece, first, top[0].diff, pooled.new_diff())
            pool.backward([pooled], [True], [part])
            launch_flat("add_scaled", part.count, 1.0, part.diff, target)
            first += piece[1]

    def _pooling(self, bins: int, height: int, width: int) -> Pooling:
        """Pooling into `bins` x `bins` windows that cover the map, padded where it does not divide."""
        param = LayerParameter(name=self.name)
        pooling = param.pooling_param
        pooling.pool = self.param.spp_param.pool
        for side, size in (("h", height), ("w", width)):
            kernel = -(-size // bins)
            setattr(pooling, f"kernel_{side}", kernel)
            setattr(pooling, f"stride_{side}", kernel)
            setattr(pooling, f"pad_{side}", (kernel * bins - size + 1) // 2)
        return Pooling(param, phase=self.phase)
