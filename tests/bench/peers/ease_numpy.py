"""EASE (Steck 2019) as numpy solves it: the whole inverse of the penalised co-occurrence matrix.

Data: one user per line, "user item item ..." in time order; leave-one-out, full ranking, items of the history left out.
The penalty is the one of --penalties with the best validation NDCG@10; the figures are of the fit with that penalty alone.
"""
import argparse, json, lzma, resource, time
import numpy as np, scipy.sparse as sp

ap = argparse.ArgumentParser()
ap.add_argument("--data", required=True)
ap.add_argument("--penalties", default="30,200")
a = ap.parse_args()

opened = lzma.open(a.data, "rt") if a.data.endswith(".xz") else open(a.data)
sequences = [list(map(int, line.split()))[1:] for line in opened]
num_items = max(map(max, sequences)) + 1


def matrix(lists):
    """Binary users x items."""
    starts = np.cumsum([0] + [len(items) for items in lists])
    columns = np.concatenate([np.asarray(items, np.int64) for items in lists])
    m = sp.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(lists), num_items))
    m.sum_duplicates()
    m.data[:] = 1
    return m


def ease(x, penalty):
    gram = np.asarray((x.T @ x).todense(), dtype=np.float32)
    gram[np.diag_indices(num_items)] += penalty
    inverse = np.linalg.inv(gram)
    del gram
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices(num_items)] = 0
    return weights


def ndcg10_and_hr10(weights, histories, targets):
    ndcg, hits = 0.0, 0
    for at in range(0, len(targets), 512):
        part, wanted = histories[at : at + 512], targets[at : at + 512]
        scores = np.asarray(part @ weights, dtype=np.float32)
        right = scores[np.arange(len(wanted)), wanted].copy()
        scores[np.repeat(np.arange(len(wanted)), np.diff(part.indptr)), part.indices] = -1e9
        scores[np.arange(len(wanted)), wanted] = -1e9
        ranks = (scores > right[:, None]).sum(1) + ((scores == right[:, None]).sum(1) + 1) // 2
        hits += (ranks < 10).sum()
        ndcg += (1 / np.log2(ranks[ranks < 10] + 2)).sum()
    return ndcg / len(targets), hits / len(targets)


training, known = matrix([s[:-2] for s in sequences]), matrix([s[:-1] for s in sequences])
best = None
for penalty in map(float, a.penalties.split(",")):
    wall, cpu = time.time(), time.process_time()
    weights = ease(training, penalty)
    wall, cpu = time.time() - wall, time.process_time() - cpu
    validation, _ = ndcg10_and_hr10(weights, training, np.array([s[-2] for s in sequences]))
    print(f"penalty {penalty:g}: validation NDCG@10 {validation:.4f}, {cpu:.0f} CPU s", flush=True)
    if best is None or validation > best["val_ndcg10"]:
        ndcg, hr = ndcg10_and_hr10(weights, known, np.array([s[-1] for s in sequences]))
        best = dict(val_ndcg10=validation, test_ndcg10=ndcg, test_hr10=hr, train_s=wall, train_cpu_s=cpu, penalty=penalty)
    del weights
best["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("RESULT " + json.dumps({name: round(float(value), 4) for name, value in best.items()}), flush=True)
