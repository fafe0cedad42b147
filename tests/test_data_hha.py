"""HHA of rooms whose geometry is known: a tilted camera between floor, walls and ceiling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fcnlite.commands import hha as command
from fcnlite.data.hha import KINECT, Camera, encode, gravity, kinect, normals, point_cloud
from fcnlite.errors import InputError

CAMERA = Camera(120.0, 122.0, 80.0, 60.0)
EYE = 1.5  # metres above the floor


def down_of(pitch, roll=0.0):
    """Gravity in camera coordinates (x right, y down, z ahead) of a camera looking down by `pitch`."""
    down = np.array([0.0, np.cos(pitch), np.sin(pitch)])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return turn @ down


def room(pitch, roll=0.0, height=120, width=160, ceiling=2.5, wall=4.0):
    """Depth in metres and the plane each pixel sees: 0 floor, 1 ceiling, 2 wall ahead, 3 and 4 the others."""
    rays = point_cloud(np.ones((height, width)), CAMERA)
    down = down_of(pitch, roll)
    ahead = np.array([0.0, 0, 1]) - down[2] * down
    ahead /= np.linalg.norm(ahead)
    side = np.cross(down, ahead)
    planes = [(down, EYE), (-down, ceiling - EYE), (ahead, wall), (side, 2.0), (-side, 2.0)]
    depth, seen = np.full((height, width), np.inf), np.zeros((height, width), int)
    for plane, (normal, distance) in enumerate(planes):
        along = rays @ normal
        hit = np.where(along > 1e-9, distance / np.where(along > 1e-9, along, 1), np.inf)
        seen = np.where(hit < depth, plane, seen)
        depth = np.minimum(depth, hit)
    return depth, seen


def interior(seen, margin=4):
    """Pixels whose whole fitting window sees one plane."""
    keep = np.zeros(seen.shape, bool)
    for y in range(margin, seen.shape[0] - margin):
        for x in range(margin, seen.shape[1] - margin):
            keep[y, x] = np.ptp(seen[y - margin : y + margin + 1, x - margin : x + margin + 1]) == 0
    return keep


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.35, 0.0), (-0.1, 0.2), (0.3, -0.25)])
def test_gravity_is_found_in_a_tilted_room(pitch, roll):
    depth, _ = room(pitch, roll)
    points = point_cloud(100 * depth, CAMERA)
    down = gravity(normals(points, np.zeros(depth.shape, bool), 10))
    assert np.degrees(np.arccos(min(1.0, down @ down_of(pitch, roll)))) < 2


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.35, 0.0), (0.2, -0.2)])
def test_encoding_of_a_known_room(pitch, roll):
    depth, seen = room(pitch, roll)
    image = encode(depth, CAMERA).astype(int)
    assert image.shape == (120, 160, 3)
    np.testing.assert_array_equal(image[:, :, 0], np.minimum(255, np.floor(310 / np.maximum(depth, 1) + 0.5)))
    points = point_cloud(depth, CAMERA)
    above = 100 * (EYE - points @ down_of(pitch, roll))
    # Heights count from the lowest point in view: the floor, or 1.3 m below a camera that sees none.
    offset = above.min() if (seen == 0).any() else 0
    assert np.abs(image[:, :, 1] - np.minimum(above - offset, 255)).max() <= 6
    inside = interior(seen)
    for plane, angle in enumerate((38, 218, 128, 128, 128)):
        there = inside & (seen == plane)
        if there.any():
            assert np.abs(image[:, :, 2][there] - angle).max() <= 3


def test_a_camera_that_sees_nothing_low_is_taken_to_stand_130_cm_up():
    image = encode(np.full((60, 80), 3.0), Camera(200, 200, 40, 10))
    level = image[9, :, 1]  # the row the optical axis passes through
    assert (level == 130).all()


def test_normals_leave_out_what_was_not_measured():
    rng = np.random.default_rng(0)
    depth, seen = room(0.3)
    missing = rng.random(depth.shape) < 0.3
    spoilt = np.where(missing, 9.0, depth)
    clean = normals(point_cloud(100 * depth, CAMERA), np.zeros_like(missing), 3)
    holes = normals(point_cloud(100 * spoilt, CAMERA), missing, 3)
    where = interior(seen) & ~np.isnan(holes).any(axis=2)
    assert where.mean() > 0.5
    assert np.einsum("pc,pc->p", clean[where], holes[where]).min() > np.cos(np.radians(1))
    np.testing.assert_allclose(np.linalg.norm(clean, axis=2), 1)
    nothing = normals(point_cloud(100 * depth, CAMERA), np.ones_like(missing), 3)
    assert np.isnan(nothing).all()


def test_unknown_depth_is_filled_from_the_nearest():
    depth, _ = room(0.3)
    holes = depth.copy()
    holes[50:52, 70:72] = 0
    full, filled = encode(depth, CAMERA).astype(int), encode(holes, CAMERA).astype(int)
    assert np.abs(full - filled)[45:57, 65:77].max() <= 6
    assert encode(np.where(np.arange(160) < 159, 0.0, depth), CAMERA)[:, 0, 2].max() == 218


def test_depth_maps_that_are_none():
    for wrong in (np.zeros((4, 4)), np.full((4, 4), -1.0), np.full((4, 4), np.nan), np.ones((4, 4, 3))):
        with pytest.raises(InputError, match="depth map"):
            encode(wrong)


@given(st.floats(0.3, 60), st.integers(1, 9), st.integers(1, 9))
def test_any_flat_wall_can_be_encoded(distance, height, width):
    image = encode(np.full((height, width), distance))
    assert image.shape == (height, width, 3)
    assert (image[:, :, 0] == min(255, np.floor(310 / max(distance, 1) + 0.5))).all()


def test_cameras_of_the_distributed_sizes():
    assert kinect(480, 640) == KINECT
    assert kinect(427, 561).cx == pytest.approx(KINECT.cx - 40)
    assert kinect(425, 560).cy == pytest.approx(KINECT.cy - 45)
    half = kinect(240, 320)
    assert (half.fx, half.cy) == (pytest.approx(KINECT.fx / 2), pytest.approx(KINECT.cy / 2))


def test_the_command_encodes_a_folder(tmp_path, capsys):
    depth, _ = room(0.3)
    (tmp_path / "depth").mkdir()
    millimetres = (1000 * depth).astype(np.uint16)
    Image.fromarray(millimetres).save(tmp_path / "depth" / "img_1.png")
    camera = ["--camera", *map(str, CAMERA)]
    assert command.main([str(tmp_path / "depth"), str(tmp_path / "hha"), *camera]) == 0
    with Image.open(tmp_path / "hha" / "img_1.png") as made:
        np.testing.assert_array_equal(np.array(made), encode(millimetres / 1000, CAMERA))
    assert [p.name for p in (tmp_path / "hha").iterdir()] == ["img_1.png"]
    capsys.readouterr()

    for arguments, text in (
        (["nowhere", "x"], "there is no folder nowhere"),
        ([str(tmp_path), str(tmp_path / "x")], "holds no .png"),
        ([str(tmp_path / "depth"), str(tmp_path / "depth")], "is the folder of the depth images"),
    ):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path / "depth"), str(tmp_path / "x"), "--camera", "0", "500", "20", "nan"])
    assert "--camera: '0' is not a number above 0" in capsys.readouterr().err
    Image.new("RGB", (4, 4)).save(tmp_path / "depth" / "img_2.png")
    assert command.main([str(tmp_path / "depth"), str(tmp_path / "hha"), *camera]) == 2
    assert "img_2.png is a RGB image; expected 16-bit grey" in capsys.readouterr().err
