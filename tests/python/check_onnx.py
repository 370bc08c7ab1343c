"""ONNX Runtime must load the exported models and agree with the engine.

`python check_onnx.py tests/golden/v1 RANKER_SCORES`: runs encoder.onnx and ranker.onnx of the golden bundle on the
inputs of the golden operations and compares with the recorded answers of the native engine. Then ranker.onnx,
a TreeEnsembleRegressor, and trees.bin, run by the example RANKER_SCORES of the engine, score the same random rows: the bits
must be equal.
"""

import json
import pathlib
import struct
import subprocess
import sys

import numpy
import onnxruntime

TOLERANCE = 3e-4  # what rounding activations to 14 bits makes of the largest element


def read_items(path):
    """items.bin as f32 rows [num_items, dim]; docs/formats/items.md."""
    data = path.read_bytes()
    magic, version, bits, num_items, dim = struct.unpack_from("<4sHHII", data)
    assert (magic, version, bits) == (b"SNDI", 2, 9), (magic, version, bits)
    scales = (numpy.frombuffer(data, "<u2", num_items, 16).astype("<u4") << 16).view("<f4")
    start = 16 + 2 * num_items
    rows = numpy.frombuffer(data, "i1", num_items * dim, start).reshape(num_items, dim)
    start += num_items * dim
    fine = numpy.frombuffer(data, "u1", num_items * -(-dim // 8), start).reshape(num_items, -1)
    fine = numpy.unpackbits(fine, axis=1, bitorder="little")[:, :dim]
    return (rows + numpy.where(fine == 1, 0.25, -0.25)).astype("f4") * scales[:, None]


def thresholds(path):
    """Thresholds of trees.bin by feature; docs/formats/trees.md."""
    data = path.read_bytes()
    magic, version, num_features, num_trees, num_nodes = struct.unpack_from("<4sHHII", data)
    assert (magic, version) == (b"SNDT", 1), (magic, version)
    start = 16 + 4 * num_trees
    assert len(data) == start + 8 * num_nodes, len(data)
    feature = numpy.frombuffer(data, "<u2", num_nodes, start)
    value = numpy.frombuffer(data, "<f4", num_nodes, start + 4 * num_nodes)
    found = {column: [] for column in range(num_features)}
    for column, threshold in zip(feature, value):
        if column != 0xFFFF:
            found[int(column) & 0x7FFF].append(threshold)
    assert any(found.values()), "no tree splits"
    return found


def check_trees(bundle, ranker, program):
    """Rows of thresholds, their neighbours, numbers in between, infinities and NaN."""
    random = numpy.random.default_rng(1)
    special = numpy.array([numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 3.4e38, 1e-45], "f4")
    columns = []
    for values in thresholds(bundle / "trees.bin").values():
        near = numpy.array(values, "f4")
        near = numpy.concatenate([near, numpy.nextafter(near, special[1]), numpy.nextafter(near, special[2])])
        between = random.normal(0, 3, 500).astype("f4")
        columns.append(random.choice(numpy.concatenate([near, near, between, numpy.repeat(special, 20)]), 20_000))
    rows = numpy.stack(columns, axis=1).astype("<f4")
    output = subprocess.run([program, bundle], input=rows.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    ours = numpy.frombuffer(output, "<f4")
    assert len(set(ours.tolist())) > 100, "the rows tell the trees apart"
    for size in [1, 7, len(rows)]:  # ONNX Runtime adds trees in another order for few rows
        parts = [rows[at : at + size] for at in range(0, min(len(rows), 400 * size), size)]
        theirs = numpy.concatenate([ranker.run(["scores"], {"features": part})[0][:, 0] for part in parts])
        differ = numpy.flatnonzero(theirs.view("u4") != ours[: len(theirs)].view("u4"))
        assert len(differ) == 0, (size, rows[differ[0]], theirs[differ[0]], ours[differ[0]])
    print(f"trees.bin: equal bits on {len(rows)} rows")


def item_ids(path):
    """The ids of vocabulary.bin, see docs/formats/vocabulary.md."""
    data = path.read_bytes()
    flags, num_items, num_categories, num_links, id_bytes, _ = struct.unpack_from("<HIIIII", data, 6)
    at = 28 + num_items * (4 + (4 if flags & 1 else 0) + (8 if flags & 2 else 0))
    lengths = numpy.frombuffer(data, "<u2", num_items, at)
    at += 2 * (2 * num_items + num_categories + num_links)
    text, ends = data[at : at + id_bytes], numpy.cumsum(lengths)
    return [text[end - length : end].decode() for end, length in zip(ends.tolist(), lengths.tolist())]


def main(folder, program):
    bundle = folder / "bundle"
    row_of = {item: row for row, item in enumerate(item_ids(bundle / "vocabulary.bin"))}
    items = read_items(bundle / "items.bin")
    encoder = onnxruntime.InferenceSession(bundle / "encoder.onnx")
    ranker = onnxruntime.InferenceSession(bundle / "ranker.onnx")
    max_len = json.loads((bundle / "manifest.json").read_text())["limits"]["max_session_len"]
    num_checked = 0
    for case in json.loads((folder / "operations.json").read_text())["cases"]:
        operation, expected = case["operation"], case["expected"].get("ok")
        if expected is None:
            continue
        if operation["op"] == "encode":
            rows = [row_of[item] for item in operation["item_ids"]][-max_len:]
            found = encoder.run(["query"], {"item_vectors": items[rows][None]})[0][0]
            wanted = expected["query"]
        elif operation["op"] == "rank":
            features = numpy.array(operation["features"], "f4").reshape(operation["num_candidates"], -1)
            found = ranker.run(["scores"], {"features": features})[0][:, 0]
            wanted = expected["scores"]
        else:
            continue
        difference = float(numpy.abs(found - numpy.array(wanted, "f4")).max())
        print(f"{case['name']}: largest difference {difference:.2e}")
        assert difference < TOLERANCE, f"{case['name']} differs by {difference}"
        num_checked += 1
    assert num_checked >= 4, f"only {num_checked} cases were checked"
    check_trees(bundle, ranker, program)
    print(f"ONNX Runtime {onnxruntime.__version__} agrees on {num_checked} operations")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
