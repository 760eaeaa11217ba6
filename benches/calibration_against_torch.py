"""Tokens per second of calibration and evaluation, by compress and by PyTorch, in turns.

    python benches/calibration_against_torch.py target/release/compress MODEL TEXT --ctx 256 --windows 64
    python benches/calibration_against_torch.py target/release/compress MODEL.gguf TEXT --hf DIR

Two threads each, f32; MODEL is anything that compress reads, and --hf a Llama-like Hugging Face
directory of the same model for PyTorch where MODEL is none. The best of --rounds turns counts.

activations    H of each stream, in one pass forward without logits
gradients      that, G of each weight, and squared gradients of each window by the weights
evaluation     the loss of each token
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

THREADS = 2
# The weights that stand for the streams: several that read the same need it once.
STREAMS = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]
WEIGHTS = STREAMS + ["self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"]
# One small weight, so that a run has next to nothing to do but to calibrate.
ONLY = r"layers\.0\.self_attn\.k_proj"


class Ours:
    def __init__(self, a, place):
        self.a, self.place = a, place

    def call(self, *arguments):
        """Seconds, and what is printed."""
        environment = os.environ | {"RAYON_NUM_THREADS": str(THREADS)}
        begin = time.perf_counter()
        done = subprocess.run([self.a.compress, *arguments], check=True, stdout=subprocess.PIPE, env=environment)
        return time.perf_counter() - begin, done.stdout

    def calibrate(self, *method):
        """Seconds of a run with no evidence yet, and of the same run again with all of it there."""
        with tempfile.TemporaryDirectory(dir=self.place) as place:
            command = [
                "run", *method, self.a.model, "--one-shot", "-o", Path(place, "cut"), "--force", "--keep", "0.99", "--only", ONLY,
                "--calibrate", self.a.text, "--samples", str(self.a.windows), "--calibrate-ctx", str(self.a.ctx),
                "--evidence", Path(place, "evidence"), "--no-evaluate", "--device", "cpu", "--json", "--quiet",
            ]  # fmt: skip
            return self.call(*command)[0], self.call(*command)[0]

    def evaluate(self):
        """Seconds, by its own clock: without loading."""
        options = ["--ctx", str(self.a.ctx), "--windows", str(self.a.windows), "--device", "cpu", "--json", "--quiet"]
        return json.loads(self.call("evaluate", self.a.model, "--text", self.a.text, *options)[1])["seconds"]


class Torch:
    def __init__(self, a):
        folder = a.hf or a.model
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(a.text.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
        self.windows = torch.tensor(ids[: a.windows * a.ctx]).view(a.windows, a.ctx)

    def linears(self, paths):
        return [block.get_submodule(path) for block in self.model.model.layers for path in paths]

    def see_inputs(self):
        """Hooks that sum H."""
        sums = defaultdict(float)

        def hook(linear, inputs):
            x = inputs[0].detach().flatten(0, -2)
            sums[linear] += (x.T @ x).double()

        return [linear.register_forward_pre_hook(hook) for linear in self.linears(STREAMS)]

    @torch.inference_mode()
    def activations(self, batch):
        hooks = self.see_inputs()
        begin = time.perf_counter()
        for windows in self.windows.split(batch):
            self.model.model(windows, use_cache=False)
        seconds = time.perf_counter() - begin
        for hook in hooks:
            hook.remove()
        return seconds

    def gradients(self):
        """One window at a time: only so has each its own gradient by the weights."""
        grams, fisher = defaultdict(float), defaultdict(float)

        def see_output(linear, _, output):
            def add(gradient):
                g = gradient.flatten(0, -2)
                grams[linear] += (g.T @ g).double()

            output.register_hook(add)

        linears = self.linears(WEIGHTS)
        hooks = self.see_inputs() + [linear.register_forward_hook(see_output) for linear in linears]
        for linear in linears:
            linear.weight.requires_grad_(True)
        begin = time.perf_counter()
        for window in self.windows[:, None]:
            self.model(window, labels=window, use_cache=False).loss.backward()
            for linear in linears:
                fisher[linear] += linear.weight.grad.square().sum(0).double()
                linear.weight.grad = None
        seconds = time.perf_counter() - begin
        for hook in hooks:
            hook.remove()
        self.model.requires_grad_(False)
        return seconds

    @torch.inference_mode()
    def evaluate(self, batch):
        total = 0.0
        begin = time.perf_counter()
        for windows in self.windows.split(batch):
            logits = self.model(windows, use_cache=False).logits[:, :-1]
            total += F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum").item()
        return time.perf_counter() - begin


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", help="the program")
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--hf", type=Path, metavar="DIR", help="the same model for PyTorch")
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window")
    p.add_argument("--windows", type=int, default=64, help="how many windows, from the start of the text")
    p.add_argument("--batch", type=int, default=8, help="windows that PyTorch also tries at a time, next to 1")
    p.add_argument("--rounds", type=int, default=2)
    a = p.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(THREADS)

    torchs = Torch(a)
    with torch.inference_mode():  # the first call is slower
        torchs.model(torchs.windows[:1], use_cache=False)
    seconds = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        ours = Ours(a, place)
        for _ in range(a.rounds):
            for name, method in [("activations", ["svd", "--metric", "activation"]), ("gradients", ["fwsvd"])]:
                fresh, again = ours.calibrate(*method)
                seconds["fresh", name].append(fresh)
                seconds["again", name].append(again)
                if name == "gradients":
                    seconds["torch", name, 1].append(torchs.gradients())
                else:
                    for batch in (1, a.batch):
                        seconds["torch", name, batch].append(torchs.activations(batch))
            seconds["ours", "evaluation"].append(ours.evaluate())
            for batch in (1, a.batch):
                seconds["torch", "evaluation", batch].append(torchs.evaluate(batch))
    best = {key: min(values) for key, values in seconds.items()}
    for name in ("activations", "gradients"):
        best["ours", name] = best["fresh", name] - best["again", name]

    print(f"{'tokens per second':18} {'compress':>9} {'PyTorch':>9} {'windows at a time':>18} {'times faster':>13}")
    for name, scored in [("activations", a.ctx), ("gradients", a.ctx), ("evaluation", a.ctx - 1)]:
        tokens = a.windows * scored
        theirs, batch = min((best[key], key[2]) for key in best if key[:2] == ("torch", name))
        mine, theirs = tokens / best["ours", name], tokens / theirs
        print(f"{name:18} {mine:9.0f} {theirs:9.0f} {batch:18} {mine / theirs:13.2f}")


if __name__ == "__main__":
    main()
