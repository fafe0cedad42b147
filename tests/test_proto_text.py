"""Prototxt: what parses, what is refused and with which words, and that text out is read back the same."""

import struct
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import NAME_CHARACTERS
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite.errors import InputError
from fcnlite.proto import (
    MESSAGE_NAMES,
    NetParameter,
    locate,
    message_class,
    parse_net,
    read_net,
    read_solver,
    to_text,
)
from fcnlite.proto.schema import SCHEMA, is_repeated

REFERENCE = Path(__file__).parent / "reference"

NET = """
name: "small"  # a comment with a { brace and a "quote
layer {
  name: 'conv' type: "Convolution"
  bottom: "data", top: "conv";
  param { lr_mult: 1 decay_mult: 1 } param: < lr_mult: 2 decay_mult: 0 >
  convolution_param { num_output: 21 pad: 100 kernel_size: [3, 5] weight_filler {
    type: "gaus" "sian" std: 1e-2 } }
}
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 0x2 } }
"""


def test_reads_every_notation():
    net = parse_net(NET)
    conv = net.layer[0]
    assert (net.name, conv.name, conv.type, list(conv.bottom)) == ("small", "conv", "Convolution", ["data"])
    assert [p.lr_mult for p in conv.param] == [1, 2] and [p.decay_mult for p in conv.param] == [1, 0]
    assert list(conv.convolution_param.kernel_size) == [3, 5]
    assert conv.convolution_param.weight_filler.type == "gaussian"
    assert net.layer[1].pooling_param.pool == net.layer[1].pooling_param.AVE
    assert net.layer[1].pooling_param.kernel_size == 2


def test_lists_of_messages():
    net = parse_net("layer [ { name: 'a' param: [<lr_mult: 1>, {}] }, { name: 'b' } ] layer: []\nname: 'n'")
    assert [layer.name for layer in net.layer] == ["a", "b"] and net.name == "n"
    assert [p.HasField("lr_mult") for p in net.layer[0].param] == [True, False]
    assert locate("layer [ { name: 'a' }, \n { name: 'b' } ]", "b") == "<text>:2: "


def test_defaults_and_presence_are_caffes():
    layer = message_class("LayerParameter")()
    assert not layer.HasField("phase") and not layer.HasField("pooling_param")
    assert message_class("NetState")().phase == 1  # TEST
    solver = message_class("SolverParameter")()
    assert (solver.type, solver.clip_gradients, solver.random_seed, solver.iter_size) == ("SGD", -1, -1, 1)
    assert solver.snapshot_format == solver.BINARYPROTO and solver.delta == np.float32(1e-8)
    assert layer.lrn_param.beta == 0.75 and layer.scale_param.axis == 1 and layer.crop_param.axis == 2
    assert layer.hinge_loss_param.norm == layer.hinge_loss_param.L1 == 1
    assert layer.loss_param.normalization == layer.loss_param.VALID
    assert layer.eltwise_param.operation == layer.eltwise_param.SUM == 1
    assert layer.window_data_param.crop_mode == "warp"


def test_arrays_are_written_packed_and_short_lists_are_not():
    blob = message_class("BlobProto")(data=[1.0, 2.0], num=3)
    blob.shape.dim.extend([1, 300])
    assert blob.SerializeToString() == (
        b"\x08\x03" + b"\x2a\x08" + struct.pack("<2f", 1, 2) + b"\x3a\x05\x0a\x03\x01\xac\x02"
    )
    pad = message_class("ConvolutionParameter")(pad=[1, 2])
    assert pad.SerializeToString() == b"\x18\x01\x18\x02"


MISTAKES = [
    (
        "layer {\n convolution_param {\n  kernel_sise: 3 } }",
        3,
        "unknown field 'kernel_sise' in ConvolutionParameter; did you mean 'kernel_size'?",
    ),
    ("layer { pooling_param { pool: MAXX } }", 1, "unknown value 'MAXX' for 'pool'; did you mean 'MAX'?"),
    ("layers { type: CONVOLUTOIN }", 1, "did you mean 'CONVOLUTION'?"),
    ('layers { type: "Convolution" }', 1, "write 'layer'"),
    ("layer {\n\n lr_mult: 1 }", 3, "unknown field 'lr_mult' in LayerParameter; it belongs in param { }"),
    ("layer { convolution_param { num_output: many } }", 1, "'num_output' takes an integer from 0"),
    ("layer { convolution_param { num_output: -1 } }", 1, "not -1"),
    ("layer { convolution_param { num_output: 4294967296 } }", 1, "not 4294967296"),
    ("layer { convolution_param { num_output: 1.5 } }", 1, "not 1.5"),
    ("layer { convolution_param { bias_term: yes } }", 1, "takes true or false, not yes"),
    ("layer { dropout_param { dropout_ratio: half } }", 1, "takes a number, not half"),
    ("layer { name: conv }", 1, "takes a quoted string, not conv"),
    ('layer { pooling_param { pool: "MAX" } }', 1, "write pool: MAX without quotes"),
    ('layer { name: "a"\n\n name: "b" }', 3, "'name' is given twice in LayerParameter, first on line 1"),
    ('\nlayer {\n name: "a"\n', 2, "the '{' of 'layer' opened here is never closed"),
    ('layer { name: "a" }\n}\n', 2, "closes nothing"),
    ('layer { name: "a" >\n', 1, "'>' cannot close the '{' of 'layer' (line 1)"),
    ('layer {\n name: "a"\nlayer { name: "b" }', 3, "is the '}' of 'layer' (line 1) missing?"),
    ('layer {\n name: "a\n }', 2, "not closed on its line"),
    ("layer: 3", 1, "write layer { ... }"),
    ("name { }", 1, "'name' takes a quoted string, not a { } block"),
    ('layer { name "a" }', 1, "expected ':' after 'name'"),
    ('layer { name: ["a", "b"] }', 1, "takes one value, not a list"),
    ("layer { top: [", 1, "has no value"),
    ('layer { top: ["a" "b" 3 ]', 1, "expected ',' or ']'"),
    ("layer: [ { } 3 ]\n", 1, "expected ',' or ']'"),
    ("layer: [ 3 ]\n", 1, "the list of 'layer' holds fields"),
    ("layer: [ { name: 'x'\n", 1, "never closed"),
    ("layer { loss_weight: +1 }", 1, "takes a number, not +1"),
    ("name:\n", 1, "has no value"),
    ("layer { @ }", 1, "unexpected character '@'"),
    ('"layer" { }', 1, "expected a field name"),
    ("layer { clip_param { min: 1 } }", None, "required field layer[0].clip_param.max is missing"),
]


@pytest.mark.parametrize("text, line, words", MISTAKES)
def test_mistakes_name_file_and_line(tmp_path, text, line, words):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_net(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert words in message and "\n" not in message


def test_files_that_are_no_prototxt(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_net(tmp_path / "missing.prototxt")
    with pytest.raises(InputError, match="folder"):
        read_net(tmp_path)
    (tmp_path / "weights").write_bytes(b"\x0a\x00\x03abc")
    with pytest.raises(InputError, match="not a text file"):
        read_net(tmp_path / "weights")


def test_text_and_paths_are_told_apart(tmp_path, monkeypatch):
    assert read_net('name: "x"').name == "x"
    assert read_net("layer { }").layer[0].name == ""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_text('name: "file"')
    assert read_net("a:b").name == "file"
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfname: 'n'")
    assert read_net("bom").name == "n"
    (tmp_path / "latin").write_bytes(b"# \xe9t\xe9\nname: 'n'")
    assert read_net("latin").name == "n"


def test_fields_of_forks():
    text = "mem_param { optimize_train: true sizes: [1, {a: 2}] }\n"
    text += 'layer {\n forward_type: FLOAT16\n name: "x"\n nam: 1 }'
    with warnings.catch_warnings(), pytest.raises(InputError, match=":5: unknown field 'nam'"):
        warnings.simplefilter("ignore")
        parse_net(text)
    with pytest.warns(UserWarning, match="is not a field of Caffe's; it is ignored") as caught:
        assert parse_net(text.replace("nam:", "top:").replace("1 }", '"t" }')).layer[0].name == "x"
    assert [str(w.message).split()[:2] for w in caught] == [
        ["<text>:1:", "'mem_param'"],
        ["<text>:3:", "'forward_type'"],
    ]
    dilated = parse_net("layer { convolution_param { hole: 2 } }").layer[0]
    assert list(dilated.convolution_param.dilation) == [2]


def test_layers_are_located():
    assert locate(NET, "conv") == "<text>:3: "
    assert locate(NET, "absent") == "" and locate("/no/such/file", "conv") == ""
    assert locate('layer { param { name: "w" } name: "a" }\n', "w") == ""


def test_reference_nets_parse_and_round_trip():
    with h5py.File(REFERENCE / "layers.h5") as layers, h5py.File(REFERENCE / "nets.h5") as nets:
        texts = [case.attrs["prototxt"] for file in (layers, nets) for case in file.values()]
    with h5py.File(REFERENCE / "solvers.h5") as solvers:
        texts += [case.attrs["net"] for case in solvers.values()]
        for case in solvers.values():
            solver = read_solver(case.attrs["solver"])
            assert read_solver(to_text(solver)) == solver
    assert len(texts) > 60
    for text in texts:
        net = parse_net(text)
        assert net.layer and parse_net(to_text(net)) == net


def _messages(name, depth=2):
    """Any message of a type, with some of its fields set."""
    scalars = {
        "FLOAT": st.floats(width=32, allow_nan=False),
        "DOUBLE": st.floats(allow_nan=False),
        "INT32": st.integers(-(2**31), 2**31 - 1),
        "INT64": st.integers(-(2**63), 2**63 - 1),
        "UINT32": st.integers(0, 2**31 - 1),
        "BOOL": st.booleans(),
    }

    def value(field):
        if field.message_type is not None:
            return _messages(field.message_type.name, depth - 1)
        if field.enum_type is not None:
            return st.sampled_from([v.number for v in field.enum_type.values])
        if field.cpp_type == field.CPPTYPE_STRING:
            named = field.name in ("name", "type", "bottom", "top")
            texts = st.text(NAME_CHARACTERS if named else st.characters(), max_size=8)
            return st.binary(max_size=8) if field.type == field.TYPE_BYTES else texts
        return next(s for kind, s in scalars.items() if field.cpp_type == getattr(field, "CPPTYPE_" + kind))

    fields = [f for f in message_class(name).DESCRIPTOR.fields if depth > 0 or f.message_type is None]
    required = [f for f in fields if f.name in ("min", "max") and name == "ClipParameter"]

    @st.composite
    def build(draw):
        message = message_class(name)()
        for field in {
            f.name: f for f in [*required, *draw(st.lists(st.sampled_from(fields), max_size=3))]
        }.values():
            if is_repeated(field):
                getattr(message, field.name).extend(draw(st.lists(value(field), max_size=2)))
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(draw(value(field)))
            else:
                setattr(message, field.name, draw(value(field)))
        return message

    return build()


@settings(max_examples=150, deadline=None)
@given(_messages("NetParameter", 3))
def test_text_out_reads_back_the_same(net):
    if net.IsInitialized():
        assert parse_net(to_text(net)).SerializeToString(deterministic=True) == net.SerializeToString(
            deterministic=True
        )


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32))
def test_floats_round_trip_in_their_shortest_form(value):
    text = to_text(NetParameter(layer=[{"loss_weight": [value]}]))
    back = parse_net(text).layer[0].loss_weight[0]
    assert back == value or np.isnan(back) and np.isnan(value)
    shown = text.split(":")[1].split()[0]
    if np.isfinite(value):
        digits = len(shown.split("e")[0].replace(".", "").replace("-", "").strip("0"))
        assert digits <= 9


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="layernmtop_{}<>[]:;,\"'#01.-e \n\\", max_size=60) | st.text(max_size=30))
def test_any_text_gives_a_net_or_one_clear_line(text):
    try:
        assert isinstance(parse_net(text), NetParameter)
    except InputError as error:
        assert str(error).startswith("<text>:") and "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_text_gives_a_net_or_one_clear_line(data):
    position = data.draw(st.integers(0, len(NET)))
    length = data.draw(st.integers(0, 12))
    inserted = data.draw(st.text(alphabet='{}[]<>:"a1 \n', max_size=3))
    try:
        parse_net(NET[:position] + inserted + NET[position + length :])
    except InputError as error:
        assert str(error).startswith("<text>:") and "\n" not in str(error)


def test_every_message_is_an_attribute():
    import fcnlite.proto as proto

    assert all(getattr(proto, name).DESCRIPTOR.name == name for name in MESSAGE_NAMES)
    assert set(MESSAGE_NAMES) <= set(dir(proto))
    with pytest.raises(AttributeError):
        proto.NoSuchMessage  # noqa: B018


def test_an_import_makes_no_message_class_and_reads_the_schema_once():
    """The import costs less than one call a line of the schema; each class is made when it is first named."""
    code = """
import sys
from google.protobuf import message_factory
made, calls = [], []
get = message_factory.GetMessageClass
message_factory.GetMessageClass = lambda descriptor: made.append(descriptor.name) or get(descriptor)
def count(frame, event, argument):
    if event == "call" and "/fcnlite/" in frame.f_code.co_filename:
        calls.append(frame.f_code.co_name)
sys.setprofile(count)
import fcnlite.proto
sys.setprofile(None)
print(len(made), len(calls))
"""
    made, calls = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert made == 0 and 0 < calls < SCHEMA.count("\n")
