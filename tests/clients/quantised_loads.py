"""What `compress run lorc` writes loads in transformers and PEFT, and gives the program's perplexity.

    python tests/clients/quantised_loads.py MODEL_DIR TEXT --ctx 256 --windows 16 --expect 4.3718

Loads the base as compressed-tensors packs it, then with its weights multiplied out and, where there is
one, the correction in MODEL_DIR/adapter on top. What was loaded last is to have the perplexity expected,
within the relative tolerance; else the exit status is 1.
"""

import argparse
import sys
from pathlib import Path

import torch
from perplexity import perplexity
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig
from transformers.utils import logging


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window")
    p.add_argument("--windows", type=int, default=16, help="how many windows")
    p.add_argument("--expect", type=float, required=True, help="the perplexity that it should be")
    p.add_argument("--tolerance", type=float, default=0.002, help="how far off it may be, relative")
    a = p.parse_args()

    logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ids = tokenizer(a.text.read_bytes().decode(), add_special_tokens=False).input_ids[: a.windows * a.ctx]

    def load(**options):
        return AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, **options).eval()

    value, count = perplexity(load(), ids, a.ctx)
    print(f"base as it is: perplexity {value:.4f} over {count} tokens")
    model = load(quantization_config=CompressedTensorsConfig(run_compressed=False, dequantize=True))
    value, _ = perplexity(model, ids, a.ctx)
    print(f"base, multiplied out: perplexity {value:.4f}")
    adapter = a.model / "adapter"
    if adapter.exists():
        from peft import PeftModel

        value, _ = perplexity(PeftModel.from_pretrained(model, adapter).eval(), ids, a.ctx)
        print(f"with the correction: perplexity {value:.4f}")
    if not abs(value / a.expect - 1) <= a.tolerance:
        sys.exit(f"expected {a.expect}, off by {abs(value / a.expect - 1):.2%}")


if __name__ == "__main__":
    main()
