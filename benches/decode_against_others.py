"""Decoding one token after another, by compress, PyTorch and llama.cpp, in turns: speed and memory.

    python benches/decode_against_others.py target/release/compress TEXT --ours 4bit=OUT --ours f32=DIR --torch DIR --gguf MODEL.gguf

Two threads each, greedy, 64 tokens after a prompt of --prompt. Each turn is a process of
its own: its largest resident set is the memory told, mapped files included. `--torch` and `--gguf` may be
left out; the latter takes the llama-cpp-python of the interpreter given by --llama-python. The best of
--rounds turns counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

THREADS = 2
TOKENS = 64  # as many as `evaluate` times

TORCH = """
import sys, time, torch
from transformers import AutoModelForCausalLM
folder, prompt, tokens, threads = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.arange(prompt)[None] * 37 % model.config.vocab_size
with torch.inference_mode():
    out = model(ids, use_cache=True)
    cache, seconds = out.past_key_values, []
    for _ in range(tokens):
        begin = time.perf_counter()
        out = model(out.logits[:, -1:].argmax(-1), past_key_values=cache, use_cache=True)
        seconds.append(time.perf_counter() - begin)
print(sorted(seconds)[len(seconds) // 2])
"""

LLAMA = """
import sys, time
import numpy as np
from llama_cpp import Llama
file, prompt, tokens, threads = sys.argv[1], *map(int, sys.argv[2:])
model = Llama(file, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
model.eval([i * 37 % model.n_vocab() for i in range(prompt)])
seconds = []
for _ in range(tokens):
    begin = time.perf_counter()
    token = model.sample(temp=0.0)
    model.eval([token])
    seconds.append(time.perf_counter() - begin)
print(sorted(seconds)[len(seconds) // 2])
"""


def turn(command):
    """What a program prints, and its largest resident set in MB."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    with tempfile.TemporaryFile("w+") as complaint:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaint, env=environment, text=True)
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            complaint.seek(0)
            sys.exit(f"{command[0]} failed:\n{complaint.read()}")
    return printed, usage.ru_maxrss / 1000


def ours(a, folder):
    """Seconds for one more token, the median that `evaluate` measures after a prompt of 128."""
    options = ["--ctx", str(a.prompt), "--windows", "1", "--device", "cpu", "--json", "--quiet"]
    printed, memory = turn([a.compress, "evaluate", folder, "--text", a.text, *options])
    return json.loads(printed)["latency"]["token_ms"] / 1000, memory


def others(python, script, model, a):
    printed, memory = turn([python, "-c", script, model, str(a.prompt), str(TOKENS), str(THREADS)])
    return float(printed), memory


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", help="the program")
    p.add_argument("text", type=Path, help="for the program, which wants one to score")
    p.add_argument("--ours", action="append", default=[], metavar="NAME=DIR", help="a model for the program; may be repeated")
    p.add_argument("--torch", type=Path, metavar="DIR", help="a model for PyTorch, in f32")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model for llama.cpp")
    p.add_argument("--llama-python", default=sys.executable, metavar="PYTHON")
    p.add_argument("--prompt", type=int, default=128)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()

    runs = {}
    for name, folder in (entry.split("=", 1) for entry in a.ours):
        runs[f"compress, {name}"] = lambda folder=folder: ours(a, folder)
    if a.torch:
        runs["PyTorch, f32"] = lambda: others(sys.executable, TORCH, a.torch, a)
    if a.gguf:
        runs[f"llama.cpp, {a.gguf.name}"] = lambda: others(a.llama_python, LLAMA, a.gguf, a)
    found = {name: [] for name in runs}
    for _ in range(a.rounds):
        for name, run in runs.items():
            found[name].append(run())
    print(f"{'':44} {'tokens/s':>9} {'ms/token':>9} {'of the rounds':>22} {'MB':>6}")
    for name, rounds in found.items():
        seconds = sorted(seconds for seconds, _ in rounds)
        spread = f"{seconds[0] * 1e3:.2f} to {seconds[-1] * 1e3:.2f}"
        print(f"{name:44} {1 / seconds[0]:9.1f} {seconds[0] * 1e3:9.2f} {spread:>22} {max(memory for _, memory in rounds):6.0f}")


if __name__ == "__main__":
    main()
