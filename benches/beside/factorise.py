"""Factorises by `compress run svd` and by torch.linalg.svd.

    python benches/beside.py factorise target/release/compress MODEL --keep 0.8
    python benches/beside.py factorise target/release/compress models/tiny --shapes

MODEL is anything that compress reads; it is first written out as f32 safetensors, so that both work on the same
numbers. With --shapes one random weight at a time in the shapes of a model of 7B: 4096 × 4096, 4096 × 11008 and
1024 × 4096, at 40 % of their shorter side, with the vocabulary of MODEL, a small Hugging Face directory.

Prints a JSON object for each comparison: the seconds (ours with reading and writing the weights, torch's of decomposing
and splitting alone), their ratio, and the sum over the weights of |W - W_r|^2 / |W|^2.
"""

import json
import re
import tempfile
import time
from pathlib import Path

import torch

from .models import Tensors, made_up, whole
from .turns import in_turns, process

WANTED = r"layers\.\d+\..*_proj"

# Weights of one block of 7B: hidden 4096, inner 11008, key and value 1024; their shapes, and the ranks to cut them to.
BLOCK = (4096, 11008, 1, 1024)
SHAPES = {"q": (4096, 4096, 1638), "down": (4096, 11008, 1638), "k": (1024, 4096, 409)}


def arguments(p):
    p.add_argument("model", type=Path)
    p.add_argument("--keep", type=float, default=0.8)
    p.add_argument("--shapes", action="store_true", help="random weights in the shapes of a model of 7B")


def torch_svd(folder, only, keep):
    """Seconds, and the error of every weight whose name has the pattern in it."""
    seconds, errors = 0.0, []
    tensors = Tensors(folder)
    for name in filter(re.compile(only + r"\.weight").search, tensors):
        weight = tensors[name]
        m, n = weight.shape
        rank = max(1, int(keep * m * n / (m + n)))
        begin = time.perf_counter()
        u, s, vt = torch.linalg.svd(weight, full_matrices=False)
        root = s[:rank].sqrt()
        _, _ = u[:, :rank] * root, root[:, None] * vt[:rank]
        seconds += time.perf_counter() - begin
        energy = s.double().square()
        errors.append((energy[rank:].sum() / energy.sum()).item())
    return seconds, errors


def ours(a, folder, output, only, keep):
    """The same by compress."""
    options = ["--keep", keep, "--only", only, "-o", output, "--no-evaluate", "--json", "--quiet", "--force"]
    printed = process([a.program, "run", "svd", folder, *options], a.threads).json()
    errors = json.loads((output / "compression.json").read_text())["errors"]
    return printed["compress_seconds"], list(errors.values())


def compare(a, folder, output, name, only, keep):
    runs = {"compress": lambda: ours(a, folder, output, only, keep), "torch": lambda: torch_svd(folder, only, keep)}
    best = {side: min(turns) for side, turns in in_turns(a.rounds, runs).items()}
    told = {"what": name, "weights": len(best["torch"][1])}
    told |= {side: {"seconds": round(seconds, 3), "error": sum(errors)} for side, (seconds, errors) in best.items()}
    print(json.dumps(told | {"times_faster": round(best["torch"][0] / best["compress"][0], 2)}), flush=True)


def run(a):
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as place:
        folder, output = Path(place, "whole"), Path(place, "cut")
        if not a.shapes:
            whole(a.program, a.model, folder, a.threads)
            return compare(a, folder, output, str(a.model), WANTED, a.keep)
        made_up(a.model, BLOCK, folder)
        for weight, (m, n, rank) in SHAPES.items():
            # In the middle between two ranks, so that both programs round it down to the same.
            keep = (rank + 0.5) * (m + n) / (m * n)
            compare(a, folder, output, f"{m} x {n}, rank {rank}", rf"\.{weight}_proj", keep)
