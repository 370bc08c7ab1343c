"""What 8 bits cost in `bench runtime`: how much of the top 20 of the f32 model is left when items and the encoder's matrices are rounded.

agreement.py FOLDER [ITEMS] after `./build.sh bench runtime` wrote FOLDER (build/runtime). Needs onnx, onnxruntime and numpy.
"""
import sys
import numpy as np, onnx, onnxruntime
from onnx import helper, numpy_helper

from onnx_models import DIM, SESSION, TOP, folder, places, unrounded

SESSIONS = 300
items = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
base = onnx.load(folder / str(items) / "retrieve" / "encoder.onnx")
table = np.fromfile(folder / str(items) / "items.f32", np.float32).reshape(items, DIM)
sessions = np.random.default_rng(1).integers(0, items, (SESSIONS, SESSION))


def rounded(values, bits, axis):
    scale = np.abs(values).max(axis, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.round(values / scale) * scale).astype(np.float32)


def encoder(bits):
    """A function from item vectors to queries; `bits` of the matrices, or None for f32."""
    nodes, constants = unrounded(base)
    matrix = lambda c: c.name in places and bits is not None
    constants = [numpy_helper.from_array(rounded(numpy_helper.to_array(c), bits, 0), c.name) if matrix(c) else c for c in constants]
    graph = helper.make_graph(nodes, "encoder", base.graph.input, base.graph.output, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    name = base.graph.input[0].name
    return lambda vectors: np.concatenate([session.run(None, {name: vectors[s][None]})[0].reshape(1, -1) for s in sessions])


def best(queries, vectors):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :TOP]


exact, int8 = encoder(None), rounded(table, 8, 1)
reference = best(exact(table), table)


def report(what, found):
    shared = np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, reference)])
    print(f"{what:<48} {100 * shared:.1f} %")


report("f32 encoder on f32 items, int8 items scanned", best(exact(table), int8))
report("f32 encoder on int8 items, int8 items scanned", best(exact(int8), int8))
for bits in (8, 9, 10, 12):
    report(f"{bits}-bit encoder on f32 items, f32 items scanned", best(encoder(bits)(table), table))
    report(f"{bits}-bit encoder on int8 items, int8 items scanned", best(encoder(bits)(int8), int8))
