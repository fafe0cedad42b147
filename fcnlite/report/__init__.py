"""A page about training runs, one HTML file: curves, classes, confusions, pictures, settings."""

from fcnlite.report.page import render, write_report
from fcnlite.report.run import Picture, Run, Validation

__all__ = ["Picture", "Run", "Validation", "render", "write_report"]
