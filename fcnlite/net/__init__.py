"""Nets: a NetParameter brought to life (`core`), and the same as something that segments pictures."""

from fcnlite.net.core import LearnableParam, Net, argmax_channels, load

__all__ = ["LearnableParam", "Net", "argmax_channels", "load"]
