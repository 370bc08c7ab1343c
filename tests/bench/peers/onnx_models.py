"""The models of `bench runtime` for ONNX runtimes: the encoder in f32, the whole item table and the top 20 in one graph.

Reads what the example runtime_world wrote to FOLDER; writes FOLDER/<items>/peer-f32.onnx and peer-i8.onnx (dynamic
quantisation of the same). Needs onnx, onnxruntime and numpy.
"""
import json, pathlib, sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

SESSION, DIM, TOP = 50, 64, 20
folder = pathlib.Path(sys.argv[1])
floats = np.fromfile(folder / "encoder.f32", np.float32)
places = json.loads((folder / "encoder.json").read_text())


def unrounded(model):
    """The graph with f32 matrices where the bundle has int8 ones and their scales."""
    graph, renamed, drop = model.graph, {}, set()
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in places:
            scaled = next(other for other in graph.node if other.op_type == "Mul" and node.output[0] in other.input)
            renamed[scaled.output[0]] = node.input[0]
            drop |= {node.name, scaled.name}
    nodes = [node for node in graph.node if node.name not in drop]
    for node in nodes:
        for at, name in enumerate(node.input):
            node.input[at] = renamed.get(name, name)
    constants = [c for c in graph.initializer if c.name not in places and not c.name.endswith("_weight_scale")]
    for name, place in places.items():
        size = int(np.prod(place["dims"]))
        matrix = floats[place["at"] : place["at"] + size].reshape(place["dims"])
        constants.append(numpy_helper.from_array(matrix, name))
    return nodes, constants


def write(items):
    here = folder / str(items)
    nodes, constants = unrounded(onnx.load(here / "retrieve" / "encoder.onnx"))
    table = np.fromfile(here / "items.f32", np.float32).reshape(items, DIM)
    constants += [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([TOP]), "top")]
    nodes.insert(0, helper.make_node("Gather", ["table", "session"], ["item_vectors"]))
    nodes += [
        helper.make_node("Gemm", ["query", "table"], ["all_scores"], transB=1),
        helper.make_node("TopK", ["all_scores", "top"], ["scores", "ids"]),
    ]
    graph = helper.make_graph(
        nodes,
        "retrieve",
        [helper.make_tensor_value_info("session", TensorProto.INT64, [1, SESSION])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, TOP]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, [1, TOP]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, here / "peer-f32.onnx")
    quantize_dynamic(here / "peer-f32.onnx", here / "peer-i8.onnx", weight_type=QuantType.QInt8)


if __name__ == "__main__":
    for items in (10_000, 50_000, 200_000):
        write(items)
