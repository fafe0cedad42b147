"""Binary files of Caffe's forks: numbers that mean something else in Caffe are told by the layer's type."""

from __future__ import annotations

import re

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from fcnlite import InputError
from fcnlite.io.caffemodel import read_definition
from fcnlite.proto import parse_net, to_text, upgrade
from fcnlite.proto.schema import SCHEMA, _file_descriptor, message_class


def fork(*changes):
    """NetParameter of a fork: ours with other field numbers, each change a pattern and what replaces it."""
    schema = SCHEMA
    for pattern, replacement in changes:
        schema, count = re.subn(pattern, replacement, schema, flags=re.MULTILINE)
        assert count, pattern
    file = _file_descriptor(schema)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def drop(field):
    return (rf"^ +\w+: {field}=\d+\n", "")


SEGNET = (
    drop("embed_param"), drop("tile_param"), ("bn_param=152", "bn_param=45"),
    ("upsample_param=5137", "upsample_param=137"),
    ("dense_image_data_param=5138", "dense_image_data_param=138"), ("slope_filler=1 bias_filler=2 ", ""),
    ("scale_filler=101 shift_filler=102", "scale_filler=1 shift_filler=2"), ("momentum=3:0.9 ", ""),
    ("bn_mode=103", "bn_mode=3"),
    ("NormalizationMode: normalization=3:VALID", "NormalizationMode: normalization=5:VALID"),
    ("weight_by_label_freqs=103", "weight_by_label_freqs=3"),
)  # fmt: skip
DEEPLAB = (
    drop("input_param"), drop("crop_param"), drop("parameter_param"), ("interp_param=2143", "interp_param=143"),
    ("seg_accuracy_param=2144", "seg_accuracy_param=144"), ("mat_write_param=2145", "mat_write_param=145"),
)  # fmt: skip
DEEPLAB_V1 = (
    ("force_nd_im2col=17:false", ""), ("uint32: hole_h=118 hole_w=119", "uint32: hole=17 hole_h=18 hole_w=19"),
    (" dilation=18", ""), ("DECONVOLUTION=39 ", ""), ("CROP=40 INTERP", "INTERP=41"), (" MULTI_STAGE_MEANFIELD", ""),
    ("IMAGE_SEG_DATA=139 SEG_ACCURACY MAT_WRITE=143", "IMAGE_SEG_DATA=39 SEG_ACCURACY=40 MAT_WRITE=43"),
    (r"LossParameter: loss_param=42\n    DimCheck", "DimCheck"), ("seg_accuracy_param=142", "seg_accuracy_param=42"),
)  # fmt: skip
NETS = {
    "segnet": (
        SEGNET,
        """
        layer { name: "data" type: "DenseImageData" top: "data" top: "label"
                dense_image_data_param { source: "train.txt" batch_size: 4 shuffle: true mirror: true } }
        layer { name: "bn" type: "BN"
                bn_param { scale_filler { value: 1 } shift_filler { value: 0.001 } bn_mode: INFERENCE } }
        layer { name: "up" type: "Upsample" upsample_param { scale: 2 upsample_w: 60 upsample_h: 45 } }
        layer { name: "loss" type: "SoftmaxWithLoss" loss_param { ignore_label: 11 weight_by_label_freqs: true
                class_weighting: 0.25 class_weighting: 7.5 normalization: BATCH_SIZE } }
        """,
    ),
    "deeplab": (
        DEEPLAB,
        """
        layer { name: "shrink" type: "Interp" interp_param { shrink_factor: 8 pad_beg: 0 pad_end: -1 } }
        layer { name: "accuracy" type: "SegAccuracy" seg_accuracy_param { ignore_label: 255 } }
        layer { name: "mat" type: "MatWrite" mat_write_param { prefix: "out/" period: 2 } }
        layer { name: "conv" type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 dilation: 4 } }
        """,
    ),
    "deeplab v1": (
        DEEPLAB_V1,
        """
        layers { name: "data" type: IMAGE_SEG_DATA top: "data" image_data_param { source: "x" label_type: PIXEL } }
        layers { name: "big" type: INTERP interp_param { zoom_factor: 8 } }
        layers { name: "accuracy" type: SEG_ACCURACY seg_accuracy_param { ignore_label: 255 } }
        layers { name: "conv" type: CONVOLUTION convolution_param { num_output: 2 kernel_size: 3 hole_h: 2 hole_w: 3 } }
        """,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_forks_binary_says_the_same_as_its_text(name, tmp_path):
    changes, text = NETS[name]
    net = fork(*changes)()
    text_format.Parse(text, net)
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(net.SerializeToString())
    assert to_text(read_definition(path)) == to_text(parse_net(text))


def test_a_binary_hole_is_a_dilation(tmp_path):
    net = fork(*DEEPLAB_V1)()
    layer = net.layers.add(name="fc6", type=4)
    layer.convolution_param.hole = 12
    net.layers.add(name="plain", type=4).convolution_param.hole = 1
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(net.SerializeToString())
    fc6, plain = upgrade(read_definition(path)).layer
    assert list(fc6.convolution_param.dilation) == [12]
    assert not plain.convolution_param.dilation


def test_holes_by_axis_become_dilations():
    text = """layer { name: "c" type: "Convolution"
        convolution_param { num_output: 1 kernel_size: 3 hole_w: 4 hole_h: 2 } }"""
    net = upgrade(parse_net(text))
    assert list(net.layer[0].convolution_param.dilation) == [2, 4]
    with pytest.raises(InputError, match="either dilation or hole_h"):
        upgrade(parse_net(text.replace("hole_w: 4", "hole: 4")))


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_damaged_layer_is_told(cut, tmp_path):
    changes, text = NETS["deeplab"]
    net = fork(*changes)()
    text_format.Parse(text, net)
    layer = net.layer[0].SerializeToString()[:-cut] if cut < 30 else b"\x12\x06Interp\xfa\x08\x03\x08\xff\xff"
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    with pytest.raises(InputError):
        read_definition(path)


def test_caffes_own_files_are_read_as_before(tmp_path):
    net = message_class("NetParameter")()
    net.layer.add(name="in", type="Input").input_param.shape.add(dim=[1, 3, 4, 4])
    conv = net.layer.add(name="conv", type="Convolution").convolution_param
    conv.force_nd_im2col, conv.num_output = True, 3
    conv.dilation.extend([2, 2])
    loss = net.layer.add(name="loss", type="SoftmaxWithLoss").loss_param
    loss.normalization = 2
    path = tmp_path / "caffe.caffemodel"
    path.write_bytes(net.SerializeToString())
    assert read_definition(path) == net
    assert np.all(np.array(conv.dilation) == 2)
