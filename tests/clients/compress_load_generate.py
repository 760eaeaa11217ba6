"""The shortest way through: compress a model, load what was written in transformers, and let it write.

    python tests/clients/compress_load_generate.py COMPRESS MODEL [--prompt "Once upon a time"]

COMPRESS is the program, MODEL a directory or a hub id. Exits with 1 where the text that comes out differs from the prompt by less
than a word.
"""

import argparse
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program")
    p.add_argument("model")
    p.add_argument("--prompt", default="Once upon a time")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as place:
        out = f"{place}/out"
        subprocess.run([a.program, "run", "svd", a.model, "--keep", "0.95", "-o", out, "--no-evaluate", "--quiet"], check=True)
        # Pairs of factors run by a modelling file that lies beside the weights: hence trust_remote_code.
        tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=True)
        model = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True, dtype=torch.float32).eval()
        prompt = tokenizer(a.prompt, return_tensors="pt", return_token_type_ids=False)
        text = tokenizer.decode(model.generate(**prompt, max_new_tokens=20, do_sample=False)[0], skip_special_tokens=True)
    print(text)
    if len(text.split()) <= len(a.prompt.split()):
        sys.exit("nothing was written")


if __name__ == "__main__":
    main()
