"""Unpacking archives of strangers: what is in them, nothing outside the folder, no more than the bounds."""

import io
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnlite.errors import InputError
from fcnlite.io.archive import unpack

FILES = {
    "VOCdevkit/VOC2012/JPEGImages/a.jpg": b"picture" * 1000,
    "VOCdevkit/README": b"",
    "b c.txt": b"words",
}


def tar(path, files, mode="w", links=()):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_archives_come_out_as_they_went_in(tmp_path, kind):
    made = zipped(tmp_path / "d", FILES) if kind == "zip" else tar(tmp_path / "d", FILES, kind)
    written = []
    folder = unpack(made, tmp_path / "deep" / "out", advance=written.append)
    assert contents(folder) == FILES and sum(written) == sum(map(len, FILES.values()))
    assert list((tmp_path / "deep").iterdir()) == [folder]


def test_a_second_archive_joins_the_first(tmp_path):
    unpack(tar(tmp_path / "a.tar", {"x/a": b"1", "x/same": b"old"}), tmp_path / "out")
    unpack(tar(tmp_path / "b.tar", {"x/b": b"2", "x/same": b"new"}), tmp_path / "out")
    assert contents(tmp_path / "out") == {"x/a": b"1", "x/b": b"2", "x/same": b"new"}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil", "C:\\evil"])
@pytest.mark.parametrize("write", [tar, zipped])
def test_no_path_outside(tmp_path, name, write):
    made = write(tmp_path / "d", {"good": b"1", name: b"2"})
    with pytest.raises(InputError, match=r"d: names the path .*evil.*outside"):
        unpack(made, tmp_path / "in" / "out")
    assert list((tmp_path / "in").iterdir()) == []


def test_links_and_devices_are_left_out(tmp_path):
    links = [
        ("link", tarfile.SYMTYPE, "/etc"),
        ("hard", tarfile.LNKTYPE, "good"),
        ("dev", tarfile.CHRTYPE, ""),
    ]
    made = tar(tmp_path / "d", {"good": b"1"}, links=links)
    with pytest.warns(UserWarning, match="3 links or devices"):
        folder = unpack(made, tmp_path / "out")
    assert contents(folder) == {"good": b"1"} and [p.name for p in folder.iterdir()] == ["good"]


def test_a_file_through_a_link_of_the_archive_stays_inside(tmp_path):
    """The link is not made, so the file behind it lands in a folder of that name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "d", "w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        member = tarfile.TarInfo("way/evil")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"1"))
    with pytest.warns(UserWarning, match="1 links"):
        unpack(tmp_path / "d", tmp_path / "out")
    assert not list(outside.iterdir()) and contents(tmp_path / "out") == {"way/evil": b"1"}


def test_a_link_in_a_zip_is_a_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "d", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    folder = unpack(tmp_path / "d", tmp_path / "out")
    assert not (folder / "link").is_symlink() and (folder / "link").read_bytes() == b"/etc/passwd"


@pytest.mark.parametrize("write", [lambda p, f: tar(p, f, "w:gz"), zipped])
def test_bounds_count_what_is_written(tmp_path, write):
    made = write(tmp_path / "d", {"zeros": bytes(10**6), "more": b"x"})
    with pytest.raises(InputError, match="more than 999999 bytes"):
        unpack(made, tmp_path / "out", most_bytes=999_999)
    with pytest.raises(InputError, match="more than 1 files"):
        unpack(made, tmp_path / "out", most_files=1)
    assert not (tmp_path / "out").exists()
    unpack(made, tmp_path / "out", most_bytes=10**6 + 1, most_files=2)


def test_other_files_are_told(tmp_path):
    (tmp_path / "page").write_text("<html>")
    with pytest.raises(InputError, match="page: neither a tar nor a zip"):
        unpack(tmp_path / "page", tmp_path / "out")


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz", "zip"])
@given(st.data())
def test_damage_is_told_in_a_line(tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("damage")
    made = zipped(folder / "d", FILES) if kind == "zip" else tar(folder / "d", FILES, kind)
    raw = bytearray(made.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    made.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        unpack(made, folder / "out")
    except InputError as error:
        assert str(error).startswith(str(made)) and "\n" not in str(error)
    assert {p.name for p in folder.iterdir()} <= {"d", "out"}
