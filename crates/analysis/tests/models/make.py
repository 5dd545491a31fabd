#!/usr/bin/env python3
"""Makes the models beside it, with numpy and onnx: too small to know anything but the main colour.

The picture's mean is taken over all pixels; the softmax of it, ten times over, says how sure the
model is of red, green and blue."""

import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent


def write(name, shape, spatial, softmax=True, inputs=1):
    ten = numpy_helper.from_array(numpy.array(10, numpy.float32), "ten")
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=spatial, keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["scores" if softmax else "out"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["out"], axis=1))
    wanted = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    if inputs == 2:
        wanted.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 3]))
        nodes[1] = helper.make_node("Mul", ["mean", "other"], ["scores"])
    told = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [shape[0], 3])]
    graph = helper.make_graph(nodes, "main-color", wanted, told, [ten])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, HERE / name)


def write_depthwise(name):
    """The same, but each channel is first halved in size by a convolution of its own."""
    kernel = numpy_helper.from_array(numpy.full((3, 1, 2, 2), 0.25, numpy.float32), "kernel")
    model = onnx.load(HERE / "nchw.onnx")
    shrink = helper.make_node(
        "Conv", ["image", "kernel"], ["half"], group=3, kernel_shape=[2, 2], strides=[2, 2]
    )
    model.graph.node[0].input[0] = "half"
    model.graph.node.insert(0, shrink)
    model.graph.initializer.append(kernel)
    onnx.checker.check_model(model)
    onnx.save(model, HERE / name)


write("nchw.onnx", [1, 3, 8, 8], [2, 3])
write_depthwise("depthwise.onnx")
write("nhwc.onnx", [1, 8, 8, 3], [1, 2])
write("open.onnx", ["batch", 3, "height", "width"], [2, 3])
write("logits.onnx", [1, 3, 8, 8], [2, 3], softmax=False)
write("two-inputs.onnx", [1, 3, 8, 8], [2, 3], inputs=2)
