"""HHA, the encoding of depth as an image that a colour net can start from (Gupta et al., ECCV 2014).

Its channels are horizontal disparity, height above ground, and the angle between surface and gravity, which is found
as in their CVPR 2013 paper.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from fcnlite.data.files import open_image
from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_buffer
from fcnlite.progress import progress_bar

# Radii of the windows that planes are fitted in: the finer for the angle, the coarser for finding gravity.
FINE, COARSE = 3, 10
# (degrees within which a surface counts as floor or wall, iterations), one after the other.
GRAVITY_STEPS = ((45.0, 5), (15.0, 5))
# Centimetres: a camera less than 90 above the lowest point it sees is taken to stand 130 above the ground.
LOWEST, ASSUMED = 90.0, 130.0
NEAREST = 100.0
DISPARITY = 31000.0


class Camera(NamedTuple):
    """Pinhole intrinsics in pixels: focal lengths and principal point, the first pixel's centre at (1, 1)."""

    fx: float
    fy: float
    cx: float
    cy: float


# NYUDv2's Kinect, colour camera at 640 x 480, from the data set's toolbox; depth is registered to it.
KINECT = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
# What the distributed sizes of NYUDv2 lack of the 640 x 480 image, (height, width): (top rows, left columns).
CROPS = {(480, 640): (0, 0), (427, 561): (44, 40), (425, 560): (45, 40)}


def kinect(height: int, width: int) -> Camera:
    """Intrinsics for a NYUDv2 depth map: cropped as distributed, else taken to be scaled from 640 x 480."""
    if (height, width) in CROPS:
        top, left = CROPS[height, width]
        return KINECT._replace(cx=KINECT.cx - left, cy=KINECT.cy - top)
    x, y = width / 640, height / 480
    return Camera(KINECT.fx * x, KINECT.fy * y, KINECT.cx * x, KINECT.cy * y)


def encode(depth: np.ndarray, camera: Camera | None = None, missing: np.ndarray | None = None) -> np.ndarray:
    """The HHA image of a depth map.

    Parameters
    ----------
    depth : numpy.ndarray
        (H, W), metres; 0 where unknown, which is filled from the nearest known pixel.
    camera : Camera, optional
        Intrinsics; those of `kinect` for the map's size by default.
    missing : numpy.ndarray, optional
        (H, W) bool: depths that were not measured (but filled in, say) and tell no surface's direction; by
        default where `depth` is 0.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8: 31000 / depth in cm (at least 100), height above ground in cm, 38 + angle in degrees
        between the surface normal (pointing away from the camera) and gravity: 38 is a floor, 128 a wall, 218
        a ceiling or unknown.

    Raises
    ------
    InputError
        If no depth is known, or one is negative or not finite.
    """
    depth = np.asarray(depth, np.float64)
    if depth.ndim != 2 or not np.isfinite(depth).all() or (depth < 0).any():
        raise InputError("a depth map is height x width of metres, 0 where unknown; this one is not")
    unknown = depth == 0
    if unknown.all():
        raise InputError("the depth map is empty: every depth is 0")
    missing = unknown if missing is None else missing | unknown
    if unknown.any():
        nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
        depth = depth[tuple(nearest)]
    points = point_cloud(100 * depth, kinect(*depth.shape) if camera is None else camera)
    down = gravity(normals(points, missing, COARSE))
    # Like Gupta et al.'s code: where nothing is known of the surface, it counts as a ceiling.
    cosine = np.nan_to_num(normals(points, missing, FINE) @ down, nan=-1).clip(-1, 1)
    height = -(points @ down)
    lowest = height.min() if height.min() <= -LOWEST else -ASSUMED
    channels = np.stack(
        [
            DISPARITY / np.maximum(points[:, :, 2], NEAREST),
            height - lowest,
            np.degrees(np.arccos(cosine)) + 38,
        ],
        axis=2,
    )
    return np.floor(channels + 0.5).clip(0, 255).astype(np.uint8)


def point_cloud(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """(H, W, 3) points of an (H, W) depth map in its unit: x to the right, y down, z ahead."""
    height, width = depth.shape
    x = (np.arange(1, width + 1) - camera.cx) / camera.fx
    y = (np.arange(1, height + 1) - camera.cy) / camera.fy
    return np.stack([x * depth, y[:, None] * depth, depth], axis=2)


def normals(points: np.ndarray, missing: np.ndarray, radius: int) -> np.ndarray:
    """Unit normals, pointing away from the camera, of the planes that fit best around each pixel.

    The plane n . p = 1 is fitted to points within `radius` pixels by least squares of n . (p / z) = 1 / z. A
    Kinect measures disparity, so its noise is even there.

    Parameters
    ----------
    points : numpy.ndarray
        (H, W, 3).
    missing : numpy.ndarray
        (H, W) bool: points to leave out.
    radius : int
        Windows are (2 radius + 1)^2.

    Returns
    -------
    numpy.ndarray
        (H, W, 3); NaN where the window holds no plane.
    """
    known = (~missing).astype(np.float64)
    ray = points / points[:, :, 2:] * known[:, :, None]
    inverse = known / points[:, :, 2]

    def around(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * radius + 1, mode="constant")

    xx, xy, x = (around(ray[:, :, 0] * ray[:, :, k]) for k in range(3))
    yy, y, one = around(ray[:, :, 1] ** 2), around(ray[:, :, 1]), around(known)
    right = [around(ray[:, :, k] * inverse) for k in range(3)]
    # The adjugate of the normal equations' matrix: a scale of n does not matter.
    rows = (
        (yy * one - y * y, x * y - xy * one, xy * y - x * yy),
        (x * y - xy * one, xx * one - x * x, x * xy - xx * y),
        (xy * y - x * yy, x * xy - xx * y, xx * yy - xy * xy),
    )
    n = np.stack([sum(a * b for a, b in zip(row, right)) for row in rows], axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = n / np.linalg.norm(n, axis=2, keepdims=True)
    n[around(known) * (2 * radius + 1) ** 2 < 2.5] = np.nan
    towards = np.einsum("hwc,hwc->hw", n, points) < 0
    return np.where(towards[:, :, None], -n, n)


def gravity(field: np.ndarray, start: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> np.ndarray:
    """The direction down, (3,), found from surface normals (H, W, 3) by assuming many floors and walls.

    Starting from the camera's own, each step takes the normals nearly along the direction for floor (and
    tables, and ceilings), those nearly across it for walls, and turns to the direction most along the former
    and across the latter.
    """
    every = field.reshape(-1, 3)
    every = every[~np.isnan(every).any(axis=1)]
    down = np.asarray(start, np.float64)
    for degrees, count in GRAVITY_STEPS:
        for _ in range(count):
            along = np.abs(every @ down)
            floor = every[along > np.cos(np.radians(degrees))]
            wall = every[along < np.sin(np.radians(degrees))]
            values, axes = np.linalg.eigh(wall.T @ wall - floor.T @ floor)
            # A single wall leaves a plane of equally good directions: take the nearest one.
            best = axes[:, values <= values[0] + 1e-9 * max(len(every), 1)]
            turned = best @ (best.T @ down)
            if np.linalg.norm(turned) < 1e-9:
                return down
            down = turned / np.linalg.norm(turned)
    return down


def read_depth(path: str | os.PathLike) -> np.ndarray:
    """A depth image (16-bit grey PNG, millimetres) as (H, W) float32 millimetres.

    Raises
    ------
    FileNotFoundError, InputError
        If it is missing, or no grey-level image.
    """
    image = open_image(path)
    if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
        raise InputError(f"depth {path} is a {image.mode} image; expected 16-bit grey, in millimetres")
    return np.asarray(image).astype(np.float32)


def encode_folder(depth: Path, hha: Path, camera: Camera | None = None) -> None:
    """Encode every PNG of folder `depth` that folder `hha` lacks.

    Raises
    ------
    FileNotFoundError, InputError
        If there is no such folder, it holds no PNGs, or one is no depth image.
    """
    if not depth.is_dir():
        raise FileNotFoundError(f"there is no folder {depth}")
    paths = sorted(depth.glob("*.png"))
    if not paths:
        raise InputError(f"{depth} holds no .png images")
    if hha.resolve() == depth.resolve():
        raise InputError(f"{hha} is the folder of the depth images; name another one")
    hha.mkdir(parents=True, exist_ok=True)
    for path in progress_bar(paths, unit="image"):
        if not (hha / path.name).exists():
            millimetres = read_depth(path)
            try:
                image = encode(millimetres / 1000, camera)
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
            with atomic_buffer(hha / path.name) as buffer:
                Image.fromarray(image).save(buffer, format="PNG")
