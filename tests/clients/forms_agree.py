"""transformers gives the same logits for pairs of factors as for the same factors multiplied out.

    python tests/clients/forms_agree.py COMPRESS NETWORK...

Each NETWORK is cut twice by the program COMPRESS, as pairs and with --dense, and both are loaded: the
first through its own modelling file. Exits 1 where the logits differ by more than 1e-4.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()


def cut(program, network, output, *more):
    command = [program, "run", "svd", network, "--keep", "0.6", "-o", output, "--no-evaluate", "--quiet", *more]
    subprocess.run(command, check=True, capture_output=True)
    return output


@torch.no_grad()
def logits(folder, **more):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more)
    vocabulary = AutoConfig.from_pretrained(folder, **more).vocab_size
    return model(torch.arange(20)[None] * 7 % vocabulary).logits


def main():
    program, *networks = sys.argv[1:]
    worst = 0.0
    for network in map(Path, networks):
        with tempfile.TemporaryDirectory() as place:
            pairs = logits(cut(program, network, Path(place, "pairs_" + network.name)), trust_remote_code=True)
            dense = logits(cut(program, network, Path(place, "dense"), "--dense"))
        difference = (pairs - dense).abs().max().item()
        print(f"{network.name}: logits differ by {difference:.1e}")
        worst = max(worst, difference)
    sys.exit(worst > 1e-4)


if __name__ == "__main__":
    main()
