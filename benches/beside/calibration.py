"""Tokens per second of calibration, by compress and by hooks of PyTorch.

    python benches/beside.py calibration target/release/compress MODEL TEXT --ctx 256 --windows 64
    python benches/beside.py calibration target/release/compress MODEL.gguf TEXT --hf DIR

MODEL is anything that compress reads, and --hf a Llama-like Hugging Face directory of the same model for PyTorch where
MODEL is none; f32. Ours is the time of a run that measures, less that of the same run which finds all of it measured.

activations    H of each stream, in one pass forward without logits
gradients      that, G of each weight, and squared gradients of each window by the weights
"""

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from .models import print_speeds, text_arguments, torch_model
from .turns import in_turns, process

# The weights that stand for the streams: several that read the same need it once.
STREAMS = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]
WEIGHTS = STREAMS + ["self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"]
# One small weight, so that a run has next to nothing to do but to calibrate.
ONLY = r"layers\.0\.self_attn\.k_proj"
METHODS = {"activations": ["svd", "--metric", "activation"], "gradients": ["fwsvd"]}

arguments = text_arguments


def ours(a, method):
    """Seconds of a run with no evidence yet, and of the same run again with all of it there."""
    with tempfile.TemporaryDirectory() as place:
        command = [
            a.program, "run", *method, a.model, "--one-shot", "-o", Path(place, "cut"), "--force", "--keep", "0.99", "--only", ONLY,
            "--calibrate", a.text, "--samples", a.windows, "--calibrate-ctx", a.ctx, "--evidence", Path(place, "evidence"),
            "--no-evaluate", "--device", "cpu", "--json", "--quiet",
        ]  # fmt: skip
        return process(command, a.threads).seconds, process(command, a.threads).seconds


class Torch:
    def __init__(self, a):
        self.model, self.windows = torch_model(a)

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


def run(a):
    theirs = Torch(a)
    batches = sorted({1, a.batch})
    runs = {("ours", name): lambda method=method: ours(a, method) for name, method in METHODS.items()}
    runs |= {("activations", batch): lambda batch=batch: theirs.activations(batch) for batch in batches}
    runs["gradients", 1] = theirs.gradients
    found = in_turns(a.rounds, runs)
    rows = []
    for name in METHODS:
        fresh, again = (min(seconds) for seconds in zip(*found["ours", name]))
        torchs = {key[1]: min(seconds) for key, seconds in found.items() if key[0] == name}
        rows.append((name, a.ctx, fresh - again, torchs))
    print_speeds(a, rows)
