"""Loss and gradients of a small sequence model by PyTorch's automatic differentiation, in f64.

`python torch_gradients.py > crates/sanderling-train/src/sequence/torch_gradients.json`: the numbers that the test
`gradients_are_those_of_pytorch` compares ours with. Needs torch; written from the formulas, not from our code: SASRec with
pre-norm blocks (Kang & McAuley 2018), SiLU, a bias of attention by distance (Raffel et al. 2020), item vectors
id + sum of content / sqrt(number of features), exact softmax.
"""

import json
import math

import torch

DIM, LAYERS, HEADS, HIDDEN, MAX_LEN, ITEMS, FEATURES = 8, 2, 2, 12, 10, 13, 5
SEQUENCES = [[3, 1, 4, 1, 5, 9, 2, 6, 5], [1, 2, 3], [5, 5]]
CONTENT = [list(range(item % 4)) for item in range(ITEMS)]


def wave(count, height, start, step):
    values = [height * math.sin(start + step * i) for i in range(count)]
    return torch.tensor(values, dtype=torch.float32).double()


def block_parts():
    return [
        ("gain1", (DIM,)), ("shift1", (DIM,)), ("qkv", (DIM, 3 * DIM)), ("qkv_bias", (3 * DIM,)),
        ("distance", (HEADS, MAX_LEN)), ("out", (DIM, DIM)), ("out_bias", (DIM,)), ("gain2", (DIM,)), ("shift2", (DIM,)),
        ("up", (DIM, HIDDEN)), ("up_bias", (HIDDEN,)), ("down", (HIDDEN, DIM)), ("down_bias", (DIM,)),
    ]  # fmt: skip


def parts_of(dense):
    """Named views of the flat weights: blocks, then the last norm."""
    at, blocks = 0, []

    def take(shape):
        nonlocal at
        size = math.prod(shape)
        at += size
        return dense[at - size : at].view(shape)

    for _ in range(LAYERS):
        blocks.append({name: take(shape) for name, shape in block_parts()})
    last = take((DIM,)), take((DIM,))
    assert at == len(dense), (at, len(dense))
    return blocks, last


def norm(x, gain, shift):
    return torch.nn.functional.layer_norm(x, (DIM,), gain, shift, 1e-5)


def encode(blocks, last, vectors):
    x, length, size = vectors * math.sqrt(DIM), len(vectors), DIM // HEADS
    for block in blocks:
        q, k, v = (norm(x, block["gain1"], block["shift1"]) @ block["qkv"] + block["qkv_bias"]).split(DIM, 1)
        mixed = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            bias = [[block["distance"][head, MAX_LEN - 1 - max(i - j, 0)] for j in range(length)] for i in range(length)]
            scores = scores + torch.stack([torch.stack(row) for row in bias])
            future = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
            mixed.append(torch.softmax(scores.masked_fill(future, -math.inf), 1) @ v[:, part])
        x = x + torch.cat(mixed, 1) @ block["out"] + block["out_bias"]
        wide = torch.nn.functional.silu(norm(x, block["gain2"], block["shift2"]) @ block["up"] + block["up_bias"])
        x = x + wide @ block["down"] + block["down_bias"]
    return norm(x, *last)


num_dense = LAYERS * sum(math.prod(shape) for _, shape in block_parts()) + 2 * DIM
dense = wave(num_dense, 0.3, 0.1, 0.73)
with torch.no_grad():
    blocks, last = parts_of(dense)
    for gain in [last[0]] + [block[name] for block in blocks for name in ("gain1", "gain2")]:
        gain += 1.0
dense = dense.float().double().requires_grad_()
items = wave(ITEMS * DIM, 0.5, 1.0, 0.37).requires_grad_()
content = wave(FEATURES * DIM, 0.2, 0.0, 1.0).requires_grad_()

features = content.view(FEATURES, DIM)
vectors = []
for item, row in enumerate(items.view(ITEMS, DIM)):
    own = CONTENT[item]
    vectors.append(row + features[own].sum(0) / math.sqrt(len(own)) if own else row)
vectors = torch.stack(vectors)
blocks, last = parts_of(dense)
losses = []
for sequence in SEQUENCES:
    logits = encode(blocks, last, vectors[sequence[:-1]]) @ vectors.T
    losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(sequence[1:]), reduction="none"))
loss = torch.cat(losses).mean()
loss.backward()
numbers = {name: [float(f"{x:.7g}") for x in tensor.grad] for name, tensor in [("dense", dense), ("items", items), ("content", content)]}
print(json.dumps({"loss": loss.item(), **numbers}))
