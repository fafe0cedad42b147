"""A permutohedral lattice: Gaussian filtering in a few dimensions in time linear in the points.

A. Adams, J. Baek and M. A. Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.errors import InputError


class Lattice:
    """The lattice of some points, made on the host in single precision, and the filter over it, which the device runs.

    The filter is linear, K = slice * blur * splat; `filter(..., transposed=True)` is its transpose, but for the
    factors. K is a Gaussian's but for a factor, which whoever normalises by K's answer to ones need not know.

    Parameters
    ----------
    features : array (points, dimensions), float32
        Positions, in units of the Gaussian's standard deviation.
    """

    def __init__(self, features: np.ndarray) -> None:
        vertices, weights = _simplices(np.ascontiguousarray(features, np.float32))
        points, corners, dimensions = vertices.shape
        place, low = _places_of(vertices.reshape(-1, dimensions))
        codes, index = np.unique((vertices - low).reshape(-1, dimensions) @ place, return_inverse=True)
        index = index.reshape(points, corners)
        backend = device.current()
        self.points, self.corners, self.vertices = points, corners, len(codes)
        self._vertex = backend.asarray(index.T.copy(), np.int32)
        self._weight = backend.asarray(weights.T.copy())
        self._neighbours = [
            tuple(backend.asarray(side, np.int32) for side in pair) for pair in _neighbours(codes, place)
        ]
        order = np.argsort(index, axis=None, kind="stable")
        begin = np.searchsorted(index.reshape(-1)[order], np.arange(len(codes) + 1))
        self._begin = backend.asarray(begin, np.int32)
        self._source = backend.asarray(order // corners, np.int32)
        self._source_weight = backend.asarray(weights.reshape(-1)[order])

    def filter(self, values: Any, factor: Any, transposed: bool = False) -> Any:
        """Factor * K * values for (channels, points) values and (points,) factors; `transposed`: K' in place of K."""
        backend = device.current()
        channels = values.shape[0]
        at, other = backend.empty((channels, self.vertices)), backend.empty((channels, self.vertices))
        splat = (self._begin, self._source, self._source_weight, values, at)
        backend.launch("lattice_splat", channels, self.vertices, self.points, *splat)
        for before, after in reversed(self._neighbours) if transposed else self._neighbours:
            backend.launch("lattice_blur", channels, self.vertices, before, after, at, other)
            at, other = other, at
        out = backend.empty((channels, self.points))
        tables = (self._vertex, self._weight, factor, at, out)
        backend.launch("lattice_slice", channels, self.points, self.vertices, self.corners, *tables)
        return out


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The simplex each point lies in: keys of its corners (points, corners, dimensions), the point's weights there."""
    points, d = features.shape
    elevated = _elevate(features)
    closest = np.rint(elevated / np.float32(d + 1))
    base, total = closest * (d + 1), closest.sum(1).astype(np.int64)
    rank = _ranks(elevated - base) + total[:, None]
    wrap = (rank < 0).astype(np.int64) - (rank > d)
    rank, base = rank + wrap * (d + 1), base + wrap * (d + 1)
    share = (elevated - base) / np.float32(d + 1)
    weights = np.zeros((points, d + 2), np.float32)
    row = np.arange(points)[:, None]
    np.add.at(weights, (row, d - rank), share)
    np.add.at(weights, (row, d + 1 - rank), -share)
    weights[:, 0] += 1 + weights[:, d + 1]
    corner = np.arange(d + 1)[:, None]
    canonical = np.where(np.arange(d + 1) <= d - corner, corner, corner - (d + 1))
    keys = base[:, None, :d].astype(np.int64) + canonical[:, rank[:, :d]].transpose(1, 0, 2)
    return keys, weights[:, : d + 1]


def _elevate(features: np.ndarray) -> np.ndarray:
    """Points on the plane x_0 + ... + x_d = 0, scaled so that the lattice's blur has standard deviation 1."""
    points, d = features.shape
    axis = np.arange(d)
    scale = (np.sqrt(2 / 3) * (d + 1) / np.sqrt((axis + 1) * (axis + 2))).astype(np.float32)
    scaled = features * scale
    elevated, total = np.empty((points, d + 1), np.float32), np.zeros(points, np.float32)
    for j in range(d, 0, -1):
        elevated[:, j] = total - np.float32(j) * scaled[:, j - 1]
        total = total + scaled[:, j - 1]
    elevated[:, 0] = total
    return elevated


def _ranks(rest: np.ndarray) -> np.ndarray:
    """Count the coordinates of its point that each is less than; of equal ones the later is less."""
    rank = np.zeros(rest.shape, np.int64)
    for i in range(rest.shape[1]):
        for j in range(i + 1, rest.shape[1]):
            less = rest[:, i] < rest[:, j]
            rank[:, i] += less
            rank[:, j] += ~less
    return rank


def _places_of(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place values that make one number of each key, and of those of its neighbours, and what to take away before."""
    d = keys.shape[1]
    low = keys.min(0) - d - 1
    span = keys.max(0) + d + 2 - low
    if np.prod(span.astype(np.float64)) >= 2.0**62:
        raise InputError(
            "the features of a lattice are too far apart: colours or positions over thetas that are too small"
        )
    return np.cumprod(np.concatenate([[1], span[:0:-1]]))[::-1], low


def _neighbours(codes: np.ndarray, place: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of the lattice's axes, the vertices before and after each vertex; -1 where there is none.

    Vertices are known by sorted codes, whose place values are given.
    """
    d = len(place)
    pairs = []
    for axis in range(d + 1):
        step = np.full(d, -1)
        if axis < d:
            step[axis] = d
        pairs.append((_find(codes, codes + step @ place), _find(codes, codes - step @ place)))
    return pairs


def _find(codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted code is among the sorted ones, or -1."""
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[at] == wanted, at, -1)
