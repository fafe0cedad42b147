"""Archives unpacked so that nothing in them can reach outside the folder that they are unpacked into."""

from __future__ import annotations

import lzma
import os
import secrets
import shutil
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fcnlite.errors import InputError

MOST_BYTES = 50 * 10**9  # NYUDv2, the largest of the paper's data sets, has under 10 GB
MOST_FILES = 500_000
_CHUNK = 1 << 20
# How Python's readers say that an archive is damaged.
_DAMAGE = (
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class _Entry(NamedTuple):
    """A member of an archive; `open` is None for a folder."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None] | None


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    most_bytes: int = MOST_BYTES,
    most_files: int = MOST_FILES,
    advance: Callable[[int], object] | None = None,
) -> Path:
    """Unpack a `.tar` (plain, gzip, bzip2, xz) or `.zip` into a folder that appears when it is complete.

    Parameters
    ----------
    archive : path
        The file; its content, not its name, says which kind it is.
    folder : path
        The folder to make. An existing one gets the archive's files added to it.
    most_bytes, most_files : int
        Bounds on the unpacked content, counted while it is written: an archive can claim any size.
    advance : callable, optional
        Called with the number of bytes written, after each piece.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    InputError
        If the file is damaged or is not an archive, names a path outside the folder, or exceeds a bound. Nothing of it
        is kept then.

    Notes
    -----
    Links and devices are left out, with a warning: no data set needs them.
    """
    archive, folder = Path(archive), Path(folder)
    with _staging(folder) as staging:
        budget = _Budget(archive, most_bytes, most_files)
        try:
            with open(archive, "rb") as file:
                for entry in _entries(file, archive):
                    target = _inside(staging, entry.name, archive)
                    if entry.open is None:
                        target.mkdir(parents=True, exist_ok=True)
                        continue
                    budget.take_file()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open(target, "wb") as output:
                        _copy(entry, output, budget, advance)
        except InputError:
            raise
        except _DAMAGE as error:
            raise InputError(f"{archive}: the archive is damaged ({error})") from error
        except OSError as error:
            if error.errno is None:  # gzip's and lzma's word for damage
                raise InputError(f"{archive}: the archive is damaged ({error})") from error
            raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
        _publish(staging, folder)
    return folder


class _Budget:
    """Counts what comes out of an archive against its bounds."""

    def __init__(self, archive: Path, most_bytes: int, most_files: int) -> None:
        self.archive, self.bytes_left, self.files_left = archive, most_bytes, most_files
        self.most_bytes, self.most_files = most_bytes, most_files

    def take_file(self) -> None:
        self.files_left -= 1
        if self.files_left < 0:
            raise InputError(f"{self.archive}: holds more than {self.most_files} files; it is not unpacked")

    def take_bytes(self, count: int) -> None:
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise InputError(
                f"{self.archive}: unpacks to more than {self.most_bytes} bytes; it is not unpacked"
            )


def _entries(file: IO[bytes], archive: Path) -> Iterator[_Entry]:
    """The archive's files and folders, in its order."""
    if zipfile.is_zipfile(file):
        yield from _zip_entries(file)
        return
    file.seek(0)
    try:
        tar = tarfile.open(fileobj=file, mode="r:*")
    except tarfile.TarError:
        raise InputError(f"{archive}: neither a tar nor a zip archive") from None
    with tar:
        yield from _tar_entries(tar, archive)


def _tar_entries(tar: tarfile.TarFile, archive: Path) -> Iterator[_Entry]:
    passed_over = 0
    for member in tar:
        if member.isfile():
            yield _Entry(member.name, member.size, partial(tar.extractfile, member))
        elif member.isdir():
            yield _Entry(member.name, 0, None)
        else:
            passed_over += 1
    if passed_over:
        warnings.warn(f"{archive}: {passed_over} links or devices in it are left out", stacklevel=4)


def _zip_entries(file: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as zipped:
        for info in zipped.infolist():
            if info.is_dir():
                yield _Entry(info.filename, 0, None)
            else:  # a link in a zip comes out as a small file that holds its target
                yield _Entry(info.filename, info.file_size, partial(zipped.open, info))


def _inside(folder: Path, name: str, archive: Path) -> Path:
    """The path of an entry in the folder, if it is one."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or "\0" in name or (parts and ":" in parts[0]):
        raise InputError(f"{archive}: names the path {name!r}, outside the folder; it is not unpacked")
    return folder.joinpath(*parts)


def _copy(entry: _Entry, output: IO[bytes], budget: _Budget, advance: Callable[[int], object] | None) -> None:
    assert entry.open is not None
    source = entry.open()
    if source is None:
        return
    with source:
        while chunk := source.read(_CHUNK):
            budget.take_bytes(len(chunk))
            output.write(chunk)
            if advance is not None:
                advance(len(chunk))


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to unpack into, gone when the block ends."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
        staging.mkdir()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, folder: Path) -> None:
    """Move what was unpacked to its place: by one rename, or into a folder that is there already."""
    if not folder.exists():
        os.replace(staging, folder)
        return
    for source in sorted(path for path in staging.rglob("*") if path.is_file()):
        target = folder / source.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
