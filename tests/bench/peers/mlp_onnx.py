"""mlp.onnx for the peers: the condensed MLP 784-256-128-10 with GroupSort2, as fast as ONNX has it: the columns of each kernel
are put in order, so that sorting pairs is Split, Max, Min and Concat of halves.

    mlp_onnx.py OUT.onnx    (random kernels: a peer's speed does not depend on them)
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = [784, 256, 128, 10]


def model():
    rng = np.random.default_rng(1)
    nodes, weights, at = [], [], "x"
    for i, (rows, columns) in enumerate(zip(SIZES, SIZES[1:])):
        kernel = np.linalg.qr(rng.standard_normal((rows, columns)))[0].astype(np.float32)
        weights += [numpy_helper.from_array(kernel, f"w{i}"), numpy_helper.from_array(np.zeros(columns, np.float32), f"b{i}")]
        last = i == len(SIZES) - 2
        out = "y" if last else f"g{i}"
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [out]))
        if not last:
            nodes += [helper.make_node("Split", [out], [f"a{i}", f"c{i}"], axis=1),
                      helper.make_node("Max", [f"a{i}", f"c{i}"], [f"h{i}"]),
                      helper.make_node("Min", [f"a{i}", f"c{i}"], [f"l{i}"]),
                      helper.make_node("Concat", [f"h{i}", f"l{i}"], [f"s{i}"], axis=1)]
            at = f"s{i}"
    graph = helper.make_graph(nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 784])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    made = model()
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, sys.argv[1])
