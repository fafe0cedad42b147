"""FCN-8s, 16s and 32s at full size on a real photograph, against what Caffe computed.

`python -m pytest -s tests/test_reference_full.py` prints how far the scores are from Caffe's, exact and with `--fast`.
"""

import cases
import h5py
import numpy as np
import photos
import pytest

import fcnlite.random
from fcnlite import device, models
from fcnlite.net import Net

pytestmark = photos.needed
IMAGE = "2007_000129"


@pytest.mark.parametrize("name", ["fcn8s", "fcn16s", "fcn32s"])
def test_full_size_scores(name, monkeypatch):
    data, label = photos.load(IMAGE)
    with h5py.File(cases.REFERENCE / "full.h5") as file:
        group = file[f"full-{name}"][IMAGE]
        net = Net(models.build(name), phase="TEST")
        cases.fill_params(f"full-{name}", net)
        loss = float(net.forward(data=data, label=label)["loss"])
        assert abs(loss / group.attrs["loss"] - 1) <= cases.loss_bound(1e-5)
        exact = device.current().tonumpy(net.blobs["score"].data).copy()
        check_scores(name, exact, group)
        # The pass that frees blobs on the way and folds the ReLUs gives the same bits.
        for blob in net.blobs.values():
            blob.drop_data()
        np.testing.assert_array_equal(inferred(net, data, label), exact)
        monkeypatch.setattr(device.current(), "fast", True)
        fast = inferred(net, data, label)
        assert (fast != exact).any()
        check_scores(f"{name} --fast", fast, group)


def inferred(net, data, label):
    """The scores of a pass that frees memory on its way."""
    return device.current().tonumpy(net.infer("score", data=data, label=label))


def check_scores(name, score, group):
    """Compare with Caffe's: within 1e-5 of the largest, the same label for 99.99 % of the pixels."""
    scale = group.attrs["score_absmax"]
    error = cases.relative_error(score[:, :, ::7, ::7], group["score_every_7th"][()], scale=scale)
    agreement = (score[0].argmax(0) == group["argmax"][()]).mean()
    print(f"{name}: scores {error:.1e} off, argmax equal on {agreement:.4%}")
    assert error <= 1e-5
    assert agreement >= 0.9999


def test_full_size_gradients():
    data, label = photos.load(IMAGE)
    with h5py.File(cases.REFERENCE / "full.h5") as file:
        group = file["full-fcn32s-step"][IMAGE]
        fcnlite.random.set_random_seed(int(group.attrs["random_seed"]))
        net = Net(models.build("fcn32s"), phase="TRAIN")
        cases.fill_params("full-fcn32s-step", net)
        loss = float(net.forward_backward(data=data, label=label))
        assert abs(loss / group.attrs["loss"] - 1) <= cases.loss_bound(1e-5)
        worst = {"norm": 0.0, "samples": 0.0}
        for layer, params in group["param_diffs"].items():
            for index, expected in params.items():
                diff = device.current().tonumpy(net.params[layer][int(index)].diff).ravel()
                norm = float(np.linalg.norm(diff.astype(np.float64)))
                if expected.attrs["norm"] == 0:
                    assert norm == 0, f"{layer}/{index} gets no gradient in Caffe"
                    continue
                samples = diff[:: max(1, diff.size // 257)][:257]
                worst["norm"] = max(worst["norm"], abs(norm / expected.attrs["norm"] - 1))
                worst["samples"] = max(worst["samples"], cases.relative_error(samples, expected[()]))
        print(f"gradients: norms {worst['norm']:.1e}, samples {worst['samples']:.1e}")
        assert worst["norm"] <= 3e-3
        assert worst["samples"] <= 3e-2
