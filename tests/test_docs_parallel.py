"""docs/parallel.md and benchmarks.parallel: the table is the command's, and the model behaves as sums do."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import parallel

PAGE = Path(__file__).parents[1] / "docs" / "parallel.md"
NETWORK = parallel.Network("tried", 1e-5, 1e9)


def test_the_pages_table_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert parallel.main(["--no-measure"]) == 0
    printed = capsys.readouterr().out.strip()
    shown = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    measured, modelled = (text.strip() for text in shown)
    assert modelled == printed and measured.splitlines()[0] not in printed


@given(st.integers(2, 512), st.floats(1, 1e9))
def test_a_sum_costs_at_least_its_bytes_and_messages(ranks: int, size: float) -> None:
    taken = NETWORK.sum_seconds(ranks, size)
    assert taken >= 2 * (ranks - 1) / ranks * size / NETWORK.bandwidth
    assert taken >= 2 * math.ceil(math.log2(ranks)) * NETWORK.latency
    assert NETWORK.sum_seconds(1, size) == 0


def test_sums_hide_behind_what_is_left_of_the_pass() -> None:
    """By hand: 1 MB ready at once, 2 s of the pass left; then 1 MB that nothing hides."""
    early = parallel.Pass(3.0, [(0.0, 10**6), (2.0, 0)], 0.0)
    late = parallel.Pass(3.0, [(2.0, 0), (0.0, 10**6)], 0.0)
    network = parallel.Network("slow", 0.0, 1e6)  # two processes sum 1 MB in 1 s
    assert parallel.update_seconds(early, 2, 2, network) == 3.0
    assert parallel.update_seconds(late, 2, 2, network) == 4.0
    assert parallel.update_seconds(early, 2, 2, network, beside=False) == 4.0
    assert parallel.update_seconds(late, 2, 4, network) == 7.0
    assert parallel.update_seconds(late, 2, 2, network, shrink=0.5) == 3.5
    assert parallel.efficiency(late, 2, 2, network) == 0.75


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    parallel.plot(tmp_path / "picture.png", "fcn8s", [parallel.GPUS[0]], 64)
    assert (tmp_path / "picture.png").stat().st_size > 5000
