"""Reading a prompt and decoding one token after another, by compress, PyTorch and llama.cpp: speed and memory.

    python benches/beside.py decode target/release/compress TEXT --ours int4=OUT --ours f32=DIR --torch DIR --gguf MODEL.gguf

Greedy, 64 tokens after a prompt of --prompt. Each turn is a process of its own: its largest resident set is the memory
told, mapped files included. `--torch` and `--gguf` may be left out; the latter takes xllamacpp of the interpreter
given by --llama-python. Tokens per second of the prompt, and of those after it by the median of their times (llama.cpp
tells their mean); times_faster is against the first of `--ours`.
"""

import json
import sys
from pathlib import Path

from .turns import in_turns, process

TOKENS = 64  # as many as `evaluate` times

TORCH = """
import sys, time, torch
from transformers import AutoModelForCausalLM
folder, prompt, tokens, threads = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.arange(prompt)[None] * 37 % model.config.vocab_size
with torch.inference_mode():
    model(ids, use_cache=True)  # the first call is slower
    begin = time.perf_counter()
    out = model(ids, use_cache=True)
    read = time.perf_counter() - begin
    cache, seconds = out.past_key_values, []
    for _ in range(tokens):
        begin = time.perf_counter()
        out = model(out.logits[:, -1:].argmax(-1), past_key_values=cache, use_cache=True)
        seconds.append(time.perf_counter() - begin)
print([read, sorted(seconds)[len(seconds) // 2]])
"""

# The server's own clock, in this process: no HTTP is between.
LLAMA = """
import sys
import xllamacpp
file, prompt, tokens, threads = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = file, prompt + tokens + 64, 1, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
asked = {"prompt": [1 + i * 37 % 1000 for i in range(prompt)], "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
server.handle_completions(asked)  # the first call is slower
timings = server.handle_completions(asked)["timings"]
print([timings["prompt_ms"] / 1e3, timings["predicted_per_token_ms"] / 1e3])
"""


def arguments(p):
    p.add_argument("text", type=Path, help="for the program, which wants one to score")
    p.add_argument("--ours", action="append", default=[], metavar="NAME=DIR", help="a model for the program; may be repeated")
    p.add_argument("--torch", type=Path, metavar="DIR", help="a model for PyTorch, in f32")
    p.add_argument("--gguf", type=Path, metavar="FILE", help="a model for llama.cpp")
    p.add_argument("--llama-python", default=sys.executable, metavar="PYTHON")
    p.add_argument("--prompt", type=int, default=128)


def ours(a, folder):
    """Seconds of the prompt and of one more token, and memory, as `evaluate` measures them."""
    options = ["--ctx", a.prompt, "--windows", 1, "--device", "cpu", "--json", "--quiet"]
    turn = process([a.program, "evaluate", folder, "--text", a.text, *options], a.threads)
    latency = turn.json()["latency"]
    return latency["prompt_ms"] / 1e3, latency["token_ms"] / 1e3, latency["prompt"], turn.megabytes


def others(python, script, model, a):
    turn = process([python, "-c", script, model, a.prompt, TOKENS, a.threads], a.threads)
    # Libraries print to the same place: what was asked for comes last.
    read, token = json.loads(turn.printed.strip().splitlines()[-1])
    return read, token, a.prompt, turn.megabytes


def run(a):
    runs = {}
    for name, folder in (entry.split("=", 1) for entry in a.ours):
        runs[f"compress, {name}"] = lambda folder=folder: ours(a, folder)
    if a.torch:
        runs["PyTorch, f32"] = lambda: others(sys.executable, TORCH, a.torch, a)
    if a.gguf:
        runs[f"llama.cpp, {a.gguf.name}"] = lambda: others(a.llama_python, LLAMA, a.gguf, a)
    found = in_turns(a.rounds, runs)
    print(f"{'tokens per second':44} {'prompt':>8} {'decoding':>9} {'ms per token, best and worst':>30} {'MB':>6} {'times faster':>13}")
    first = None
    for name, turns in found.items():
        reads, tokens, prompts, memory = zip(*turns)
        best = min(tokens)
        first = first or best
        spread = f"{best * 1e3:.2f} to {max(tokens) * 1e3:.2f}"
        read = prompts[0] / min(reads)
        print(f"{name:44} {read:8.0f} {1 / best:9.1f} {spread:>30} {max(memory):6.0f} {best / first:13.2f}")
