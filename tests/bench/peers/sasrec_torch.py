"""Minimal SASRec (own implementation) for CPU: quality/speed anchor.

Data: one user per line, "user item item ..." in time order.
Split: last item = test, the one before = validation, the rest = training.
Evaluation: full ranking over all items, items seen in the input are left out.
"""
import argparse, json, lzma, math, resource, time
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F

ap = argparse.ArgumentParser()
ap.add_argument("--data", required=True)
ap.add_argument("--dim", type=int, default=64)
ap.add_argument("--layers", type=int, default=2)
ap.add_argument("--heads", type=int, default=1)
ap.add_argument("--maxlen", type=int, default=200)
ap.add_argument("--dropout", type=float, default=0.2)
ap.add_argument("--loss", choices=["ce", "bce", "gbce", "sce"], default="ce")
ap.add_argument("--negs", type=int, default=256)
ap.add_argument("--gbce-t", type=float, default=0.75)
ap.add_argument("--batch", type=int, default=64)
ap.add_argument("--lr", type=float, default=1e-3)
ap.add_argument("--wd", type=float, default=0.0)
ap.add_argument("--budget", type=float, default=600, help="training seconds (evaluation not counted)")
ap.add_argument("--epochs", type=int, default=10**6)
ap.add_argument("--eval-every", type=float, default=60)
ap.add_argument("--patience", type=int, default=10**6)
ap.add_argument("--stop-at", type=float, default=2.0, help="end when the test NDCG@10 of the best validation reaches this")
ap.add_argument("--windows", type=int, default=1, help="1: cut long histories into windows, 0: last maxlen only")
ap.add_argument("--bf16", type=int, default=0)
ap.add_argument("--cosine", type=int, default=0, help="decay lr over the budget")
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--save", default="")
ap.add_argument("--tag", default="")
ap.add_argument("--eval-only", default="", help="checkpoint: only evaluate it")
a = ap.parse_args()
torch.manual_seed(a.seed); np.random.seed(a.seed); torch.set_num_threads(a.threads)

opened = lzma.open(a.data, "rt") if a.data.endswith(".xz") else open(a.data)
seqs = [list(map(int, l.split()))[1:] for l in opened]
V = max(max(s) for s in seqs)
train = [s[:-2] for s in seqs]
counts = np.bincount(np.concatenate([np.array(s) for s in train]), minlength=V + 1)


class Block(nn.Module):
    def __init__(s, d, h, p):
        super().__init__()
        s.h = h; s.p = p
        s.ln1 = nn.LayerNorm(d); s.ln2 = nn.LayerNorm(d)
        s.qkv = nn.Linear(d, 3 * d); s.o = nn.Linear(d, d)
        s.f1 = nn.Linear(d, 4 * d); s.f2 = nn.Linear(4 * d, d)

    def forward(s, x):
        B, L, D = x.shape
        q, k, v = s.qkv(s.ln1(x)).view(B, L, 3, s.h, D // s.h).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(B, L, D)
        x = x + F.dropout(s.o(y), s.p, s.training)
        return x + F.dropout(s.f2(F.gelu(s.f1(s.ln2(x)))), s.p, s.training)


class SASRec(nn.Module):
    def __init__(s):
        super().__init__()
        s.emb = nn.Embedding(V + 1, a.dim, padding_idx=0)
        s.pos = nn.Embedding(a.maxlen, a.dim)
        s.blocks = nn.ModuleList([Block(a.dim, a.heads, a.dropout) for _ in range(a.layers)])
        s.ln = nn.LayerNorm(a.dim)
        for m in s.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02 if isinstance(m, nn.Embedding) else 1 / math.sqrt(a.dim) / 2)
            if isinstance(m, nn.Linear): nn.init.zeros_(m.bias)
        with torch.no_grad(): s.emb.weight[0] = 0

    def forward(s, x):  # right padded; position counted from the end so windows and inference agree
        L = x.shape[1]
        ln = (x > 0).sum(1, keepdim=True)
        p = (ln - 1 - torch.arange(L)[None]).clamp(0, a.maxlen - 1)
        h = s.emb(x) * math.sqrt(a.dim) + s.pos(p)
        h = F.dropout(h, a.dropout, s.training)
        for b in s.blocks: h = b(h)
        return s.ln(h)


model = SASRec()
nparam = sum(p.numel() for p in model.parameters())
opt = torch.optim.AdamW(model.parameters(), lr=a.lr, weight_decay=a.wd, betas=(0.9, 0.98))
alpha = a.negs / (V - 1); beta = alpha * ((1 - 1 / alpha) * a.gbce_t + 1 / alpha)


def batches():
    ex = []
    for s in train:
        if len(s) < 2: continue
        if not a.windows or len(s) <= a.maxlen + 1:
            ex.append(s[-(a.maxlen + 1):]); continue
        e = len(s) - np.random.randint(0, a.maxlen) if np.random.rand() < 0.5 else len(s)
        if e < len(s): ex.append(s[-(a.maxlen + 1):] if e < 2 else s[max(0, e):][-(a.maxlen + 1):])
        while e >= 2:
            ex.append(s[max(0, e - a.maxlen - 1):e]); e -= a.maxlen
    ex = [x for x in ex if len(x) >= 2]
    key = np.array([len(x) for x in ex]) * np.exp(np.random.randn(len(ex)) * 0.08)
    order = np.argsort(key)
    bs = [order[i:i + a.batch] for i in range(0, len(order), a.batch)]
    np.random.shuffle(bs)
    for b in bs:
        L = max(len(ex[i]) for i in b) - 1
        x = np.zeros((len(b), L), np.int64); y = np.zeros((len(b), L), np.int64)
        for r, i in enumerate(b):
            s = ex[i]; x[r, :len(s) - 1] = s[:-1]; y[r, :len(s) - 1] = s[1:]
        yield torch.from_numpy(x), torch.from_numpy(y)


@torch.no_grad()
def evaluate(which, sampled=0):
    """sampled=100: rank the target among 100 uniformly drawn unseen items instead (SASRec paper protocol, seeded)"""
    rng = np.random.RandomState(7)
    model.eval(); hr = nd = hr20 = 0; n = 0
    off = -1 if which == "test" else -2
    W = model.emb.weight
    for i in range(0, len(seqs), 512):
        chunk = [s[:off] if off != 0 else s for s in seqs[i:i + 512]]
        tgt = torch.tensor([s[off] for s in seqs[i:i + 512]])
        L = max(min(len(c), a.maxlen) for c in chunk)
        x = torch.zeros(len(chunk), L, dtype=torch.long)
        for r, c in enumerate(chunk):
            c = c[-a.maxlen:]; x[r, :len(c)] = torch.tensor(c)
        h = model(x)[torch.arange(len(chunk)), (x > 0).sum(1) - 1]
        sc = h.float() @ W.T
        sc[:, 0] = -1e9
        t = sc[torch.arange(len(chunk)), tgt].clone()
        for r, c in enumerate(chunk): sc[r, c] = -1e9
        sc[torch.arange(len(chunk)), tgt] = t
        if sampled:
            for r in range(len(chunk)):
                s_ = set(seqs[i + r]); ng = []
                while len(ng) < sampled:
                    x_ = rng.randint(1, V + 1)
                    if x_ not in s_: ng.append(x_)
                keep = sc[r, ng].clone(); sc[r] = -1e9; sc[r, :sampled] = keep
        rank = (sc > t[:, None]).sum(1)
        hr += (rank < 10).sum().item(); hr20 += (rank < 20).sum().item()
        nd += (1 / torch.log2(rank[rank < 10].float() + 2)).sum().item(); n += len(chunk)
    model.train()
    return hr / n, nd / n, hr20 / n


if a.eval_only:
    model.load_state_dict(torch.load(a.eval_only, weights_only=True))
    v, t = evaluate("valid"), evaluate("test"); u = evaluate("test", 100) if len(seqs) < 10000 else (0, 0)
    print("RESULT " + json.dumps(dict(tag=a.tag, val_ndcg10=v[1], test_hr10=t[0], test_ndcg10=t[1], test_hr20=t[2], uniform100_hr10=u[0], uniform100_ndcg10=u[1]))); raise SystemExit

c_train = 0.0; t_train = 0.0; last_eval = 0.0; ep = 0; best = (-1,); bad = 0; steps = 0; toks = 0
model.train(); done = False
while not done and ep < a.epochs:
    t0 = time.time(); c0 = time.process_time()
    for x, y in batches():
        if a.cosine:
            f = min(1.0, (t_train + time.time() - t0) / a.budget)
            for g in opt.param_groups: g["lr"] = a.lr * min(1, (steps + 1) / 200) * (0.5 * (1 + math.cos(math.pi * f)) * 0.98 + 0.02)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(a.bf16)):
            h = model(x); m = y > 0; h = h[m]; t = y[m]
            if a.loss == "ce":
                lg = h @ model.emb.weight.T
                loss = F.cross_entropy(lg.float(), t)
            else:
                k = 1 if a.loss == "bce" else a.negs
                if a.loss == "bce": neg = torch.randint(1, V + 1, (len(t), 1))
                else: neg = torch.randint(1, V + 1, (k,))
                pos = (h * model.emb(t)).sum(-1, keepdim=True).float()
                ng = ((h[:, None] * model.emb(neg)).sum(-1) if a.loss == "bce" else h @ model.emb(neg).T).float()
                if a.loss == "sce":
                    ng = ng.masked_fill(neg[None] == t[:, None], -1e9)
                    loss = F.cross_entropy(torch.cat([pos, ng + math.log(V / k)], 1), torch.zeros(len(t), dtype=torch.long))
                elif a.loss == "bce":
                    loss = (F.softplus(-pos) + F.softplus(ng)).mean()
                else:  # gbce: -beta*log sigmoid(pos)
                    loss = (beta * F.softplus(-pos) + F.softplus(ng).sum(1, keepdim=True)).mean() / (k + 1)
        opt.zero_grad(set_to_none=True); loss.backward(); opt.step()
        steps += 1; toks += len(t)
        if t_train + time.time() - t0 > a.budget: done = True; break
    ep += 1; t_train += time.time() - t0; c_train += time.process_time() - c0
    if done or t_train - last_eval > a.eval_every or ep == a.epochs:
        last_eval = t_train
        v = evaluate("valid"); 
        if v[1] > best[0]:
            best = (v[1], ep, t_train, evaluate("test")); bad = 0
            if a.save: torch.save(model.state_dict(), a.save)
        else: bad += 1
        print(f"ep {ep} train_s {t_train:.0f} loss {loss.item():.4f} val HR@10 {v[0]:.4f} NDCG@10 {v[1]:.4f} | best test HR@10 {best[3][0]:.4f} NDCG@10 {best[3][1]:.4f} (ep {best[1]})", flush=True)
        if bad >= a.patience or best[3][1] >= a.stop_at: break
res = dict(tag=a.tag, data=a.data.split("/")[-1], args={k: v for k, v in vars(a).items() if k not in ("data", "save", "tag")},
           params=nparam, model_f32_mb=nparam * 4 / 1e6, train_s=t_train, train_cpu_s=c_train, epochs=ep, tokens_per_s=toks / t_train,
           best_epoch=best[1], best_train_s=best[2], val_ndcg10=best[0],
           test_hr10=best[3][0], test_ndcg10=best[3][1], test_hr20=best[3][2],
           peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print("RESULT " + json.dumps(res))
