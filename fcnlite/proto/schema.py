"""The messages of Caffe's files (nets, solvers, weights), as protobuf classes made from one compact table.

The table below lists what the formats fix: every message's fields with number, type and default. It is turned
into protobuf descriptors when this module is imported, in a pool of its own, so that fcnlite lives peacefully
beside a real `caffe_pb2` in the same process.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor

# How to read the table. A line at the margin names a message; below it, each line is a type and the fields of
# that type as name=number, with the default after a colon. "*" marks a repeated field, "*packed" one written
# packed, "!" a required one. "enum NAME:" lists names numbered from 0, each one more than the last unless it
# says otherwise.
SCHEMA = """
enum Phase: TRAIN TEST

# Nets, layers and their states

NetParameter
    string: name=1
    V1LayerParameter*: layers=2
    string*: input=3
    int32*: input_dim=4
    bool: force_backward=5:false debug_info=7:false
    NetState: state=6
    BlobShape*: input_shape=8
    LayerParameter*: layer=100

LayerParameter
    string: name=1 type=2
    string*: bottom=3 top=4
    float*: loss_weight=5
    ParamSpec*: param=6
    BlobProto*: blobs=7
    NetStateRule*: include=8 exclude=9
    Phase: phase=10
    bool*: propagate_down=11
    TransformationParameter: transform_param=100
    LossParameter: loss_param=101
    AccuracyParameter: accuracy_param=102
    ArgMaxParameter: argmax_param=103
    ConcatParameter: concat_param=104
    ContrastiveLossParameter: contrastive_loss_param=105
    ConvolutionParameter: convolution_param=106
    DataParameter: data_param=107
    DropoutParameter: dropout_param=108
    DummyDataParameter: dummy_data_param=109
    EltwiseParameter: eltwise_param=110
    ExpParameter: exp_param=111
    HDF5DataParameter: hdf5_data_param=112
    HDF5OutputParameter: hdf5_output_param=113
    HingeLossParameter: hinge_loss_param=114
    ImageDataParameter: image_data_param=115
    InfogainLossParameter: infogain_loss_param=116
    InnerProductParameter: inner_product_param=117
    LRNParameter: lrn_param=118
    MemoryDataParameter: memory_data_param=119
    MVNParameter: mvn_param=120
    PoolingParameter: pooling_param=121
    PowerParameter: power_param=122
    ReLUParameter: relu_param=123
    SigmoidParameter: sigmoid_param=124
    SoftmaxParameter: softmax_param=125
    SliceParameter: slice_param=126
    TanHParameter: tanh_param=127
    ThresholdParameter: threshold_param=128
    WindowDataParameter: window_data_param=129
    PythonParameter: python_param=130
    PReLUParameter: prelu_param=131
    SPPParameter: spp_param=132
    ReshapeParameter: reshape_param=133
    LogParameter: log_param=134
    FlattenParameter: flatten_param=135
    ReductionParameter: reduction_param=136
    EmbedParameter: embed_param=137
    TileParameter: tile_param=138
    BatchNormParameter: batch_norm_param=139
    ELUParameter: elu_param=140
    BiasParameter: bias_param=141
    ScaleParameter: scale_param=142
    InputParameter: input_param=143
    CropParameter: crop_param=144
    ParameterParameter: parameter_param=145
    RecurrentParameter: recurrent_param=146
    SwishParameter: swish_param=147
    ClipParameter: clip_param=148
# Only forks of Caffe know these. Where two forks, or a fork and Caffe, use one number for different things, the number
# here is the thing's own: `fcnlite.proto.forks` says which, and reads binary files of the forks accordingly.
    BNParameter: bn_param=152
    PermuteParameter: permute_param=202
    NormalizeParameter: norm_param=206
    MultiStageMeanfieldParameter: multi_stage_meanfield_param=1001
    InterpParameter: interp_param=2143
    SegAccuracyParameter: seg_accuracy_param=2144
    MatWriteParameter: mat_write_param=2145
    UpsampleParameter: upsample_param=5137
    DenseImageDataParameter: dense_image_data_param=5138
    ROIPoolingParameter: roi_pooling_param=8266711

ParamSpec
    enum DimCheckMode: STRICT PERMISSIVE
    string: name=1
    DimCheckMode: share_mode=2
    float: lr_mult=3:1 decay_mult=4:1

NetState
    Phase: phase=1:TEST
    int32: level=2:0
    string*: stage=3

NetStateRule
    Phase: phase=1
    int32: min_level=2 max_level=3
    string*: stage=4 not_stage=5

# Arrays and records

BlobShape
    int64*packed: dim=1

BlobProto
    int32: num=1:0 channels=2:0 height=3:0 width=4:0
    float*packed: data=5 diff=6
    BlobShape: shape=7
    double*packed: double_data=8 double_diff=9

BlobProtoVector
    BlobProto*: blobs=1

Datum
    int32: channels=1 height=2 width=3 label=5
    bytes: data=4
    float*: float_data=6
    bool: encoded=7:false

FillerParameter
    enum VarianceNorm: FAN_IN FAN_OUT AVERAGE
    string: type=1:constant
    float: value=2:0 min=3:0 max=4:1 mean=5:0 std=6:1
    int32: sparse=7:-1
    VarianceNorm: variance_norm=8:FAN_IN

# Solvers

SolverParameter
    enum SnapshotFormat: HDF5 BINARYPROTO
    enum SolverMode: CPU GPU
    enum SolverType: SGD NESTEROV ADAGRAD RMSPROP ADADELTA ADAM
    string: train_net=1 lr_policy=8 snapshot_prefix=15 net=24 regularization_type=29:L2 type=40:SGD
    string*: test_net=2 weights=42
    int32*: test_iter=3 stepvalue=34
    int32: test_interval=4:0 display=6 max_iter=7 stepsize=13 snapshot=14:0 device_id=18:0 average_loss=33:1
        iter_size=36:1
    float: base_lr=5 gamma=9 power=10 momentum=11 weight_decay=12 delta=31:1e-08 clip_gradients=35:-1
        rms_decay=38:0.99 momentum2=39:0.999
    bool: snapshot_diff=16:false test_compute_loss=19:false debug_info=23:false snapshot_after_train=28:true
        test_initialization=32:true layer_wise_reduce=41:true
    SolverMode: solver_mode=17:GPU
    int64: random_seed=20:-1
    NetParameter: train_net_param=21 net_param=25
    NetParameter*: test_net_param=22
    NetState: train_state=26
    NetState*: test_state=27
    SolverType: solver_type=30:SGD
    SnapshotFormat: snapshot_format=37:BINARYPROTO

SolverState
    int32: iter=1 current_step=4:0
    string: learned_net=2
    BlobProto*: history=3

# What one kind of layer takes

AccuracyParameter
    uint32: top_k=1:1
    int32: axis=2:1 ignore_label=3

ArgMaxParameter
    bool: out_max_val=1:false
    uint32: top_k=2:1
    int32: axis=3

BatchNormParameter
    bool: use_global_stats=1
    float: moving_average_fraction=2:0.999 eps=3:1e-05

BiasParameter
    int32: axis=1:1 num_axes=2:1
    FillerParameter: filler=3

ClipParameter
    float!: min=1 max=2

ConcatParameter
    uint32: concat_dim=1:1
    int32: axis=2:1

ContrastiveLossParameter
    float: margin=1:1
    bool: legacy_version=2:false

ConvolutionParameter
    enum Engine: DEFAULT CAFFE CUDNN
    uint32: num_output=1 group=5:1 pad_h=9:0 pad_w=10:0 kernel_h=11 kernel_w=12 stride_h=13 stride_w=14
    bool: bias_term=2:true force_nd_im2col=17:false
    uint32*: pad=3 kernel_size=4 stride=6 dilation=18
    FillerParameter: weight_filler=7 bias_filler=8
    Engine: engine=15:DEFAULT
    int32: axis=16:1
# DeepLab's names for dilation by axis; `hole` itself is taken for `dilation`.
    uint32: hole_h=118 hole_w=119

CropParameter
    int32: axis=1:2
    uint32*: offset=2

DataParameter
    enum DB: LEVELDB LMDB
    string: source=1 mean_file=3
    float: scale=2:1
    uint32: batch_size=4 crop_size=5:0 rand_skip=7:0 prefetch=10:4
    bool: mirror=6:false force_encoded_color=9:false
    DB: backend=8:LEVELDB

DropoutParameter
    float: dropout_ratio=1:0.5
# SegNet's.
    bool: sample_weights_test=2:false

DummyDataParameter
    FillerParameter*: data_filler=1
    uint32*: num=2 channels=3 height=4 width=5
    BlobShape*: shape=6

EltwiseParameter
    enum EltwiseOp: PROD SUM MAX
    EltwiseOp: operation=1:SUM
    float*: coeff=2
    bool: stable_prod_grad=3:true

ELUParameter
    float: alpha=1:1

EmbedParameter
    uint32: num_output=1 input_dim=2
    bool: bias_term=3:true
    FillerParameter: weight_filler=4 bias_filler=5

ExpParameter
    float: base=1:-1 scale=2:1 shift=3:0

FlattenParameter
    int32: axis=1:1 end_axis=2:-1

HDF5DataParameter
    string: source=1
    uint32: batch_size=2
    bool: shuffle=3:false

HDF5OutputParameter
    string: file_name=1

HingeLossParameter
    enum Norm: L1=1 L2
    Norm: norm=1:L1

ImageDataParameter
    string: source=1 mean_file=3 root_folder=12
    float: scale=2:1
    uint32: batch_size=4:1 crop_size=5:0 rand_skip=7:0 new_height=9:0 new_width=10:0
    bool: mirror=6:false shuffle=8:false is_color=11:true
# DeepLab's, for ImageSegData.
    enum LabelType: NONE IMAGE PIXEL
    bool: has_label=13:true
    int32: max_labels=14:1 ignore_label=15:255
    LabelType: label_type=16:IMAGE

InfogainLossParameter
    string: source=1
    int32: axis=2:1

InnerProductParameter
    uint32: num_output=1
    bool: bias_term=2:true transpose=6:false
    FillerParameter: weight_filler=3 bias_filler=4
    int32: axis=5:1

InputParameter
    BlobShape*: shape=1

LogParameter
    float: base=1:-1 scale=2:1 shift=3:0

LossParameter
    enum NormalizationMode: FULL VALID BATCH_SIZE NONE
    int32: ignore_label=1
    bool: normalize=2
    NormalizationMode: normalization=3:VALID
# SegNet's.
    float*: class_weighting=4
    bool: weight_by_label_freqs=103:false

LRNParameter
    enum NormRegion: ACROSS_CHANNELS WITHIN_CHANNEL
    enum Engine: DEFAULT CAFFE CUDNN
    uint32: local_size=1:5
    float: alpha=2:1 beta=3:0.75 k=5:1
    NormRegion: norm_region=4:ACROSS_CHANNELS
    Engine: engine=6:DEFAULT

MemoryDataParameter
    uint32: batch_size=1 channels=2 height=3 width=4

MVNParameter
    bool: normalize_variance=1:true across_channels=2:false
    float: eps=3:1e-09

ParameterParameter
    BlobShape: shape=1

PoolingParameter
    enum PoolMethod: MAX AVE STOCHASTIC
    enum Engine: DEFAULT CAFFE CUDNN
    enum RoundMode: CEIL FLOOR
    PoolMethod: pool=1:MAX
    uint32: kernel_size=2 stride=3:1 pad=4:0 kernel_h=5 kernel_w=6 stride_h=7 stride_w=8 pad_h=9:0 pad_w=10:0
    Engine: engine=11:DEFAULT
    bool: global_pooling=12:false
    RoundMode: round_mode=13:CEIL
# Not Caffe's, which refuses files that use them. `upgrade` makes ceil_mode, a fork's word, into round_mode.
    bool: ceil_mode=1004:true
    uint32*: dilation=1000 kernel_shape=1001 pad_shape=1002 stride_shape=1003

PowerParameter
    float: power=1:1 scale=2:1 shift=3:0

PReLUParameter
    FillerParameter: filler=1
    bool: channel_shared=2:false

PythonParameter
    string: module=1 layer=2 param_str=3
    bool: share_in_parallel=4:false

RecurrentParameter
    uint32: num_output=1:0
    FillerParameter: weight_filler=2 bias_filler=3
    bool: debug_info=4:false expose_hidden=5:false

ReductionParameter
    enum ReductionOp: SUM=1 ASUM SUMSQ MEAN
    ReductionOp: operation=1:SUM
    int32: axis=2:0
    float: coeff=3:1

ReLUParameter
    enum Engine: DEFAULT CAFFE CUDNN
    float: negative_slope=1:0
    Engine: engine=2:DEFAULT

ReshapeParameter
    BlobShape: shape=1
    int32: axis=2:0 num_axes=3:-1

ScaleParameter
    int32: axis=1:1 num_axes=2:1
    FillerParameter: filler=3 bias_filler=5
    bool: bias_term=4:false

SigmoidParameter
    enum Engine: DEFAULT CAFFE CUDNN
    Engine: engine=1:DEFAULT

SliceParameter
    uint32: slice_dim=1:1
    uint32*: slice_point=2
    int32: axis=3:1

SoftmaxParameter
    enum Engine: DEFAULT CAFFE CUDNN
    Engine: engine=1:DEFAULT
    int32: axis=2:1

SPPParameter
    enum PoolMethod: MAX AVE STOCHASTIC
    enum Engine: DEFAULT CAFFE CUDNN
    uint32: pyramid_height=1
    PoolMethod: pool=2:MAX
    Engine: engine=6:DEFAULT

SwishParameter
    float: beta=1:1

TanHParameter
    enum Engine: DEFAULT CAFFE CUDNN
    Engine: engine=1:DEFAULT

ThresholdParameter
    float: threshold=1:0

TileParameter
    int32: axis=1:1 tiles=2

TransformationParameter
    float: scale=1:1
    bool: mirror=2:false force_color=6:false force_gray=7:false
    uint32: crop_size=3:0
    string: mean_file=4
    float*: mean_value=5
# DeepLab's.
    float*: scale_factors=8
    uint32: crop_width=9:0 crop_height=10:0

WindowDataParameter
    string: source=1 mean_file=3 crop_mode=11:warp root_folder=13
    float: scale=2:1 fg_threshold=7:0.5 bg_threshold=8:0.5 fg_fraction=9:0.25
    uint32: batch_size=4 crop_size=5:0 context_pad=10:0
    bool: mirror=6:false cache_images=12:false

# What only forks know

# scale_filler, shift_filler and bn_mode are SegNet's, the others PSPNet's.
BNParameter
    enum Engine: DEFAULT CAFFE CUDNN
    enum BNMode: LEARN INFERENCE
    FillerParameter: slope_filler=1 bias_filler=2 scale_filler=101 shift_filler=102
    float: momentum=3:0.9 eps=4:1e-05
    bool: frozen=5:false
    Engine: engine=6:DEFAULT
    BNMode: bn_mode=103:LEARN

DenseImageDataParameter
    string: source=1 mean_file=8 root_folder=9
    uint32: batch_size=2 rand_skip=3:0 new_height=5:0 new_width=6:0 crop_width=11:0 crop_height=12:0
        label_divide_factor=13:1
    bool: shuffle=4:false is_color=7:true mirror=10:false

InterpParameter
    int32: height=1:0 width=2:0 zoom_factor=3:1 shrink_factor=4:1 pad_beg=5:0 pad_end=6:0

MatWriteParameter
    string: prefix=1 source=2
    int32: strip=3:0 period=4:1

MultiStageMeanfieldParameter
    enum Mode: POTTS
    Mode: compatibility_mode=1:POTTS
    float: threshold=2 theta_alpha=3:10 theta_beta=4:10 theta_gamma=5:10 spatial_filter_weight=7:1
        bilateral_filter_weight=8:1 forced_spatial_filter_weight=9 forced_bilateral_filter_weight=10
        detection_potentials_max_score=2011 detection_potentials_epsilon=2012
    uint32: num_iterations=6:1
        ho_num_layers=2008:1 train_dataset_size=2009
    string: spatial_filter_weights_str=19 bilateral_filter_weights_str=20 detection_dat_input_dir=2003
        ho_dat_input_dir=2004 detection_x_weights_str=2005 detection_y_weights_str=2006 ho_w_param_str=2007
    bool: force_cpu=29:false detection_potentials_enabled=2000:false ho_potentials_enabled=2001:false
        is_no_class_weights=2002:false detection_dat_check_enabled=2010:false

NormalizeParameter
    bool: across_spatial=1:true channel_shared=3:true
    FillerParameter: scale_filler=2
    float: eps=4:1e-10

PermuteParameter
    uint32*: order=1

ROIPoolingParameter
    uint32: pooled_h=1:0 pooled_w=2:0
    float: spatial_scale=3:1

SegAccuracyParameter
    enum AccuracyMetric: PixelAccuracy ClassAccuracy PixelIOU
    AccuracyMetric: metric=1:PixelAccuracy
    int32*: ignore_label=2
    bool: reset=3:true

UpsampleParameter
    uint32: scale=1:2 scale_h=2 scale_w=3 upsample_h=6 upsample_w=7
    bool: pad_out_h=4:false pad_out_w=5:false

# Older ways to write a layer

V1LayerParameter
    enum LayerType: NONE ABSVAL=35 ACCURACY=1 ARGMAX=30 BNLL=2 CONCAT CONTRASTIVE_LOSS=37 CONVOLUTION=4 DATA
        DECONVOLUTION=39 DROPOUT=6 DUMMY_DATA=32 EUCLIDEAN_LOSS=7 ELTWISE=25 EXP=38 FLATTEN=8 HDF5_DATA
        HDF5_OUTPUT HINGE_LOSS=28 IM2COL=11 IMAGE_DATA INFOGAIN_LOSS INNER_PRODUCT LRN MEMORY_DATA=29
        MULTINOMIAL_LOGISTIC_LOSS=16 MVN=34 POOLING=17 POWER=26 RELU=18 SIGMOID SIGMOID_CROSS_ENTROPY_LOSS=27
        SILENCE=36 SOFTMAX=20 SOFTMAX_LOSS SPLIT SLICE=33 TANH=23 WINDOW_DATA THRESHOLD=31 CROP=40 INTERP
        MULTI_STAGE_MEANFIELD IMAGE_SEG_DATA=139 SEG_ACCURACY MAT_WRITE=143
    enum DimCheckMode: STRICT PERMISSIVE
    V0LayerParameter: layer=1
    string*: bottom=2 top=3 param=1001
    string: name=4
    LayerType: type=5
    BlobProto*: blobs=6
    float*: blobs_lr=7 weight_decay=8 loss_weight=35
    ConcatParameter: concat_param=9
    ConvolutionParameter: convolution_param=10
    DataParameter: data_param=11
    DropoutParameter: dropout_param=12
    HDF5DataParameter: hdf5_data_param=13
    HDF5OutputParameter: hdf5_output_param=14
    ImageDataParameter: image_data_param=15
    InfogainLossParameter: infogain_loss_param=16
    InnerProductParameter: inner_product_param=17
    LRNParameter: lrn_param=18
    PoolingParameter: pooling_param=19
    WindowDataParameter: window_data_param=20
    PowerParameter: power_param=21
    MemoryDataParameter: memory_data_param=22
    ArgMaxParameter: argmax_param=23
    EltwiseParameter: eltwise_param=24
    ThresholdParameter: threshold_param=25
    DummyDataParameter: dummy_data_param=26
    AccuracyParameter: accuracy_param=27
    HingeLossParameter: hinge_loss_param=29
    ReLUParameter: relu_param=30
    SliceParameter: slice_param=31
    NetStateRule*: include=32 exclude=33
    MVNParameter: mvn_param=34
    TransformationParameter: transform_param=36
    TanHParameter: tanh_param=37
    SigmoidParameter: sigmoid_param=38
    SoftmaxParameter: softmax_param=39
    ContrastiveLossParameter: contrastive_loss_param=40
    ExpParameter: exp_param=41
    LossParameter: loss_param=42
    DimCheckMode*: blob_share_mode=1002
    InterpParameter: interp_param=43
    MultiStageMeanfieldParameter: multi_stage_meanfield_param=44
    MatWriteParameter: mat_write_param=46
    SegAccuracyParameter: seg_accuracy_param=142

V0LayerParameter
    enum PoolMethod: MAX AVE STOCHASTIC
    string: name=1 type=2 source=16 meanfile=18 det_crop_mode=59:warp
    uint32: num_output=3 pad=7:0 kernelsize=8 group=9:1 stride=10:1 local_size=13:5 batchsize=19 cropsize=20:0
        rand_skip=53:0 det_context_pad=58:0 concat_dim=65:1
    bool: biasterm=4:true mirror=21:false shuffle_images=64:false
    FillerParameter: weight_filler=5 bias_filler=6
    PoolMethod: pool=11:MAX
    float: dropout_ratio=12:0.5 alpha=14:1 beta=15:0.75 scale=17:1 k=22:1 det_fg_threshold=54:0.5
        det_bg_threshold=55:0.5 det_fg_fraction=56:0.25
    BlobProto*: blobs=50
    float*: blobs_lr=51 weight_decay=52
    int32: new_num=60:0 new_channels=61:0 new_height=62:0 new_width=63:0
    HDF5OutputParameter: hdf5_output_param=1001
"""

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = ("double", "float", "int32", "int64", "uint32", "bool", "string", "bytes")
_TYPE_NUMBER = {name: _FIELD.Type.Value("TYPE_" + name.upper()) for name in _SCALARS}
_LABELS = {"": _FIELD.LABEL_OPTIONAL, "!": _FIELD.LABEL_REQUIRED}
_PACKAGE = "caffe"


def _add_enum(scope: Any, name: str, members: str) -> None:
    enum = scope.enum_type.add(name=name)
    number = 0
    for member in members.split():
        member_name, _, given = member.partition("=")
        number = int(given) if given else number
        enum.value.add(name=member_name, number=number)
        number += 1


def _add_fields(message: Any, type_text: str, fields: str, enums: set[str]) -> None:
    type_name, mark, packed = re.fullmatch(r"(\w+)([*!]?)(packed)?", type_text).groups()  # type: ignore[union-attr]
    for field_text in fields.split():
        key, _, default = field_text.partition(":")
        name, _, number = key.partition("=")
        label = _LABELS.get(mark, _FIELD.LABEL_REPEATED)
        field = message.field.add(name=name, number=int(number), label=label)
        if type_name in _TYPE_NUMBER:
            field.type = _TYPE_NUMBER[type_name]
        elif type_name in enums:
            field.type = _FIELD.TYPE_ENUM
            field.type_name = f".{_PACKAGE}.{message.name}.{type_name}"
        else:
            field.type = _FIELD.TYPE_ENUM if type_name == "Phase" else _FIELD.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{type_name}"
        if default:
            field.default_value = default
        if packed:
            field.options.packed = True


def _file_descriptor(schema: str) -> descriptor_pb2.FileDescriptorProto:
    """Translate the table into the descriptor that protoc would make of the same definitions."""
    file = descriptor_pb2.FileDescriptorProto(name="fcnlite/caffe.proto", package=_PACKAGE, syntax="proto2")
    lines = [
        line for line in re.sub(r"\n {8}", " ", schema).splitlines() if line and not line.startswith("#")
    ]
    message: Any = None
    enums: set[str] = set()
    for line in lines:
        head, _, rest = line.strip().partition(":")
        if head.startswith("enum "):
            name = head.removeprefix("enum ")
            enums.add(name)
            _add_enum(message if message is not None else file, name, rest)
        elif line.startswith(" "):
            _add_fields(message, head, rest, enums)
        else:
            message, enums = file.message_type.add(name=head), set()
    return file


_POOL = descriptor_pool.DescriptorPool()
_FILE = _POOL.AddSerializedFile(_file_descriptor(SCHEMA).SerializeToString())
if _FILE is None:  # protobuf's pure-Python pool returns nothing here
    _FILE = _POOL.FindFileByName("fcnlite/caffe.proto")

MESSAGE_NAMES: tuple[str, ...] = tuple(_FILE.message_types_by_name)
TRAIN: int = 0
TEST: int = 1


def message_class(name: str) -> Any:
    """The class of one message.

    Parameters
    ----------
    name : str
        A message's name as in the table, such as `"NetParameter"`.

    Raises
    ------
    KeyError
        There is no message of this name.
    """
    return message_factory.GetMessageClass(_FILE.message_types_by_name[name])


def is_repeated(field: Any) -> bool:
    """Tell whether a field holds a list (protobuf renamed the property between its versions)."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)


def descriptor(name: str) -> Descriptor:
    """The protobuf descriptor of the message called `name` (KeyError if there is none)."""
    return _FILE.message_types_by_name[name]
