"""What the program measures on a calibration text is what PyTorch's autograd says it is.

    python tests/clients/evidence_agrees.py COMPRESS MODEL TEXT --ctx 128 --windows 8

Runs `COMPRESS run fwsvd` and `lorc` on MODEL, a Llama-like Hugging Face directory, and does the same with
transformers in f32: forward hooks for what enters the weights, backward hooks for the gradients by
what they give, and the gradients of the weights themselves, one window at a time. Prints for each
quantity how far off the worst of all places is; exits 1 where that is more than it may be.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

ROLES = {
    "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj", "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}
# What enters several weights is measured at one of them.
INLETS = {"attention": "query", "output": "output", "feed_forward": "gate", "down": "down"}

# In H only the rounding of sums is ours to answer for: 3e-7 where nothing comes before, at the first
# block. Further on the activations themselves come from two f32 passes that round differently. On
# stories15m theirs is 0.8e-6 from a pass in f64 and ours 1.1e-6; each block adds a little.
# On the way back such differences grow more.
TOLERANCES = {"H": 5e-6, "H attention_weighted": 1e-5, "mean_absolute": 1e-5, "mean_square": 1e-5, "G": 1e-4, "input_fisher": 1e-4}


def ours(program, a):
    """The tensors of each file of evidence, by the file's name without its ending."""
    with tempfile.TemporaryDirectory() as place:
        evidence = Path(place, "evidence")
        for method in (["fwsvd", "--keep", "0.5"], ["lorc", "--group", "0"]):
            subprocess.run(
                [program, "run", *method, a.model, "--one-shot", "-o", Path(place, "out"), "--force", "--no-evaluate", "--quiet",
                 "--calibrate", a.text, "--samples", str(a.windows), "--calibrate-ctx", str(a.ctx), "--evidence", evidence],
                check=True, capture_output=True,
            )  # fmt: skip
        files = {file.name.removesuffix(".safetensors"): load_file(file) for file in evidence.glob("*/*.safetensors")}
        return {name: {key: value.double() for key, value in tensors.items()} for name, tensors in files.items()}


def theirs(a):
    """The same by PyTorch, with whole matrices for the triangles; sums in f64."""
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="eager").eval()
    ids = tokenizer(a.text.read_text(encoding="utf-8"), add_special_tokens=False).input_ids[: a.windows * a.ctx]
    if len(ids) < a.windows * a.ctx:
        sys.exit(f"the text has {len(ids)} tokens, fewer than {a.windows} windows of {a.ctx}")
    windows = torch.tensor(ids).view(a.windows, a.ctx)

    sums = defaultdict(lambda: defaultdict(float))
    weights, entering = {}, {}
    for layer, block in enumerate(model.model.layers):
        for role, path in ROLES.items():
            linear = block.get_submodule(path)
            weights[f"{layer}.{role}.gradients"] = linear.weight
            linear.register_full_backward_hook(see_gradient(sums[f"{layer}.{role}.gradients"]))
        for inlet, role in INLETS.items():
            linear = block.get_submodule(ROLES[role])
            linear.register_forward_pre_hook(see_input(sums[f"{layer}.{inlet}.activations"], windows.numel()))
        query = block.get_submodule(ROLES["query"])
        query.register_forward_pre_hook(lambda _, inputs, layer=layer: entering.update({layer: inputs[0].detach()[0].double()}))

    for window in windows[:, None]:
        model.zero_grad()
        output = model(window, labels=window, use_cache=False, output_attentions=True)
        output.loss.backward()
        for layer, shares in enumerate(output.attentions):
            x, looks = entering[layer], shares.detach()[0].double().square().sum((0, 1))
            sums[f"{layer}.attention_weighted"]["gram"] += x.T @ (x * looks[:, None])
        for name, weight in weights.items():
            sums[name]["input_fisher"] += weight.grad.double().square().sum(0)
    return sums


def see_input(sums, tokens):
    def hook(_, inputs):
        x = inputs[0].detach()[0].double()
        sums["gram"] += x.T @ x
        sums["mean_absolute"] += x.abs().sum(0) / tokens
        sums["mean_square"] += x.square().sum(0) / tokens

    return hook


def see_gradient(sums):
    def hook(_module, _inputs, outputs):
        g = outputs[0][0].double()
        sums["gram"] += g.T @ g

    return hook


def whole(lower):
    """The symmetric matrix of a lower triangle that is stored row after row."""
    n = int((2 * len(lower)) ** 0.5)
    matrix = torch.zeros(n, n, dtype=lower.dtype)
    rows, columns = torch.tril_indices(n, n)
    matrix[rows, columns] = lower
    matrix[columns, rows] = lower
    return matrix


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", help="the program")
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--ctx", type=int, default=128, help="tokens of a window")
    p.add_argument("--windows", type=int, default=8, help="how many windows, from the start of the text")
    a = p.parse_args()
    logging.set_verbosity_error()

    mine, reference = ours(a.compress, a), theirs(a)
    if mine.keys() != reference.keys():
        sys.exit(f"only one of the two has {', '.join(sorted(mine.keys() ^ reference.keys()))}")
    off = defaultdict(dict)  # by quantity and place: how far off as a whole, and the worst element
    for file, tensors in mine.items():
        place, kind = file.rsplit(".", 1)
        for name, tensor in tensors.items():
            expected = reference[file][name]
            if name == "gram":
                tensor, name = whole(tensor), {"activations": "H", "attention_weighted": "H attention_weighted", "gradients": "G"}[kind]
            difference = tensor - expected
            worst = (difference.abs() / expected.abs()).nan_to_num(0).max()  # 0 for both is no difference
            off[name][place] = (difference.norm() / expected.norm()).item(), worst.item()

    failed = False
    for name, tolerance in TOLERANCES.items():
        place, (distance, _) = max(off[name].items(), key=lambda entry: entry[1][0])
        print(f"{name}: off by {distance:.1e} at worst, at {place}, of {len(off[name])}; may be {tolerance:.0e}", end="")
        if name in ("H", "H attention_weighted", "G"):  # elements of these may be near 0 and mean nothing by themselves
            print()
        else:
            place, (_, worst) = max(off[name].items(), key=lambda entry: entry[1][1])
            print(f"; single elements by {worst:.1e} at worst, at {place}")
        failed |= not all(distance <= tolerance for distance, _ in off[name].values())  # nor may one be NaN
    sys.exit(failed)


if __name__ == "__main__":
    main()
