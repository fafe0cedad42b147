"""From runs to HTML: figures by plotly, whose script goes into the page, pictures as data URLs, the rest by jinja2."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

import fcnlite
from fcnlite.data.palette import PALETTE
from fcnlite.io.atomic import write_text
from fcnlite.report import charts
from fcnlite.report.images import data_url, error_url, label_url
from fcnlite.report.run import Picture, Run

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("fcnlite.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def write_report(path: Path, runs: Sequence[Run]) -> None:
    """Write the page about one run, or about several side by side; it appears whole or not at all."""
    write_text(path, render(runs))


def render(runs: Sequence[Run]) -> str:
    """The page as HTML."""
    charts_of = {
        "curves": charts.curves(runs),
        "bars": charts.class_bars(runs),
        "confusions": [charts.confusion(run) for run in runs],
    }
    return _ENVIRONMENT.get_template("report.html").render(
        title=", ".join(run.name for run in runs),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=fcnlite.__version__,
        cards=[_card(run, color) for run, color in zip(runs, charts.run_colors(runs))],
        classes=list(_class_rows(runs)),
        runs=[run.name for run in runs],
        swatches=list(_swatches(runs)),
        settings=list(_settings(runs)),
        about=list(_rows([run.about for run in runs])),
        has_curves=any(run.log for run in runs),
        has_scores=any(run.validations for run in runs),
        has_confusions=any(v.histogram is not None for run in runs for v in run.validations),
        pictures=list(_pictures(runs)),
        plotly=plotly.offline.get_plotlyjs(),
        charts=_embedded(charts_of),
        gallery=_embedded({"runs": [_snapshots(run) for run in runs], "pictures": list(_gallery(runs))}),
    )


def _embedded(value: Any) -> str:
    """JSON that can stand within a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def percent(fraction: float | None) -> str:
    """A score in percent; a dash where it is none."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f}"


def _card(run: Run, color: str) -> dict[str, Any]:
    """The run in a few figures."""
    last, best = run.last, run.best
    done = run.log[-1]["iteration"] if run.log else (last.iteration if last else 0)
    seconds = sum(record.get("seconds", 0) for record in run.log)
    figures = [("iterations", f"{done:,} of {run.planned:,}" if run.planned > done else f"{done:,}")]
    if run.log:
        figures.append(("training loss", f"{run.log[-1]['smoothed_loss']:.4g}"))
        figures.append(("time in training", _duration(seconds)))
    if last is not None:
        if last.loss is not None:
            figures.append(("validation loss", f"{last.loss:.4g}"))
        figures.append(("pixel accuracy", percent(last.scores.get("pixel_accuracy"))))
    headline = percent(last.scores.get("mean_iu")) if last else "–"
    note = ""
    if best is not None and last is not None and best.iteration != last.iteration:
        note = f"best {percent(best.scores['mean_iu'])} at {best.iteration:,}"
    return {"name": run.name, "color": color, "headline": headline, "note": note, "figures": figures}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _names(runs: Sequence[Run]) -> list[str]:
    """Class names of all runs, each once, in order."""
    return list(dict.fromkeys(name for run in runs for name in run.classes))


def _class_rows(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """A class's share of the truth, and each run's accuracy and IU, from its last validation."""
    for name in _names(runs):
        cells, share = [], None
        for run in runs:
            scores = run.last.scores if run.last is not None and name in run.classes else None
            if scores is None:
                cells.append({"iu": "–", "accuracy": "–", "width": 0})
                continue
            k = list(run.classes).index(name)
            iu = scores["class_iu"][k]
            cells.append(
                {
                    "iu": percent(iu),
                    "accuracy": percent(scores["class_accuracy"][k]),
                    "width": round(100 * (iu or 0), 1),
                }
            )
            total = sum(scores["class_pixels"])
            share = scores["class_pixels"][k] / total if total else None
        yield {"name": name, "color": _color(runs, name), "share": percent(share), "cells": cells}


def _color(runs: Sequence[Run], name: str) -> str:
    k = next(list(run.classes).index(name) for run in runs if name in run.classes)
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[k % len(PALETTE)])


def _swatches(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    for name in _names(runs):
        yield name, _color(runs, name)


def _rows(tables: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str], bool]]:
    """A key, its value in each table, and whether those differ."""
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [_shown(table[key]) if key in table else "" for table in tables]
        yield key, values, len(set(values)) > 1


def _settings(runs: Sequence[Run]) -> Iterator[tuple[str, list[str], bool]]:
    yield from sorted(_rows([run.settings for run in runs]), key=lambda row: not row[2])


def _shown(value: Any) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _snapshots(run: Run) -> dict[str, Any]:
    iterations = sorted({iteration for picture in run.pictures for iteration in picture.predictions})
    return {"name": run.name, "iterations": iterations}


def _by_name(runs: Sequence[Run]) -> dict[str, list[Picture | None]]:
    """The runs' pictures of each image."""
    found: dict[str, list[Picture | None]] = {}
    for number, run in enumerate(runs):
        for picture in run.pictures:
            found.setdefault(picture.name, [None] * len(runs))[number] = picture
    return found


def _pictures(runs: Sequence[Run]) -> Iterator[dict[str, str]]:
    """The start of each image's row: itself and its truth."""
    for name, shown in _by_name(runs).items():
        picture = next(p for p in shown if p is not None)
        classes = next(len(run.classes) for run, p in zip(runs, shown) if p is not None)
        yield {"name": name, "image": data_url(picture.image), "truth": label_url(picture.truth, classes)}


def _gallery(runs: Sequence[Run]) -> Iterator[list[dict[str, Any]]]:
    """For each image and run: prediction, errors and score by iteration."""
    for shown in _by_name(runs).values():
        yield [
            {}
            if picture is None
            else {
                str(iteration): {
                    "prediction": label_url(label, len(run.classes)),
                    "error": error_url(picture.truth, label, len(run.classes)),
                    "score": picture.mean_iu(iteration, len(run.classes)),
                }
                for iteration, label in picture.predictions.items()
            }
            for run, picture in zip(runs, shown)
        ]
