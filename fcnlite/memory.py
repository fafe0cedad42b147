"""Amounts of memory: as people write them, and as the process holds them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from fcnlite.errors import InputError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def bytes_of(amount: str | int) -> int:
    """Read an amount of memory such as `2G`, `1.5 GiB`, `800M` or a number of bytes; a G is 2^30 bytes.

    Raises
    ------
    InputError
        It is none, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?\s*", str(amount), re.IGNORECASE)
    wanted = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if wanted < 1:
        raise InputError(f"'{amount}' is not an amount of memory, such as 2G or 800M")
    return wanted


def shown(count: int) -> str:
    """A number of bytes in the unit that suits it: `812 MB`, `2.50 GB`."""
    megabytes = max(0, count) / _UNITS["M"]
    return f"{megabytes / 1024:.2f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def resident() -> int:
    """Bytes of memory that this process holds: at present on Linux, at most until now on other systems."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return _most_resident()
    import resource

    return pages * resource.getpagesize()


def _most_resident() -> int:
    """0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
