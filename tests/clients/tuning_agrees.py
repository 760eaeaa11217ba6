"""Tuning a factored model goes as it goes in PyTorch: the same loss at every step.

    python tests/clients/tuning_agrees.py COMPRESS MODEL TEXT --ctx 64 --windows 8 --steps 8

Cuts MODEL, a Llama-like Hugging Face directory, by SVD, and has its low-rank components tuned on the
first windows of TEXT, all of them at every step. Then the same in transformers: autograd through the
modelling file of the directory, torch's AdamW, the same rates. A gradient that were off by a part in ten
thousand would show in the second loss; exits 1 where losses are further apart than --tolerance, relative.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

RATE = 3e-3


def beginning(text, tokenizer, tokens):
    """As much of a text as has so many tokens, and fewer than one window more."""
    ids = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return text[: ids.offset_mapping[tokens][1]]


def ours(program, cut, corpus, a, place):
    log = place / "log.json"
    subprocess.run(
        [program, "tune", cut, "--corpus", corpus, "--train-ctx", str(a.ctx), "--batch", str(a.windows), "--held-out", "1",
         "--steps", str(a.steps), "--every", "1", "--patience", "1000", "--rate", str(RATE), "--clip", "1e9",
         "-o", place / "tuned", "--log", log, "--no-evaluate", "--quiet"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return [point["loss"] for point in json.loads(log.read_text())["curve"] if point["step"] > 0]


def theirs(cut, corpus, a):
    tokenizer = AutoTokenizer.from_pretrained(cut)
    model = AutoModelForCausalLM.from_pretrained(cut, dtype=torch.float32, trust_remote_code=True).eval()
    ids = tokenizer(corpus.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
    windows = torch.tensor(ids[: a.windows * a.ctx]).view(a.windows, a.ctx)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith((".up.weight", ".down.weight")))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses = []
    for step in range(a.steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (0.55 + 0.45 * math.cos(math.pi * step / a.steps))
        logits = model(windows).logits[:, :-1]
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), windows[:, 1:].reshape(-1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program")
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--ctx", type=int, default=64, help="tokens of a window")
    p.add_argument("--windows", type=int, default=8, help="how many windows")
    p.add_argument("--steps", type=int, default=8, help="how many steps")
    p.add_argument("--tolerance", type=float, default=2e-4, help="how far apart losses may be, relative")
    a = p.parse_args()

    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        cut, corpus = place / "cut", place / "corpus.txt"
        subprocess.run(
            [a.program, "run", "svd", a.model, "--keep", "0.5", "-o", cut, "--no-evaluate", "--quiet"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        # One window more, which is held out.
        text = beginning(a.text.read_text(encoding="utf-8"), AutoTokenizer.from_pretrained(cut), (a.windows + 1) * a.ctx + 2)
        corpus.write_text(text, encoding="utf-8")
        pairs = list(zip(ours(a.program, cut, corpus, a, place), theirs(cut, corpus, a), strict=True))
    apart = max(abs(x / y - 1) for x, y in pairs)
    for step, (x, y) in enumerate(pairs):
        print(f"step {step}: loss {x:.6f}, PyTorch's {y:.6f}")
    print(f"largest relative difference {apart:.1e}")
    if not apart <= a.tolerance:
        sys.exit(1)


if __name__ == "__main__":
    main()
