"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fcnlite.errors import InputError

PART = ".part"  # how the name of a file ends that is being written
_TARGET_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror or error})")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes its name when the block succeeds and is removed when it fails.

    A file at `path` stays untouched until then.

    Parameters
    ----------
    path : path
        The file to be made.

    Yields
    ------
    Path
        Where to write. The block creates the file.

    Raises
    ------
    InputError
        The folder does not exist, `path` is a folder itself, or the disk refuses (full, read-only, no
        permission).
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{PART}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        if error.errno in _TARGET_ERRORS:
            raise _cannot_write(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, so that a power cut finds the old or the new."""
    if path.is_dir() and os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # disks that cannot be told to
            raise
    finally:
        os.close(number)


@contextmanager
def atomic_buffer(path: str | os.PathLike[str]) -> Iterator[io.BytesIO]:
    """Bytes to fill, written to `path` when the block succeeds, as by `atomic_path`.

    For pictures: on a full disk Pillow's encoders leave half of one and do not tell.
    """
    buffer = io.BytesIO()
    yield buffer
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
