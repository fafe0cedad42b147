"""The commands of `fcnlite COMMAND`: one file each, a thin face over a function of the library.

A command's module is imported only when the command is given, so that the others cost nothing.
"""

from __future__ import annotations

COMMANDS = {
    "train": "train a net: the demo (no data needed), PASCAL VOC, your own folder, ...",
    "evaluate": "the paper's four metrics of some weights on a data set",
    "predict": "segment pictures",
    "table": "the paper's tables, measured beside published",
    "report": "a page about training runs: curves, scores, pictures",
    "solve": "train as a Caffe solver file says",
    "inspect": "layers, sizes and costs of any Caffe file",
    "convert": "Caffe's weights and solver states from binary to HDF5 and back",
    "export": "a net as ONNX or safetensors, for today's tools",
    "serve": "a page on this machine to try nets on pictures",
    "download": "fetch the weights that the paper's authors published",
    "data": "check pictures and masks of your own, or lay them out as VOC",
    "hha": "encode depth images as HHA",
    "caffe": "run a script written for Caffe's Python interface",
}
