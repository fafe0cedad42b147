"""Downloads a file over HTTP: resumed where a connection breaks, retried, checked before it gets its name."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_path
from fcnlite.progress import progress_bar

_CHUNK = 1 << 16  # bytes
_TIMEOUT = 30  # seconds without a byte
_LONGEST_WAIT = 300  # seconds that a server may ask to be left alone
_MOST_BYTES = 1 << 36  # of a file whose size is not known


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes
    ----------
    name : str
        What errors and the progress bar call it.
    url : str
    bytes : int or None
        Its size, where it is known.
    sha1, md5 : str or None
        Its checksum in hexadecimal digits, where one is known.
    """

    name: str
    url: str
    bytes: int | None = None
    sha1: str | None = None
    md5: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of the URL's path."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The algorithm's name and the digits, if a checksum is known."""
        known = {"sha1": self.sha1, "md5": self.md5}
        return next(((kind, digits.lower()) for kind, digits in known.items() if digits), None)

    def is_whole(self, path: Path) -> bool:
        """Tell whether a file on disk has the checksum, or else the size, as far as they are known."""
        if self.checksum is not None:
            kind, digits = self.checksum
            return digest(path, kind) == digits
        return self.bytes is None or path.stat().st_size == self.bytes


def digest(path: str | os.PathLike[str], kind: str = "sha1") -> str:
    """The checksum of a file in hexadecimal digits, by an algorithm of `hashlib`."""
    found = hashlib.new(kind)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def fetch(remote: Remote, folder: Path, attempts: int = 3, pause: float = 1.0) -> Path:
    """Download a file into a folder, or find it downloaded already.

    The file appears under its name only when it is complete and its checksum, if one is known, is right. An
    interrupted transfer goes on from where it stopped.

    Parameters
    ----------
    remote : Remote
    folder : Path
        Made if it is missing.
    attempts : int
        How often in a row a connection may fail without bringing anything.
    pause : float
        Seconds before the second attempt; each further one waits twice as long.

    Returns
    -------
    Path
        The file, under the last part of the URL's path.

    Raises
    ------
    InputError
        In one line: no network, no such file on the server, a wrong checksum, a folder that cannot be written.
    """
    path = folder / remote.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); try --to DIR") from error
    if path.is_file() and remote.is_whole(path):
        return path
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            _Transfer(remote, file).run(attempts, pause, folder)
        if not remote.is_whole(temporary):
            raise InputError(_not_whole(remote, temporary))
    return path


def _not_whole(remote: Remote, path: Path) -> str:
    """Tell what a file downloaded should be and what it is."""
    if remote.checksum is None:
        expected, found = f"{remote.bytes} bytes", f"{path.stat().st_size}"
    else:
        kind, digits = remote.checksum
        expected, found = f"{kind} {digits}", digest(path, kind)
    return (
        f"{remote.name}: {remote.url} does not have the published checksum or size: expected {expected}, found "
        f"{found}; it is damaged or has been changed, and was not kept"
    )


class _Interrupted(Exception):
    """The connection broke or was refused; the message says how.

    Attributes
    ----------
    wait : float
        Seconds that the server asks to be left alone.
    """

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(message)
        self.wait = wait


class _Transfer:
    """A download under way into an open file."""

    def __init__(self, remote: Remote, file: BinaryIO) -> None:
        self.remote, self.file = remote, file
        self.version = ""  # the server's name for this state of the file: no other may be continued
        self.total: int | None = None  # its size in bytes, as the server has told
        self.bar = progress_bar(desc=remote.name, total=remote.bytes, unit="B", unit_scale=True, leave=False)

    def run(self, attempts: int, pause: float, folder: Path) -> None:
        """Fetch the whole file, over as many connections as it takes."""
        failures = 0
        with self.bar:
            while True:
                before = self.file.tell()
                try:
                    return self._connect()
                except _Interrupted as error:
                    failures = 1 if self.file.tell() > before else failures + 1
                    if failures >= attempts:
                        url = self.remote.url
                        raise InputError(
                            f"{self.remote.name}: cannot download from {urlsplit(url).netloc} ({error}); check the "
                            f"network, or fetch {url} yourself, put it in {folder} and run this again"
                        ) from None
                    time.sleep(max(error.wait, pause * 2 ** (failures - 1)))

    def _connect(self) -> None:
        """Fetch the missing rest, or all of it where the server cannot or should not continue."""
        begin = self.file.tell() if self.version else 0
        with self._answer(begin) as answer:
            if begin and not self._continues(answer, begin):
                self._forget()
                raise _Interrupted("the server continues another file than the one begun")
            begin = begin if answer.status == 206 else 0
            self.file.seek(begin)
            self.file.truncate()
            self.version = _version(answer.headers)
            length = _number(answer.headers.get("Content-Length", ""))
            self.total = total = None if length is None else begin + length
            self._check(answer.headers, total)
            self.bar.reset(total)
            self.bar.update(begin)
            for chunk in _chunks(answer):
                self._refuse_more(self.file.tell() + len(chunk))
                self.file.write(chunk)
                self.bar.update(len(chunk))
        if total is not None and self.file.tell() < total:
            raise _Interrupted(f"cut off after {self.file.tell()} of {total} bytes")

    def _continues(self, answer: http.client.HTTPResponse, begin: int) -> bool:
        """Tell whether an answer begins anew, or is the rest of the very file that was begun."""
        if answer.status != 206:
            return True
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", "").strip())
        if found is None:
            return False
        first, last, total = (int(digits) for digits in found.groups())
        length = _number(answer.headers.get("Content-Length", ""))
        return (
            first == begin
            and last == total - 1
            and self.total in (None, total)
            and length in (None, total - begin)
            and _version(answer.headers) in ("", self.version)
        )

    def _forget(self) -> None:
        """Begin anew with the next connection."""
        self.version, self.total = "", None
        self.file.seek(0)
        self.file.truncate()

    def _refuse_more(self, size: int) -> None:
        """Stop as soon as more bytes have come than the file has."""
        most = self.remote.bytes or self.total or _MOST_BYTES
        if size > most:
            raise InputError(
                f"{self.remote.name}: {self.remote.url} sends more than {most} bytes: not the published file"
            )

    def _answer(self, begin: int) -> http.client.HTTPResponse:
        request = Request(self.remote.url, headers={"Accept-Encoding": "identity", "User-Agent": "fcnlite"})
        if begin:
            request.add_header("Range", f"bytes={begin}-")
            request.add_header("If-Range", self.version)
        try:
            return urlopen(request, timeout=_TIMEOUT)
        except HTTPError as error:
            told = f"the server answers {error.code} {error.reason}"
            if error.code == 416 and begin:  # the file is shorter than what has come of it
                self._forget()
                raise _Interrupted(told) from error
            if error.code >= 500 or error.code in (408, 429):
                raise _Interrupted(told, _wait(error.headers)) from error
            raise InputError(f"{self.remote.name}: {told} for {self.remote.url}") from error
        except (URLError, http.client.HTTPException, OSError) as error:
            raise _Interrupted(_reason(error)) from error

    def _check(self, headers: http.client.HTTPMessage, total: int | None) -> None:
        """Refuse at once an answer that cannot be the file, such as a provider's page of its own."""
        name, url, wanted = self.remote.name, self.remote.url, self.remote.bytes
        if headers.get("Content-Type", "").startswith("text/html"):
            raise InputError(f"{name}: {url} is a web page now: not the published file")
        if total is not None and wanted is not None and total != wanted:
            raise InputError(
                f"{name}: {url} is {total} bytes long instead of {wanted}: not the published file"
            )


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(_CHUNK)
        except (http.client.HTTPException, OSError) as error:
            raise _Interrupted(_reason(error)) from error
        if not chunk:
            return
        yield chunk


def _number(text: str) -> int | None:
    """A header's whole number, None without one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _wait(headers: Message) -> float:
    """The seconds in Retry-After, which may hold a date instead."""
    told = headers.get("Retry-After", "").strip()
    seconds: float | None = _number(told)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            seconds = 0
    return min(max(seconds, 0), _LONGEST_WAIT)


def _version(headers: http.client.HTTPMessage) -> str:
    """The value for If-Range: a strong ETag or the date of the last change; empty without either."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _reason(error: BaseException) -> str:
    """The cause of a failed connection in a line; urllib wraps it in an error of its own."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner).partition("\n")[0] or type(inner).__name__
