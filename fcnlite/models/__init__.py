"""The paper's nets: each a function of class count and width that writes its NetParameter.

>>> from fcnlite import models
>>> net = models.build("fcn8s", classes=5, width=8, deploy=True)
>>> [layer.name for layer in net.layer][-2:]
['upscore8', 'score']
"""

from __future__ import annotations

from fcnlite.models.alexnet import alexnet, caffenet, fcn_alexnet
from fcnlite.models.catalogue import CATALOGUE, Model, build, canonical, names
from fcnlite.models.googlenet import fcn_googlenet, googlenet
from fcnlite.models.nyud import nyud_early_fusion, nyud_late_fusion, nyud_late_fusion_16s
from fcnlite.models.recognise import recognise
from fcnlite.models.siftflow import siftflow_fcn8s, siftflow_fcn16s, siftflow_fcn32s
from fcnlite.models.vgg16 import fcn8s, fcn8s_atonce, fcn16s, fcn32s, vgg16

__all__ = [
    "CATALOGUE",
    "Model",
    "alexnet",
    "build",
    "caffenet",
    "canonical",
    "fcn8s",
    "fcn8s_atonce",
    "fcn16s",
    "fcn32s",
    "fcn_alexnet",
    "fcn_googlenet",
    "googlenet",
    "names",
    "nyud_early_fusion",
    "nyud_late_fusion",
    "nyud_late_fusion_16s",
    "recognise",
    "siftflow_fcn8s",
    "siftflow_fcn16s",
    "siftflow_fcn32s",
    "vgg16",
]
