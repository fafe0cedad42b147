"""pycaffe's `caffe.proto`: the messages of Caffe's files."""

from __future__ import annotations

from fcnlite.caffe.proto import caffe_pb2

__all__ = ["caffe_pb2"]
