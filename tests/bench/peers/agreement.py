"""What few bits cost in `bench runtime`: how much of the top 20 of the f32 model is left when items and the encoder's matrices are rounded.

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


def halves(values):
    """Nine bits as items.bin has them: the middle of the half of a step of 8 bits."""
    scale = np.abs(values).max(1, keepdims=True) / 127.25
    whole = np.clip(np.round(values / scale), -127, 127)
    return (scale * (whole + np.where(values > whole * scale, 0.25, -0.25))).astype(np.float32)


def encoder(bits, attention=None):
    """A function from item vectors to queries; `bits` of the matrices, or None for f32, and of those of attention."""
    nodes, constants = unrounded(base)
    parts = ("query_weight", "key_weight", "value_weight", "out_weight")
    bits_of = lambda name: attention if attention and name.endswith(parts) else bits
    matrix = lambda c: c.name in places and bits is not None
    constants = [numpy_helper.from_array(rounded(numpy_helper.to_array(c), bits_of(c.name), 0), c.name) if matrix(c) else c for c in constants]
    graph = helper.make_graph(nodes, "encoder", base.graph.input, base.graph.output, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    name = base.graph.input[0].name
    return lambda vectors: np.concatenate([session.run(None, {name: vectors[s][None]})[0].reshape(1, -1) for s in sessions])


def best(queries, vectors):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :TOP]


exact, int8, nine = encoder(None), rounded(table, 8, 1), halves(table)
reference = best(exact(table), table)


def report(what, found):
    shared = np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, reference)])
    print(f"{what:<90} {100 * shared:.1f} %")


report("f32 encoder on f32 items, int8 items scanned", best(exact(table), int8))
report("f32 encoder on int8 items, int8 items scanned", best(exact(int8), int8))
report("f32 encoder on 9-bit items, int8 items scanned", best(exact(nine), int8))
for bits in (8, 9, 10, 12):
    report(f"{bits}-bit encoder on int8 items, int8 items scanned", best(encoder(bits)(int8), int8))
    report(f"{bits}-bit encoder on 9-bit items, int8 items scanned", best(encoder(bits)(nine), int8))
report("8-bit encoder, 11 in attention, on 9-bit items, int8 items scanned: as bundles have them", best(encoder(8, 11)(nine), int8))
