"""Snapshots: runs that Caffe began go on here, files come out as Caffe's, and a resumed run is the unbroken one."""

import sys
from types import SimpleNamespace

import cases
import h5py
import numpy as np
import pytest
from cases import rule
from test_reference_solvers import batches, start

import fcnlite.random
from fcnlite import device
from fcnlite.caffe import Layer
from fcnlite.errors import InputError
from fcnlite.io import read_state, read_weights
from fcnlite.io.caffemodel import read_definition
from fcnlite.net import Net
from fcnlite.proto import to_text
from fcnlite.solver import SGDSolver

BOUND = 5e-5
SNAPSHOTS = {
    "solver-heavy": ("solver-heavy_iter_12.caffemodel.h5", "solver-heavy_iter_12.solverstate.h5"),
    "solver-accumulated": ("solver-accumulated_iter_12.caffemodel", "solver-accumulated_iter_12.solverstate"),
}


@pytest.fixture(params=sorted(SNAPSHOTS))
def case(request):
    with h5py.File(cases.REFERENCE / "solvers.h5") as file:
        yield request.param, file[request.param]


def parameters(solver):
    return {
        f"{p.layer}/{p.index}": device.current().tonumpy(p.blob.data).copy()
        for p in solver.net.learnable_params
    }


def momenta(solver):
    return [device.current().tonumpy(history).copy() for history in solver.history]


class Seekable:
    """The reference's batches, with the seek that a solver looks for when it restores."""

    def __init__(self, name, group, net):
        self.make = lambda start: batches(name, group, net, start)
        self.items = self.make(0)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def seek(self, position):
        self.items = self.make(position)


def fresh_solver(name, group, settings=""):
    """A solver of the case before any update, its net drawn from another seed, fed by a source that can seek."""
    fcnlite.random.set_random_seed(5)
    net = Net(group.attrs["net"], phase="TRAIN")
    return SGDSolver(group.attrs["solver"] + settings, net=net, source=Seekable(name, group, net))


def test_state_and_weights_are_those_of_the_run(case):
    name, group = case
    solver = fresh_solver(name, group)
    solver.restore(cases.REFERENCE / SNAPSHOTS[name][1])
    assert (solver.iter, solver.current_step) == (12, 0)
    for key, array in parameters(solver).items():
        np.testing.assert_array_equal(array, group["params"][key][()])
    assert any(np.abs(history).max() > 0 for history in solver.history)


def test_run_that_caffe_began_goes_on_as_an_unbroken_one(case):
    name, group = case
    unbroken = start(name, group)
    unbroken.step(12)
    stream = fcnlite.random.mask_state()  # where dropout's masks stand, which Caffe does not save
    unbroken.step(12)

    restored = fresh_solver(name, group)
    restored.restore(cases.REFERENCE / SNAPSHOTS[name][1])
    fcnlite.random.set_mask_state(stream)
    restored.step(12)

    assert restored.iter == unbroken.iter == 24
    expected = parameters(unbroken)
    for key, array in parameters(restored).items():
        assert cases.relative_error(array, expected[key]) <= BOUND, key
    for mine, theirs in zip(momenta(restored), momenta(unbroken)):
        assert cases.relative_error(mine, theirs) <= BOUND
    assert restored.losses[-1] == pytest.approx(unbroken.losses[-1], rel=BOUND)


@pytest.mark.parametrize("form", ["HDF5", "BINARYPROTO"])
def test_resumed_run_has_the_same_bits(case, form, tmp_path):
    name, group = case
    settings = f'\nsnapshot_format: {form}\nsnapshot_prefix: "{tmp_path / "run"}"\n'
    unbroken = start(name, group)
    unbroken.step(6)

    first = SGDSolver(group.attrs["solver"] + settings, net=start(name, group).net)
    first.source = batches(name, group, first.net)
    first.step(3)
    weights, state = first.snapshot()
    ending = ".h5" if form == "HDF5" else ""
    assert weights == tmp_path / f"run_iter_3.caffemodel{ending}"
    assert state == tmp_path / f"run_iter_3.solverstate{ending}"

    second = fresh_solver(name, group, settings)
    second.restore(state)
    second.step(3)
    expected = parameters(unbroken)
    for key, array in parameters(second).items():
        np.testing.assert_array_equal(array, expected[key], err_msg=key)
    for mine, theirs in zip(momenta(second), momenta(unbroken)):
        np.testing.assert_array_equal(mine, theirs)


class Batches(Layer):
    """The Python layer that fed the reference runs, by the same rule."""

    def setup(self, bottom, top):
        self.case, self.shape, self.classes = "solver-accumulated", (1, 3, 29, 33), 5
        self.t = 0

    def reshape(self, bottom, top):
        top[0].reshape(*self.shape)
        top[1].reshape(1, 1, *self.shape[2:])

    def forward(self, bottom, top):
        top[0].data[...] = rule.image(self.case, "data", self.shape, self.t)
        top[1].data[...] = rule.label(self.case, "label", (1, 1, *self.shape[2:]), self.classes, self.t)
        self.t += 1


def test_files_come_out_byte_for_byte_as_caffes(tmp_path, monkeypatch):
    """Caffe's net, weights and state, read and written again, are the very files that Caffe wrote."""
    monkeypatch.setitem(sys.modules, "generate", SimpleNamespace(Batches=Batches))
    weights, state = (cases.REFERENCE / name for name in SNAPSHOTS["solver-accumulated"])
    described = read_definition(weights)
    layers = [layer for layer in described.layer if layer.type != "Split"]
    splits = {top: layer.bottom[0] for layer in described.layer if layer.type == "Split" for top in layer.top}
    for layer in layers:
        layer.bottom[:] = [splits.get(name, name) for name in layer.bottom]
    net = type(described)(name=described.name, layer=layers)

    settings = f'snapshot_prefix: "{tmp_path / "run"}" base_lr: 0.1 lr_policy: "fixed"'
    solver_text = f"{settings} net_param {{ {to_text(net)} }}"
    solver = SGDSolver(solver_text)
    solver.restore(state)
    solver.net.save(tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == weights.read_bytes()

    written, ours = solver.snapshot()[1].read_bytes(), read_state(state)
    assert written.startswith(b"\x08\x0c")
    theirs = state.read_bytes().replace(ours.learned_net.encode(), b"")
    mine = written.replace(str(tmp_path / "run_iter_12.caffemodel").encode(), b"")
    start_of_history = theirs.index(b"\x1a")
    assert mine[mine.index(b"\x1a") :].startswith(theirs[start_of_history:])


@pytest.mark.parametrize("case", ["solver-heavy"], indirect=True)  # Caffe wrote HDF5 of this one
def test_hdf5_snapshot_has_caffes_layout(case, tmp_path):
    name, group = case
    solver = fresh_solver(name, group, f'\nsnapshot_format: HDF5\nsnapshot_prefix: "{tmp_path / "run"}"\n')
    solver.restore(cases.REFERENCE / SNAPSHOTS[name][1])
    for mine, theirs in zip(solver.snapshot(), SNAPSHOTS[name]):
        with h5py.File(mine) as ours, h5py.File(cases.REFERENCE / theirs) as caffes:
            found, wanted = _contents(ours), _contents(caffes)
            # The reference run was fed by one Python layer where this one has two inputs.
            own = {"data/batches", "data/data_batches_0_split", "learned_net"}
            here = {"data/data", "data/label", "data/data_data_0_split", "learned_net"}
            assert found.keys() - here == wanted.keys() - own
            for key in found.keys() - here:
                assert found[key] == wanted[key], key


def _contents(file):
    """Every group and array of an HDF5 file by its path."""
    found = {}

    def note(path, item):
        is_group = isinstance(item, h5py.Group)
        found[path] = "group" if is_group else (item.shape, item.dtype, np.asarray(item[()]).tobytes())

    file.visititems(note)
    return found


def test_state_of_another_net_is_refused(case, tmp_path):
    name, group = case
    text = (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }'
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "out" '
        "convolution_param { num_output: 1 kernel_size: 1 } }"
    )
    solver = SGDSolver(f'base_lr: 1 lr_policy: "fixed" net_param {{ {text} }}')
    with pytest.raises(InputError, match="does not fit the net's 2 parameters"):
        solver.restore(cases.REFERENCE / SNAPSHOTS[name][1])
    _, state = solver.snapshot(tmp_path / "narrow")
    wide = SGDSolver(f'base_lr: 1 lr_policy: "fixed" net_param {{ {text.replace("dim: 2", "dim: 5", 1)} }}')
    with pytest.raises(InputError, match=r"array 0 is \(1, 2, 1, 1\), the net's parameter \(1, 5, 1, 1\)"):
        wide.restore(state)


def test_snapshot_goes_beside_the_solver_when_the_folder_is_missing(tmp_path, monkeypatch):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "net.prototxt").write_text(
        'layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 1 dim: 2 } } }'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1 } }'
    )
    (folder / "solver.prototxt").write_text(
        'train_net: "net.prototxt" base_lr: 1 lr_policy: "fixed" snapshot_prefix: "snapshot/train"'
    )
    monkeypatch.chdir(tmp_path)
    weights, state = SGDSolver(folder / "solver.prototxt").snapshot()
    assert weights == folder / "snapshot" / "train_iter_0.caffemodel"
    assert read_weights(weights)["ip"][0].shape == (1, 2)
    (tmp_path / "snapshot").mkdir()
    weights, state = SGDSolver(folder / "solver.prototxt").snapshot()
    assert (tmp_path / weights).resolve() == tmp_path / "snapshot" / "train_iter_0.caffemodel"


@pytest.fixture
def tiny():
    text = """layer { name: "x" type: "Input" top: "x" top: "t" input_param { shape { dim: 1 dim: 2 } } }
      layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
      layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }"""
    return Net(text, "TRAIN")


def test_a_solver_without_a_prefix_still_saves(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SGDSolver('base_lr: 0.1 lr_policy: "fixed" max_iter: 1\n', net=tiny).solve()
    assert {path.name for path in tmp_path.iterdir()} == {
        "snapshot_iter_1.caffemodel",
        "snapshot_iter_1.solverstate",
    }


def test_poly_needs_to_know_where_it_ends(tiny):
    with pytest.raises(InputError, match="poly needs a max_iter"):
        SGDSolver('base_lr: 0.1 lr_policy: "poly" power: 1\n', net=tiny)


def test_test_data_that_ends_is_told(tiny):
    solver = SGDSolver('base_lr: 0.1 lr_policy: "fixed"\n', net=tiny)
    solver.param.test_iter.append(3)
    solver.test_nets, solver.test_source = [tiny], lambda number: [{"x": np.ones((1, 2))}]
    with pytest.raises(InputError, match="test net 0: its data ended after 1 of 3 passes"):
        solver.test_all()
