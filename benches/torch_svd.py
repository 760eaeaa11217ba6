"""Truncated SVD of every projection with PyTorch, to compare times and errors with.

    python benches/torch_svd.py MODEL.safetensors --keep 0.8
    python benches/torch_svd.py MODEL_DIR --keep 0.8 --errors errors.json

Each 2-d `model.layers.*_proj.weight` (m x n) is decomposed in f32 by torch.linalg.svd and split into
two factors of rank max(1, int(keep * m * n / (m + n))). Prints one JSON object: how many matrices,
the seconds of decomposing and making the factors (not of reading), and the sum over the matrices of
|W - W_r|^2 / |W|^2. --errors writes the list by matrix.
"""

import argparse
import json
import re
import time
from pathlib import Path

import torch
from safetensors import safe_open

WANTED = re.compile(r"model\.layers\..*_proj\.weight")


def matrices(path):
    """Names and f32 weights of the projections, one at a time."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in sorted(tensors.keys()):
                if WANTED.fullmatch(name) and len(tensors.get_slice(name).get_shape()) == 2:
                    yield name, tensors.get_tensor(name).float()


def factors(weight, rank):
    """down (r x n), up (m x r) and all singular values."""
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    root = s[:rank].sqrt()
    return root[:, None] * vt[:rank], u[:, :rank] * root, s


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("--keep", type=float, default=0.8, help="share of the parameters to keep")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--errors", type=Path, help="write the error of each matrix to this file")
    a = p.parse_args()

    torch.set_num_threads(a.threads)
    seconds, rows = 0.0, []
    for name, weight in matrices(a.model):
        m, n = weight.shape
        rank = max(1, int(a.keep * m * n / (m + n)))
        begin = time.perf_counter()
        down, up, s = factors(weight, rank)
        seconds += time.perf_counter() - begin
        energy = s.double().square()
        rows.append({"name": name, "rank": rank, "error": (energy[rank:].sum() / energy.sum()).item()})
    total = sum(row["error"] for row in rows)
    print(json.dumps({"matrices": len(rows), "seconds": round(seconds, 3), "error": total}))
    if a.errors:
        a.errors.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
