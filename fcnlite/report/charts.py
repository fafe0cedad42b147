"""The page's figures in plotly's own terms, as plain values: data and layout of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fcnlite.report.run import Run

POINTS = 1500  # of a curve; a longer log is thinned out
_COLORS = ("#1f6fb4", "#d1542b", "#2a8f4e", "#7b52ab", "#a8791f", "#14808c", "#c23a7e", "#5b6470")
_AXIS = {"gridcolor": "#e4e7ea", "zerolinecolor": "#e4e7ea", "automargin": True}
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#22272b"}
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}

Chart = dict[str, Any]


def run_colors(runs: Sequence[Run]) -> list[str]:
    """A colour for each run."""
    return [_COLORS[i % len(_COLORS)] for i in range(len(runs))]


def curves(runs: Sequence[Run]) -> Chart:
    """Losses, mean IU and learning rate over the iterations, below one another.

    The legend names the runs where there are several, the two losses where there is one.
    """
    data: list[Chart] = []
    several = len(runs) > 1
    for run, color in zip(runs, run_colors(runs)):
        kept = _thinned(run.log)
        at = [record["iteration"] for record in kept]
        measured = [v.iteration for v in run.validations]
        line = {"color": color, "width": 1.8}
        lines: list[tuple[str, str, list[int], list[float | None], Chart, str]] = [
            ("training loss", "y", at, [_finite(r["smoothed_loss"]) for r in kept], line, "lines"),
            (
                "validation loss",
                "y",
                measured,
                [v.loss for v in run.validations],
                line | {"dash": "dot"},
                "lines+markers",
            ),
            (
                "mean IU",
                "y2",
                measured,
                [_in_percent(v.scores.get("mean_iu")) for v in run.validations],
                line,
                "lines+markers",
            ),
            ("learning rate", "y3", at, [_finite(r["lr"]) for r in kept], line, "lines"),
        ]
        named = False
        for what, axis, x, y, style, mode in lines:
            if all(value is None for value in y):
                continue
            shown = not named if several else axis == "y"
            named = named or shown
            hover = f"{what} %{{y:.4g}}" + (f", {_short(run.name)}" if several else "")
            data.append(
                {
                    "x": x,
                    "y": y,
                    "yaxis": axis,
                    "line": style,
                    "mode": mode,
                    "legendgroup": _plain(run.name) if several else what,
                    "name": _short(run.name) if several else what,
                    "showlegend": shown,
                    "meta": f"{run.name}: {what}",
                    "hovertemplate": f"{hover}<extra></extra>",
                }
            )
    layout = _layout(
        height=620,
        hovermode="x unified",
        legend=_LEGEND,
        xaxis={**_AXIS, "title": {"text": "iteration"}, "anchor": "y3", "domain": [0, 1]},
        yaxis={**_AXIS, "title": {"text": "loss"}, "domain": [0.56, 1], "rangemode": "tozero"},
        yaxis2={**_AXIS, "title": {"text": "mean IU, %"}, "domain": [0.2, 0.5], "range": [0, 100]},
        yaxis3={**_AXIS, "title": {"text": "rate"}, "domain": [0, 0.14], "nticks": 3, "exponentformat": "e"},
    )
    return {"data": data, "layout": layout}


def class_bars(runs: Sequence[Run]) -> Chart:
    """The IU of each class in each run's last validation."""
    data = []
    for run, color in zip(runs, run_colors(runs)):
        if run.last is not None:
            values = [_in_percent(value) for value in run.last.scores["class_iu"]]
            data.append(
                {"type": "bar", "orientation": "h", "x": values, "y": _plain_all(run.classes), "name": _short(run.name),
                 "marker": {"color": color}, "hovertemplate": "%{y}: %{x:.1f} %<extra></extra>"}
            )  # fmt: skip
    classes = max((len(run.classes) for run in runs), default=0)
    layout = _layout(
        height=90 + classes * max(22, 14 * len(runs)),
        showlegend=len(runs) > 1,
        legend=_LEGEND,
        xaxis={**_AXIS, "title": {"text": "IU, %"}, "range": [0, 100]},
        yaxis={**_AXIS, "autorange": "reversed", "type": "category", "dtick": 1},
        bargap=0.25,
    )
    return {"data": data, "layout": layout}


def confusion(run: Run) -> Chart | None:
    """The classes that the pixels of each class were taken for, in percent of the class; counts where one points."""
    last = next((v for v in reversed(run.validations) if v.histogram is not None), None)
    if last is None or last.histogram is None:
        return None
    counts = np.asarray(last.histogram)
    totals = counts.sum(1, keepdims=True)
    share = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    names, few = _plain_all(run.classes), len(run.classes) <= 12
    cells = [[None if math.isnan(v) else round(float(v), 2) for v in row] for row in share]
    written = [["" if v is None or v < 0.05 else f"{v:.1f}" for v in row] for row in cells] if few else None
    heat: Chart = {
        "type": "heatmap", "x": names, "y": names, "z": cells, "zmin": 0, "zmax": 100, "xgap": 1, "ygap": 1,
        "customdata": [[f"{int(v):,}" for v in row] for row in counts], "hoverongaps": False,
        "colorscale": [[0, "#f6f8fa"], [0.02, "#dbe9f5"], [0.2, "#8fbfe0"], [0.6, "#2f7fb8"], [1, "#0b3d69"]],
        "showscale": False,
        "hovertemplate": "%{y} taken for %{x}<br>%{z:.1f} % of the class, %{customdata} pixels<extra></extra>",
    }  # fmt: skip
    if written is not None:
        heat |= {"text": written, "texttemplate": "%{text}"}
    side = (
        max(38 if few else 18, 230 // max(len(names), 1)) * len(names)
        + 9 * max(map(len, names), default=0)
        + 30
    )
    axis = {**_AXIS, "tickangle": -60, "type": "category", "dtick": 1, "showgrid": False}
    layout = _layout(
        height=side,
        width=side,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={**axis, "side": "top"},
        yaxis={**axis, "autorange": "reversed", "tickangle": 0},
    )
    return {"name": run.name, "iteration": last.iteration, "data": [heat], "layout": layout}


def _layout(**settings: Any) -> Chart:
    margin = {"l": 56, "r": 12, "t": 30, "b": 44}
    return {"font": _FONT, "paper_bgcolor": "#fff", "plot_bgcolor": "#fff", "margin": margin, **settings}


def _plain(text: str) -> str:
    """A text as plotly shows it letter by letter: it would take <b> for bold."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _plain_all(texts: Sequence[str]) -> list[str]:
    return [_plain(text) for text in texts]


def _short(name: str) -> str:
    """A name that fits a phone's legend."""
    return _plain(name if len(name) <= 30 else f"{name[:14]}…{name[-14:]}")


def _thinned(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most `POINTS` lines of a log, the last one among them."""
    step = max(1, -(-len(log) // POINTS))
    kept = list(log[::-1][::step])
    return kept[::-1]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _in_percent(fraction: float | None) -> float | None:
    return None if fraction is None or math.isnan(fraction) else round(100 * fraction, 2)
