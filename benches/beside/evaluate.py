"""Tokens per second of an evaluation, and the perplexity, by compress and by transformers in f32.

    python benches/beside.py evaluate target/release/compress MODEL TEXT --ctx 256 --windows 64
    python benches/beside.py evaluate target/release/compress MODEL.gguf TEXT --hf DIR

MODEL is anything that compress reads, and --hf a Hugging Face directory of the same model for PyTorch where MODEL is
none. Ours is by its own clock, without loading; PyTorch's the better of one and of --batch windows at a time.
"""

import math
import time

import torch
import torch.nn.functional as F

from .models import print_speeds, text_arguments, torch_model
from .turns import in_turns, process

arguments = text_arguments


def ours(a):
    """Seconds and perplexity."""
    options = ["--ctx", a.ctx, "--windows", a.windows, "--device", "cpu", "--json", "--quiet"]
    told = process([a.program, "evaluate", a.model, "--text", a.text, *options], a.threads).json()
    return told["seconds"], told["perplexity"]


@torch.inference_mode()
def theirs(model, windows, batch):
    """The same by PyTorch."""
    total = 0.0
    begin = time.perf_counter()
    for some in windows.split(batch):
        logits = model(some, use_cache=False).logits[:, :-1]
        total += F.cross_entropy(logits.flatten(0, 1), some[:, 1:].flatten(), reduction="sum").item()
    return time.perf_counter() - begin, math.exp(total / windows[:, 1:].numel())


def run(a):
    model, windows = torch_model(a)
    runs = {batch: lambda batch=batch: theirs(model, windows, batch) for batch in {1, a.batch}}
    best = {name: min(turns) for name, turns in in_turns(a.rounds, {"ours": lambda: ours(a)} | runs).items()}
    seconds, perplexity = best.pop("ours")
    print_speeds(a, [("evaluation", a.ctx - 1, seconds, {batch: turn[0] for batch, turn in best.items()})])
    print(f"perplexity: compress {perplexity:.5f}, PyTorch {best[1][1]:.5f}")
