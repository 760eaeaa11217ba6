"""On a machine with a GPU: perplexity on it beside the CPU's, and speeds beside PyTorch in bf16 on the same GPU.

    python benches/beside.py gpu target/release/compress MODEL TEXT [--record FILE.csv]

MODEL is a Hugging Face directory, or with --made-up HIDDEN,INNER,LAYERS[,KEY_VALUE] the one whose vocabulary a random model
in these shapes gets. Reading a prompt and decoding go by `evaluate`, once the kernels are compiled; calibration is H of a
whole pass. Where PyTorch has no GPU it runs on the CPU, which only shows that this program works.
"""

import csv
import tempfile
import time
from pathlib import Path

import torch

from .models import made_up, text_arguments
from .turns import in_turns, process

TOKENS = 64  # as many as `evaluate` times


def arguments(p):
    text_arguments(p)
    p.add_argument("--made-up", metavar="SIZES", help="such as 4096,11008,4: a random model in these shapes")
    p.add_argument("--record", type=Path, metavar="FILE.csv", help="append the figures to this file")


def evaluated(a, model, device):
    options = ["--ctx", a.ctx, "--windows", a.windows, "--device", device, "--json", "--quiet"]
    return process([a.program, "evaluate", model, "--text", a.text, *options], a.threads).json()


def calibrated(a, model, place):
    """Tokens per second of measuring H on the GPU."""
    options = ["--metric", "activation", "--one-shot", "--calibrate", a.text, "--calibrate-ctx", a.ctx, "--samples", a.windows]
    options += ["--device", "wgpu", "--no-evaluate", "--json", "--quiet", "--force", "--evidence", place / "evidence", "-o", place / "out"]
    told = process([a.program, "run", "svd", model, *options], a.threads).json()
    return a.ctx * a.windows / told["calibrate_seconds"]


@torch.inference_mode()
def by_torch(a, model):
    """Tokens per second of prompts and of single tokens in bf16."""
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval().to(device)
    ids = (torch.arange(a.ctx)[None] * 37 % network.config.vocab_size).to(device)

    def timed(call):
        wait()
        begin = time.perf_counter()
        out = call()
        wait()
        return time.perf_counter() - begin, out

    network(ids, use_cache=True)  # the first call is slower
    read, out = timed(lambda: network(ids, use_cache=True))
    seconds = []
    for _ in range(TOKENS):
        token = out.logits[:, -1:].argmax(-1)
        took, out = timed(lambda: network(token, past_key_values=out.past_key_values, use_cache=True))
        seconds.append(took)
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    return a.ctx / read, 1 / sorted(seconds)[len(seconds) // 2], name


def run(a):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        model = a.model
        if a.made_up:
            model = made_up(a.model, [int(size) for size in a.made_up.split(",")], place / "model")
        packed = place / "int4"
        rounding = ["--quantizer", "nearest", "--metric", "plain", "--no-evaluate", "--quiet"]
        process([a.program, "run", "lorc", model, *rounding, "-o", packed], a.threads)
        # Perplexities first: they compile what the rest runs.
        found = {name: [evaluated(a, folder, device) for device in ("cpu", "wgpu")] for name, folder in (("whole", model), ("int4", packed))}
        turns = in_turns(a.rounds, {"whole": lambda: evaluated(a, model, "wgpu"), "int4": lambda: evaluated(a, packed, "wgpu"), "torch": lambda: by_torch(a, model)})
        rows = []
        for name, (cpu, gpu) in found.items():
            rows.append((name, "perplexity, GPU less CPU, relative", gpu["perplexity"] / cpu["perplexity"] - 1, ""))
            rows.append((name, "bytes on the GPU", gpu["device_bytes"], ""))
        read, token, device = max(turns["torch"])
        for name in ("whole", "int4"):
            scored = max(turn["tokens_per_second"] for turn in turns[name])
            decoded = max(1e3 / turn["latency"]["token_ms"] for turn in turns[name])
            rows.append((name, "tokens per second, windows", scored, scored / read))
            rows.append((name, "tokens per second, one by one", decoded, decoded / token))
        rows.append(("whole", "tokens per second, H", calibrated(a, model, place), ""))
        rows.append(("PyTorch bf16", "tokens per second, windows", read, 1))
        rows.append(("PyTorch bf16", "tokens per second, one by one", token, 1))
    name = found["whole"][1]["text"]["device"]
    print(f"{a.made_up or a.model.name}, {a.windows} windows of {a.ctx} tokens; compress on {name}, PyTorch on {device}")
    for form, quantity, value, ratio in rows:
        print(f"{form:14} {quantity:36} {value:14.6g} {ratio and f'{ratio:8.2f}'}")
    if a.record:
        with a.record.open("a", newline="") as file:
            csv.writer(file).writerows([time.strftime("%Y-%m-%d"), name, a.made_up or a.model.name, a.ctx, *row] for row in rows)
