"""Published formats and a published net: a V1 VGG-16 classifier, and MTCNN's first stage on real photographs."""

import os
from pathlib import Path

import cases
import h5py
import numpy as np
import pytest
import rule

from fcnlite import models
from fcnlite.net import Net

BOUND = 1e-5
FOLDER = Path(os.environ.get("FCNLITE_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
MTCNN = FOLDER / "mtcnn"


@pytest.mark.parametrize("described_by", ["its own prototxt", "fcnlite.models"])
def test_vgg16_classifier_in_the_v1_format(described_by):
    with h5py.File(cases.REFERENCE / "tiny-vgg16.h5") as file:
        own = file.attrs["prototxt_v1"]
        source = own if described_by == "its own prototxt" else models.vgg16(10, 4, 24, deploy=True)
        net = Net(source, "TEST", weights=cases.REFERENCE / "tiny-vgg16-v1.caffemodel")
        data = rule.image("tiny-vgg16", "data", (1, 3, 224, 224)) / np.float32(64)
        net.forward(data=data)
        for name in ("pool5", "fc8", "prob"):
            assert cases.relative_error(net.blobs[name].data, file[name][()]) <= BOUND, name


@pytest.mark.skipif(
    not (MTCNN / "det1.caffemodel").is_file(),
    reason=f"no published MTCNN model at {MTCNN}; set FCNLITE_REFERENCE to the folder with mtcnn/",
)
@pytest.mark.parametrize("photo", ["2007_000129", "2011_000006"])
def test_mtcnn_on_photographs(photo):
    net = Net(MTCNN / "det1.prototxt", "TEST", weights=MTCNN / "det1.caffemodel")
    with h5py.File(MTCNN / "det1.h5") as file:
        group = file["det1"][photo]
        net.forward(data=group["data"][()])
        for name in ("conv4-2", "prob1"):
            assert cases.relative_error(net.blobs[name].data, group[name][()]) <= BOUND, name
