"""Text tables: cells in columns of equal width."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table, its columns two spaces apart and as wide as their widest cell.

    Parameters
    ----------
    rows : sequence of sequences of str
        The cells; every row has as many.
    left : int
        So many columns are aligned to the left, the others to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if i < left else ">" for i in range(len(widths))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths)).rstrip()
        for row in rows
    ]


def headed(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of `aligned` under a header that dashes underline."""
    head, *body = aligned([header, *rows], left)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [head, "  ".join("-" * width for width in widths), *body]
