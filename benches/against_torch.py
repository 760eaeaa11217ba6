"""Factorises a model by `compress run svd` and by torch.linalg.svd in one run, and compares.

    python benches/against_torch.py MODEL --compress target/release/compress --keep 0.8

MODEL is anything that compress reads; it is first written out as f32 safetensors, so that both work
on the same numbers with two threads each. The programs take turns, --rounds of each; the best time of
each counts. Prints one JSON object: the seconds (ours with reading and writing the weights, torch's of
decomposing and splitting alone), their ratio, and the sum over the weights of |W - W_r|^2 / |W|^2.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors import safe_open

WANTED = re.compile(r"model\.layers\..*_proj\.weight")


def weights(folder):
    """The f32 weights of the projections, one at a time."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in filter(WANTED.fullmatch, tensors.keys()):
                yield tensors.get_tensor(name)


def torch_svd(folder, keep):
    """Seconds, and the error of every weight."""
    seconds, errors = 0.0, []
    for weight in weights(folder):
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


def ours(program, folder, output, keep):
    """The same by compress."""
    command = [program, "run", "svd", folder, "--keep", str(keep), "-o", output, "--no-evaluate", "--json", "--quiet", "--force"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(torch.get_num_threads())}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    errors = json.loads((output / "compression.json").read_text())["errors"]
    return json.loads(printed)["compress_seconds"], list(errors.values())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("--compress", required=True, help="the program")
    p.add_argument("--keep", type=float, default=0.8)
    p.add_argument("--rounds", type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as place:
        whole, cut = Path(place, "whole"), Path(place, "cut")
        write = [a.compress, "run", "svd", a.model, "--keep", "1", "--dtype", "f32", "-o", whole, "--no-evaluate", "--quiet"]
        subprocess.run(write, check=True, capture_output=True)
        rounds = [(ours(a.compress, whole, cut, a.keep), torch_svd(whole, a.keep)) for _ in range(a.rounds)]
    mine, theirs = (min(side) for side in zip(*rounds))
    print(json.dumps({
        "weights": len(mine[1]),
        "compress": {"seconds": round(mine[0], 2), "error": sum(mine[1])},
        "torch": {"seconds": round(theirs[0], 2), "error": sum(theirs[1])},
        "times_faster": round(theirs[0] / mine[0], 2),
    }))


if __name__ == "__main__":
    main()
