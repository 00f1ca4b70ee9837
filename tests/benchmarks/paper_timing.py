#!/usr/bin/env python3
"""Times the way the paper's public notebooks compute, on synthetic tensors, as the baseline of speed ratios.

Loops over pairs with torch.nn.CosineSimilarity on bf16, one similarity row per neuron, scipy's assignment, np.append
flattening, sklearn's full-SVD PCA, loops over tokens.  Where the published cell raises, the evident intention is timed.

    paper_timing.py [--threads 1] [--only NAME,NAME] [--repeat 3] [--long]
    paper_timing.py --serve [--threads 1]

Prints a JSON list of {analysis, shape, per, seconds, cpu_seconds, threads, repeats}; both times are the best of the repeats for one
`per`.  cpu_seconds is the process's CPU time: with one thread it is the steadier figure on a busy machine.

With --serve it answers lines of JSON on stdin, one line each, so that another program can time its own way in turn with this one:
    {"rows": true}                          -> [{"analysis", "shape", "per"}, ...], the index of a row is its place
    {"run": INDEX}                          -> {"seconds": of one `per`}; inputs are prepared before the clock starts and kept
    {"similarity": INDEX, "path": FILE}     -> {"size": F}; writes that assignment's matrix [F,F] as float32
"""
import argparse
import json
import math
import os
import sys
import time
from functools import partial

ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ap.add_argument("--threads", type=int, default=1)
ap.add_argument("--only", help="comma-separated analyses")
ap.add_argument("--repeat", type=int, default=3, help="at most; what takes over 2 s runs once")
ap.add_argument("--serve", action="store_true", help="answer requests on stdin")
ap.add_argument("--long", action="store_true", help="also assignments of 8192 and 14336 neurons (minutes)")
args = ap.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(args.threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from scipy.stats import kendalltau, linregress  # noqa: E402

torch.set_num_threads(args.threads)
torch.set_grad_enabled(False)
cos0 = torch.nn.CosineSimilarity(dim=0)
cos2 = torch.nn.CosineSimilarity(dim=2)
BF16 = torch.bfloat16
rows = []


def gaussian(*shape, seed=0, dtype=BF16):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)


def as_numpy(x):
    return x.float().cpu().detach().numpy()


def measure(analysis, shape, work, per="call", units=1, long=False):
    """Adds a row.  `work` builds the inputs and returns the function to time, which does `units` times `per`."""
    rows.append({"analysis": analysis, "shape": shape, "work": work, "per": per, "units": units, "long": long})


def run_all():
    """Best time of one unit; a first run that took over 2 s is not repeated."""
    results = []
    for row in rows:
        if (args.only and row["analysis"] not in args.only.split(",")) or (row["long"] and not args.long):
            continue
        times, cpu = [], []
        prepared = row["work"]()
        while len(times) < max(1, args.repeat):
            start, cpu_start = time.perf_counter(), time.process_time()
            prepared()
            times.append((time.perf_counter() - start) / row["units"])
            cpu.append((time.process_time() - cpu_start) / row["units"])
            if times[0] * row["units"] > 2:
                break
        results.append({"analysis": row["analysis"], "shape": row["shape"], "per": row["per"], "seconds": min(times),
                        "cpu_seconds": min(cpu), "threads": args.threads, "repeats": len(times)})
        print(f"{row['analysis']:32s} {json.dumps(row['shape']):72s} {min(times):.6g} s ({min(cpu):.6g} s cpu) per {row['per']}",
              file=sys.stderr)
    print(json.dumps(results, indent=1))


def serve():
    prepared = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "rows" in request:
            reply = [{key: row[key] for key in ("analysis", "shape", "per")} for row in rows]
        elif "run" in request:
            index = request["run"]
            if index not in prepared:
                prepared.clear()            # one row's inputs at a time
                prepared[index] = rows[index]["work"]()
            start = time.perf_counter()
            prepared[index]()
            reply = {"seconds": (time.perf_counter() - start) / rows[index]["units"]}
        else:
            shape = rows[request["similarity"]]["shape"]
            prepared.clear()
            similarity_for_assignment(shape["F"], shape["kind"]).astype(np.float32).tofile(request["path"])
            reply = {"size": shape["F"]}
        print(json.dumps(reply), flush=True)


def all_pairs(vectors):
    n = len(vectors)
    sim = np.empty((n, n))
    for j in range(n):
        for k in range(j, n):
            sim[j][k] = sim[k][j] = as_numpy(cos0(vectors[j], vectors[k]))
    return sim


def experts(e, f, d):
    return [gaussian(f, d, seed=i) for i in range(e)]


# ---- static

def matrix_cosine(e, f, d):
    w = experts(e, f, d)
    return lambda: all_pairs([x.flatten() for x in w])


def neuron_average(e, f, d):
    w = experts(e, f, d)
    return lambda: all_pairs([torch.mean(x, dim=0) for x in w])


def matrix_and_average(e, f, d):
    w = experts(e, f, d)
    return lambda: (all_pairs([x.flatten() for x in w]), all_pairs([torch.mean(x, dim=0) for x in w]))


def router_cosine(e, d):
    gate = gaussian(e, d)
    return lambda: all_pairs([gate[j, :] for j in range(e)])


def regression(e):
    rng = np.random.default_rng(0)
    maps = [rng.random((e, e)) for _ in range(4)]

    def work():
        flat = []
        for m in maps:
            data = np.array([])
            for row in range(e):
                for col in range(row):
                    data = np.append(data, m[row][col])
            flat.append(data)
        return [linregress(x, flat[0]) for x in flat[1:]]
    return work


def rows_against(a, b, projection, rows):
    """Cosine of each neuron of a with all of b.  gate_proj, up_proj: b [n,d] is used transposed; down_proj: stored as [d,n], contiguous."""
    sim = np.empty((rows, len(a)))
    for i in range(rows):
        if projection == "down_proj":
            sim[i] = as_numpy(cos0(a[i].unsqueeze(1), b))
        else:
            sim[i] = as_numpy(cos0(a[i].unsqueeze(1), b.T))
    return sim


def pair(n, d, projection):
    a, b = gaussian(n, d, seed=1), gaussian(n, d, seed=2)
    return a, b.T.contiguous() if projection == "down_proj" else b


def neuron_cosine_rows(n, d, projection, rows):
    a, b = pair(n, d, projection)
    return lambda: rows_against(a, b, projection, rows)


def neuron_matching(n, d):
    a, b = pair(n, d, "down_proj")

    def work():
        _, p = linear_sum_assignment(rows_against(a, b, "down_proj", n), maximize=True)
        return kendalltau(p, np.arange(n)).statistic, as_numpy(cos0(a.T.flatten(), b[:, p].flatten()))
    return work


def similarity_for_assignment(n, kind, d=512):
    """random: unrelated neurons.  structured: the same neurons shuffled, half of them weakly related, with 8 shared directions.
    dominant: unrelated neurons, each with its own load, uniform in [0, 2), of one direction that all share."""
    g = torch.Generator().manual_seed(n)
    a, b = torch.randn(n, d, generator=g), torch.randn(n, d, generator=g)
    if kind == "structured":
        shuffle = torch.randperm(n, generator=g)
        rho = torch.zeros(n, 1)
        rho[: n // 2] = 0.15
        b = (rho * a + (1 - rho * rho).sqrt() * b)[shuffle]
        shared = torch.randn(8, d, generator=g)
        a, b = (x + 0.5 * torch.randn(n, 8, generator=g) @ shared for x in (a, b))
    if kind == "dominant":
        shared = torch.randn(1, d, generator=g)
        a, b = (x + 2 * torch.rand(n, 1, generator=g) * shared for x in (a, b))
    return (F.normalize(a, dim=1) @ F.normalize(b, dim=1).T).double().numpy()


def assignment(n, kind):
    sim = similarity_for_assignment(n, kind)
    return lambda: linear_sum_assignment(sim, maximize=True)


def matrix_pca(n, coordinates):
    from sklearn.decomposition import PCA
    w = [gaussian(coordinates, seed=i) for i in range(n)]

    def work():
        x = torch.empty(n, coordinates)
        for i in range(n):
            x[i] = w[i]
        x = (x - torch.mean(x, dim=0)) / torch.std(x, dim=0)
        return PCA(n_components=2, svd_solver="full").fit_transform(x.numpy())
    return work


def neuron_pca(neurons, d):
    from sklearn.decomposition import PCA
    parts = [gaussian(neurons // 8, d, seed=i) for i in range(8)]

    def work():
        x = torch.cat(parts, dim=0)
        x = (x - torch.mean(x, dim=0)) / torch.std(x, dim=0)
        return PCA(n_components=2, svd_solver="full").fit_transform(as_numpy(x))
    return work


# ---- dynamic

def output_cosine_pairs(t, n, d):
    out = [gaussian(t, d, seed=i) for i in range(n)]

    def work():
        for j in range(t):
            sim = np.ones((n, n))
            for k in range(n):
                for l in range(k + 1, n):
                    sim[k][l] = sim[l][k] = as_numpy(cos0(out[k][j], out[l][j]))
    return work


def output_angular(t, n, d):
    out = [gaussian(t, d, seed=i) for i in range(n)]

    def work():
        total = np.zeros((n, n))
        for j in range(t):
            rows, cols = torch.empty(n, 1, d), torch.empty(1, n, d)
            for k in range(n):
                rows[k, 0] = out[k][j]
                cols[0, k] = out[k][j]
            total += as_numpy((1 - torch.acos(cos2(rows, cols)) / math.pi).fill_diagonal_(1.0))
        return total
    return work


def rank_counts(t, e):
    rng = np.random.default_rng(0)
    norms, scores = [rng.random(t) for _ in range(e)], rng.random((t, e))

    def work():
        counts = np.zeros((e, e))
        for j in range(t):
            norm = np.array([])
            for k in range(e):
                norm = np.append(norm, norms[k][j])
            score = scores[j].copy()
            by_norm, by_score = np.argsort(norm), np.argsort(score)
            for rank, i in enumerate(by_norm):
                norm[i] = rank
            for rank, i in enumerate(by_score):
                score[i] = rank
            for row, col in zip(score.tolist(), norm.tolist()):
                counts[int(row), int(col)] += 1
        return counts
    return work


def all_expert_forward(t, e, d, f, dtype):
    x, router = gaussian(t, d, dtype=dtype), gaussian(e, d, dtype=dtype)
    gate, up = ([gaussian(f, d, seed=s + i, dtype=dtype) for i in range(e)] for s in (0, 100))
    down = [gaussian(d, f, seed=200 + i, dtype=dtype) for i in range(e)]

    def work():
        weights, ids = torch.topk(F.linear(x, router), e, dim=-1)
        flat, weights = ids.view(-1), weights.softmax(dim=-1)
        xs = x.repeat_interleave(e, dim=0)
        y = torch.empty_like(xs)
        for i in range(e):
            part = xs[flat == i]
            y[flat == i] = F.linear(F.silu(F.linear(part, gate[i])) * F.linear(part, up[i]), down[i])
        return (y.view(*weights.shape, -1) * weights.unsqueeze(-1)).sum(dim=1)
    return work


for e, f, d in ((8, 3584, 1024), (64, 1408, 256)):
    shape = {"E": e, "F": f, "D": d, "dtype": "bf16"}
    measure("matrix_cosine", shape, partial(matrix_cosine, e, f, d))
    measure("neuron_average", shape, partial(neuron_average, e, f, d))
    measure("matrix_cosine_and_neuron_average", shape, partial(matrix_and_average, e, f, d))
for e, d in ((8, 4096), (64, 2048)):
    measure("router_cosine", {"E": e, "D": d, "dtype": "bf16"}, partial(router_cosine, e, d))
    measure("router_regression", {"E": e, "projections": 3}, partial(regression, e))
for projection in ("gate_proj", "down_proj"):
    measure("neuron_cosine_rows", {"F": 1408, "D": 2048, "dtype": "bf16", "projection": projection},
            partial(neuron_cosine_rows, 1408, 2048, projection, 16), "neuron", 16)
measure("neuron_matching", {"F": 1408, "D": 2048, "dtype": "bf16", "projection": "down_proj"}, partial(neuron_matching, 1408, 2048))
for kind, sizes in (("random", (1408, 4096, 8192, 14336)), ("structured", (1408, 4096, 8192)), ("dominant", (1408, 4096))):
    for n in sizes:
        measure("assignment", {"F": n, "kind": kind, "dtype": "f64"}, partial(assignment, n, kind), long=n > 4096)
measure("matrix_pca", {"N": 9, "coordinates": 3584 * 1024}, partial(matrix_pca, 9, 3584 * 1024))
measure("neuron_pca", {"neurons": 16384, "D": 1024}, partial(neuron_pca, 16384, 1024))
for t, n, d in ((64, 9, 4096), (8, 65, 2048)):
    shape = {"T": t, "N": n, "D": d, "dtype": "bf16"}
    measure("output_cosine_pairs", shape, partial(output_cosine_pairs, t, n, d), "token", t)
    measure("output_angular", shape, partial(output_angular, t, n, d), "token", t)
for e in (8, 64):
    measure("rank_counts", {"T": 64, "E": e}, partial(rank_counts, 64, e), "token", 64)
measure("all_expert_forward", {"T": 64, "E": 8, "D": 1024, "F": 3584, "dtype": "bf16"}, partial(all_expert_forward, 64, 8, 1024, 3584, BF16))
measure("all_expert_forward", {"T": 64, "E": 8, "D": 1024, "F": 3584, "dtype": "f32"}, partial(all_expert_forward, 64, 8, 1024, 3584, torch.float32))
serve() if args.serve else run_all()
