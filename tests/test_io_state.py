"""Solver states in both of Caffe's forms, and files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcnlite.errors import InputError
from fcnlite.io import SolverSnapshot, atomic_path, read_state, write_state
from fcnlite.proto import SolverState

REFERENCE = Path(__file__).parent / "reference"
BINARY = REFERENCE / "solver-accumulated_iter_12.solverstate"
HDF5 = REFERENCE / "solver-heavy_iter_12.solverstate.h5"


def assert_same(one, other):
    assert (one.iter, one.current_step, one.learned_net) == (
        other.iter,
        other.current_step,
        other.learned_net,
    )
    assert len(one.history) == len(other.history)
    for a, b in zip(one.history, other.history):
        assert a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_caffes_binary_state_is_written_back_byte_for_byte(tmp_path):
    state = read_state(BINARY)
    theirs = SolverState.FromString(BINARY.read_bytes())
    assert (state.iter, state.current_step, state.learned_net) == (
        12,
        0,
        "solver-accumulated_iter_12.caffemodel",
    )
    assert len(state.history) == len(theirs.history) == 39
    for array, blob in zip(state.history, theirs.history):
        assert np.array_equal(array, np.array(blob.data, np.float32).reshape(blob.shape.dim))
    write_state(tmp_path / "s.solverstate", state)
    assert (tmp_path / "s.solverstate").read_bytes() == BINARY.read_bytes()


def test_caffes_hdf5_state_is_written_back_as_the_same_tree(tmp_path):
    state = read_state(HDF5)
    assert (state.iter, state.current_step, state.learned_net) == (
        12,
        0,
        "solver-heavy_iter_12.caffemodel.h5",
    )
    write_state(tmp_path / "s.solverstate.h5", state)
    with h5py.File(HDF5) as theirs, h5py.File(tmp_path / "s.solverstate.h5") as ours:
        assert set(ours) == set(theirs) == {"iter", "learned_net", "current_step", "history"}
        assert set(ours["history"]) == set(theirs["history"])
        items = ["iter", "learned_net", "current_step", *(f"history/{i}" for i in theirs["history"])]
        for name in items:
            one, other = ours[name], theirs[name]
            assert one.shape == other.shape and one.dtype == other.dtype
            assert np.asarray(one[()]).tobytes() == np.asarray(other[()]).tobytes()
            mine, its = one.id.get_type(), other.id.get_type()
            assert mine.equal(
                its
            )  # Caffe reads the string into a buffer of its size: it must end with a zero


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(0, 1000),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.lists(
        hnp.arrays(
            st.sampled_from([np.float32, np.float64]),
            hnp.array_shapes(min_dims=0, max_dims=4, max_side=3),
            elements=st.floats(width=32),
        ),
        max_size=4,
    ),
    st.sampled_from([".solverstate", ".solverstate.h5"]),
)
def test_any_state_survives(tmp_path_factory, iteration, step, learned, history, suffix):
    path = tmp_path_factory.mktemp("s") / f"s{suffix}"
    state = SolverSnapshot(iteration, step, learned, history)
    write_state(path, state)
    assert_same(read_state(path), state)


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "solver-accumulated_iter_12.caffemodel",
            "holds weights, not a solver's state; the state is in solver-accumulated",
        ),
        (
            "solver-heavy_iter_12.caffemodel.h5",
            "holds weights, not a solver's state; the state is in solver-heavy",
        ),
        ("rule.py", "damaged or cut short, or it is not a Caffe solver state|does not belong"),
    ],
)
def test_other_files_are_named_as_such(name, words):
    with pytest.raises(InputError, match=words) as caught:
        read_state(REFERENCE / name)
    assert "\n" not in str(caught.value)


def test_hostile_hdf5_states(tmp_path):
    path = tmp_path / "s.h5"

    def state(**changes):
        with h5py.File(path, "w") as file:
            file.create_group("history")
            for name, value in {"iter": 1, "current_step": 0, **changes}.items():
                if value is not None:
                    file[name] = value
        return path

    assert read_state(state()).learned_net == ""
    assert read_state(state(learned_net="text")).learned_net == "text"
    for changes, words in [
        ({"iter": None}, "no number /iter"),
        ({"iter": [1, 2]}, "no number /iter"),
        ({"current_step": "x"}, "no number /current_step"),
        ({"learned_net": 3}, "/learned_net is not text"),
        ({"iter": h5py.ExternalLink("/etc/hostname", "x")}, "is a link"),
    ]:
        with pytest.raises(InputError, match=words):
            read_state(state(**changes))


def test_missing_files_and_other_suffixes(tmp_path):
    for name in ("none.solverstate", "none.solverstate.h5"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            read_state(tmp_path / name)
    with pytest.raises(InputError, match="end the name so"):
        write_state(tmp_path / "state.bin", SolverSnapshot(1))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_states_give_a_state_or_one_line(tmp_path_factory, data):
    source = data.draw(st.sampled_from([BINARY, HDF5]))
    whole = bytearray(source.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    for _ in range(data.draw(st.integers(0, 5)) if whole else 0):
        whole[data.draw(st.integers(0, min(len(whole), 8000) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("d") / source.name
    path.write_bytes(whole)
    try:
        read_state(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "f.bin"
    path.write_text("old")
    for wrong in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(wrong), atomic_path(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path and path.read_text() == "old"
            raise wrong
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["f.bin"]
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["f.bin"]


def test_two_writers_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "f") as one, atomic_path(tmp_path / "f") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "f").read_text() == "1"


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="this is a folder"), atomic_path(tmp_path):
        pass
    with (
        pytest.raises(InputError, match="none does not exist; make it first"),
        atomic_path(tmp_path / "none" / "f"),
    ):
        pass
    with pytest.raises(InputError, match="f: cannot be written .No space left"), atomic_path(tmp_path / "f"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "f"):
        raise FileNotFoundError("another file")
