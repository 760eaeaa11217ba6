"""Perplexity of a model directory, measured by transformers alone.

    python tests/clients/perplexity.py MODEL_DIR TEXT --ctx 256 --windows 64
    python tests/clients/perplexity.py MODEL_DIR TEXT --expect 4.0501 --tolerance 0.001

The text is tokenised once, without special tokens, and cut into windows of --ctx tokens from the
start, without overlap; tokens 2 to --ctx of each window are scored, in f32. With --expect the exit
status is 1 if the result is off by more than the relative tolerance.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def perplexity(model, ids, context):
    """Perplexity and number of scored tokens over the whole windows of `ids`."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - context + 1, context):
        window = torch.tensor([ids[start : start + context]])
        with torch.inference_mode():
            logits = model(window, use_cache=False).logits[0, :-1].float()
        total += F.cross_entropy(logits, window[0, 1:], reduction="none").double().sum().item()
        count += context - 1
    return math.exp(total / count), count


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window")
    p.add_argument("--windows", type=int, default=64, help="how many windows at most; 0 for all")
    p.add_argument("--trust-remote-code", action="store_true", help="run the model code of the directory")
    p.add_argument("--expect", type=float, help="the perplexity that it should be")
    p.add_argument("--tolerance", type=float, default=0.001, help="how far off it may be, relative")
    a = p.parse_args()

    logging.set_verbosity_error()
    options = dict(trust_remote_code=a.trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(a.model, **options)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, **options).eval()
    ids = tokenizer(a.text.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
    if a.windows:
        ids = ids[: a.windows * a.ctx]
    if len(ids) < a.ctx:
        sys.exit(f"the text has {len(ids)} tokens, fewer than one window of {a.ctx}")
    value, count = perplexity(model, ids, a.ctx)
    print(f"perplexity {value:.4f} over {count} tokens (ctx {a.ctx})")
    if a.expect is not None and not abs(value / a.expect - 1) <= a.tolerance:
        sys.exit(f"expected {a.expect}, off by {abs(value / a.expect - 1):.2%}")


if __name__ == "__main__":
    main()
