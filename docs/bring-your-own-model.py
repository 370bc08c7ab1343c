"""Trains a small SASRec-like encoder with PyTorch and exports it for `sanderling pack`.

Needs torch, numpy and onnx: PyTorch's TorchScript exporter (`dynamo=False`), which is used here, loads the
`onnx` package at its last step. It does not need `onnxscript`, which the newer exporter does. Run with torch
2.15, numpy 2.4 and onnx as pip gave it.

    python bring-your-own-model.py data/shop --out model
    sanderling pack --encoder model/encoder.onnx --items model/vectors.npy --item-ids model/ids.txt \\
        --max-session-len 50 --data data/shop --out bundles/shop

DATA is a folder that `sanderling import` or `sanderling synth` wrote. The model sees the training part of the
split only: of `time` (default) everything before the first 80 % of the interactions by time have passed, of
`leave-one-out` all but the last two of each user.
"""
import argparse
import csv
import math
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def training_part(folder, split):
    """Histories of item ids, oldest first."""
    with open(folder / "interactions.csv", newline="", encoding="utf-8") as file:
        rows = [(row["user_id"], row["item_id"], int(row["timestamp"])) for row in csv.DictReader(file)]
    times = sorted(time for _, _, time in rows)
    validation_start = times[len(times) * 8 // 10]
    histories = {}
    for user, item, time in rows:  # grouped by user and in time order already
        histories.setdefault(user, []).append((item, time))
    for history in histories.values():
        if split == "time":
            yield [item for item, time in history if time < validation_start]
        else:
            kept = len(history) - 2 if len(history) >= 3 else len(history)
            yield [item for item, _ in history[:kept]]


class Block(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.dim, self.heads, self.dropout = dim, heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x, mask):
        # With 1 for the batch and -1 for the length every shape is a constant of the exported graph.
        batch, dim = 1 if torch.onnx.is_in_onnx_export() else x.shape[0], self.dim
        split = lambda y: y.reshape(batch, -1, self.heads, dim // self.heads).transpose(1, 2)
        normed = self.norm1(x)
        query, key, value = split(self.query(normed)), split(self.key(normed)), split(self.value(normed))
        scores = query @ key.transpose(2, 3) / math.sqrt(dim // self.heads) + mask
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, -1, dim)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.down(F.relu(self.up(self.norm2(x)))))


class Encoder(nn.Module):
    """Item vectors [batch, len, dim], oldest first, to a state [batch, len, dim] after each."""

    def __init__(self, dim, max_len, blocks, heads, dropout):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.scale = math.sqrt(dim)
        # By distance from the newest item, whose row is the last one.
        self.positions = nn.Parameter(0.02 * torch.randn(max_len, dim))
        self.register_buffer("causal", torch.full((max_len, max_len), -1e9).triu(1))
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x, padding=None):
        length = x.shape[1]
        mask = self.causal[:length, :length]
        if padding is not None:  # [batch, len], true where a history has not begun
            mask = mask + padding[:, None, None, :] * -1e9
        x = self.dropout(x * self.scale + self.positions[-length:])
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class Query(nn.Module):
    """The engine's contract: item vectors [1, len, dim] to a query [1, dim]."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.dim = encoder, encoder.positions.shape[1]

    def forward(self, item_vectors):
        # A slice of one row; picking row -1 would need a proof that there is one.
        return self.encoder(item_vectors)[:, -1:].reshape(1, self.dim)


def windows(histories, rows, max_len):
    """Inputs and targets [windows, max_len], padded on the left with the row behind the last item."""
    pad, inputs, targets = len(rows), [], []
    for history in histories:
        known = [rows[item] for item in history]
        for end in range(len(known), 1, -max_len):
            window = known[max(0, end - max_len - 1):end]
            fill = [pad] * (max_len + 1 - len(window))
            inputs.append(fill + window[:-1])
            targets.append(fill + window[1:])
    return torch.tensor(inputs), torch.tensor(targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--split", choices=["time", "leave-one-out"], default="time")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--max-len", type=int, default=50)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    histories = list(training_part(args.data, args.split))
    ids = sorted({item for history in histories for item in history})
    rows = {item: row for row, item in enumerate(ids)}
    inputs, targets = windows(histories, rows, args.max_len)

    encoder = Encoder(args.dim, args.max_len, args.blocks, args.heads, args.dropout)
    items = nn.Parameter(0.02 * torch.randn(len(ids), args.dim))
    optimiser = torch.optim.Adam([*encoder.parameters(), items], lr=1e-3, betas=(0.9, 0.98))
    for epoch in range(args.epochs):
        encoder.train()
        total = 0.0
        for batch in torch.randperm(len(inputs)).split(32):
            known = targets[batch] < len(ids)
            vectors = torch.cat([items, torch.zeros(1, args.dim)])[inputs[batch]]
            states = encoder(vectors, padding=inputs[batch] == len(ids))
            loss = F.cross_entropy(states[known] @ items.T, targets[batch][known])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}/{args.epochs}  loss {total / len(inputs):.4f}", flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "vectors.npy", items.detach().numpy())
    (args.out / "ids.txt").write_text("".join(f"{item}\n" for item in ids), encoding="utf-8")
    torch.onnx.export(
        Query(encoder).eval(),
        (torch.zeros(1, 5, args.dim),),
        str(args.out / "encoder.onnx"),
        input_names=["item_vectors"],
        output_names=["query"],
        dynamic_axes={"item_vectors": {1: "len"}},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
