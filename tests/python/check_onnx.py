"""ONNX Runtime must load the exported models and agree with the engine.

`python check_onnx.py tests/golden/v1`: runs encoder.onnx and ranker.onnx of the golden bundle on the
inputs of the golden operations and compares with the recorded answers of the native engine.
"""

import json
import pathlib
import struct
import sys

import numpy
import onnxruntime

TOLERANCE = 1e-4


def read_items(path):
    """items.bin as f32 rows [num_items, dim]; docs/formats/items.md."""
    data = path.read_bytes()
    magic, version, bits, num_items, dim = struct.unpack_from("<4sHHII", data)
    assert (magic, version, bits) == (b"SNDI", 1, 8), (magic, version, bits)
    start = len(data) - num_items * (4 + dim)
    scales = numpy.frombuffer(data, "<f4", num_items, start)
    rows = numpy.frombuffer(data, "i1", num_items * dim, start + 4 * num_items).reshape(num_items, dim)
    return rows.astype("f4") * scales[:, None]


def main(folder):
    bundle = folder / "bundle"
    row_of = {item: row for row, item in enumerate(json.loads((bundle / "vocabulary.json").read_text())["item_ids"])}
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
    print(f"ONNX Runtime {onnxruntime.__version__} agrees on {num_checked} operations")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
