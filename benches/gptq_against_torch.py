"""GPTQ of all block weights by `compress run lorc` and by PyTorch, in turns, from the same evidence.

    python benches/gptq_against_torch.py target/release/compress MODEL TEXT --hf DIR --ctx 1024 --windows 32
    python benches/gptq_against_torch.py target/release/compress models/tiny TEXT --made-up 4096,11008,2 --ctx 256 --windows 8 --group 128

Two threads each. MODEL is anything that compress reads, DIR a Llama-like Hugging Face directory of the
same weights for PyTorch (`compress run svd MODEL --keep 1 --dtype f32 -o DIR`). A first run measures H;
the timed ones find it. Ours takes the whole process, with reading and writing the model; PyTorch's
the rounding alone, in f32, all weights that read one stream together: the algorithm of arXiv 2210.17323
in blocks of 128 columns, scales fixed when a group begins. With `--made-up HIDDEN,INNER,LAYERS` both take random weights in these shapes, with the
vocabulary of MODEL, a small Hugging Face directory; `--refinements` and `--scaling` are for ours alone. Prints the seconds of both and the error
Σ tr(R H Rᵀ) / Σ tr(W H Wᵀ), R = W − Q, of what each has written or found.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors import safe_open
from safetensors.torch import load_file, save_file

THREADS = 2
STREAMS = {
    "attention": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "output": ["self_attn.o_proj"],
    "feed_forward": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
}
BLOCK = 128
DAMPING = 0.01


class Tensors:
    """All tensors of a directory, one at a time."""

    def __init__(self, folder):
        files = [safe_open(file, "pt") for file in sorted(Path(folder).glob("*.safetensors"))]
        self.files = {name: file for file in files for name in file.keys()}

    def __getitem__(self, name):
        return self.files[name].get_tensor(name)


def gram(evidence, layer, stream):
    lower = load_file(next(evidence.glob(f"*/{layer}.{stream}.activations.safetensors")))["gram"].double()
    n = int((2 * len(lower)) ** 0.5)
    h = torch.zeros(n, n, dtype=torch.float64)
    h[tuple(torch.tril_indices(n, n))] = lower
    return h + h.tril(-1).T


def made_up(model, sizes, folder):
    """Random weights in the shapes of some blocks of a large model, with the vocabulary of a small one."""
    hidden, inner, layers = sizes
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json", "*.md", "*.toml"))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "head_dim": 128}
    config |= {"torch_dtype": "float32", "num_attention_heads": hidden // 128, "num_key_value_heads": hidden // 128}
    path.write_text(json.dumps(config))
    torch.manual_seed(1)
    shapes = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    tensors = {"model.embed_tokens.weight": torch.randn(config["vocab_size"], hidden), "model.norm.weight": torch.ones(hidden)}
    if not config.get("tie_word_embeddings"):
        tensors["lm_head.weight"] = torch.randn(config["vocab_size"], hidden) * hidden**-0.5
    for layer in range(layers):
        name = f"model.layers.{layer}"
        tensors |= {f"{name}.{norm}.weight": torch.ones(hidden) for norm in ("input_layernorm", "post_attention_layernorm")}
        for path, shape in shapes.items():
            tensors[f"{name}.{path}.weight"] = torch.randn(shape) * shape[1] ** -0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def scales(group, bits):
    return (group.abs().amax(1, keepdim=True) / ((2**bits - 1) / 2)).half().float().clamp(min=2**-24)


def gptq(weight, h, bits, size):
    """W rounded, m × n."""
    weight, h = weight.clone(), h.float()
    diagonal = h.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += DAMPING * diagonal.mean()
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    rounded = torch.zeros_like(weight)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for start in range(0, weight.shape[1], BLOCK):
        end = min(start + BLOCK, weight.shape[1])
        errors = torch.zeros(weight.shape[0], end - start)
        for j in range(start, end):
            if j % size == 0:
                scale = scales(weight[:, j : j + size], bits)[:, 0]
            w = weight[:, j]
            q = rounded[:, j] = (w / scale).round().clamp(low, high) * scale
            errors[:, j - start] = error = (w - q) / u[j, j]
            weight[:, j + 1 : end].addr_(error, u[j, j + 1 : end], alpha=-1)
        weight[:, end:].addmm_(errors, u[start:end, end:], alpha=-1)
    return rounded


def theirs(tensors, grams, layers, bits, size):
    seconds, rounded = 0.0, {}
    for layer in range(layers):
        for stream, paths in STREAMS.items():
            names = [f"model.layers.{layer}.{path}" for path in paths]
            weights = [tensors[f"{name}.weight"].float() for name in names]
            begin = time.perf_counter()
            whole = gptq(torch.cat(weights), grams[layer, stream], bits, size)
            seconds += time.perf_counter() - begin
            rounded |= zip(names, whole.split([len(weight) for weight in weights]))
    return seconds, rounded


def unpacked(folder, names, bits, size):
    tensors = Tensors(folder)
    for name in names:
        shape = torch.Size(tensors[f"{name}.weight_shape"].tolist())
        codes = unpack_from_int32(tensors[f"{name}.weight_packed"], bits, shape)
        yield name, codes.float() * tensors[f"{name}.weight_scale"].float().repeat_interleave(size, 1)


def error(tensors, grams, layers, rounded):
    lost = whole = 0.0
    for layer in range(layers):
        for stream, paths in STREAMS.items():
            h = grams[layer, stream]
            for path in paths:
                name = f"model.layers.{layer}.{path}"
                w = tensors[f"{name}.weight"].double()
                r = w - rounded[name].double()
                lost += ((r @ h) * r).sum().item()
                whole += ((w @ h) * w).sum().item()
    return lost / whole


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", help="the program")
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    models = p.add_mutually_exclusive_group(required=True)
    models.add_argument("--hf", type=Path, metavar="DIR", help="the same model for PyTorch")
    models.add_argument("--made-up", metavar="HIDDEN,INNER,LAYERS", help="random weights in these shapes")
    p.add_argument("--refinements", default="0", help="of ours")
    p.add_argument("--scaling", default="absmax", help="of ours")
    p.add_argument("--ctx", type=int, default=1024, help="tokens of a window")
    p.add_argument("--windows", type=int, default=32, help="how many windows, from the start of the text")
    p.add_argument("--bits", type=int, default=4)
    p.add_argument("--group", type=int, default=32)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--evidence", type=Path, help="where H is kept for further runs")
    a = p.parse_args()
    if BLOCK % a.group:
        p.error(f"--group must divide the block of {BLOCK} columns")
    torch.set_num_threads(THREADS)

    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        evidence, output = a.evidence or Path(place, "evidence"), Path(place, "out")
        if a.made_up:
            made, a.hf = a.model, Path(place, "made-up")
            made_up(made, map(int, a.made_up.split(",")), a.hf)
            a.model = a.hf
        command = [
            a.compress, "run", "lorc", a.model, "--one-shot", "--bits", str(a.bits), "--group", str(a.group), "--quantizer", "gptq",
            "--scaling", a.scaling, "--refinements", a.refinements, "--tokens", "uniform", "--calibrate", a.text, "--samples", str(a.windows), "--calibrate-ctx",
            str(a.ctx), "--evidence", evidence, "-o", output, "--force", "--no-evaluate", "--json", "--quiet",
        ]  # fmt: skip

        def ours():
            begin = time.perf_counter()
            environment = os.environ | {"RAYON_NUM_THREADS": str(THREADS)}
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
            return time.perf_counter() - begin, json.loads(printed)["compress_seconds"]

        ours()
        layers = json.loads((a.hf / "config.json").read_text())["num_hidden_layers"]
        tensors = Tensors(a.hf)
        grams = {(layer, stream): gram(evidence, layer, stream) for layer in range(layers) for stream in STREAMS}
        mine, rounding, torchs = [], [], []
        for _ in range(a.rounds):
            whole, alone = ours()
            mine.append(whole)
            rounding.append(alone)
            seconds, rounded = theirs(tensors, grams, layers, a.bits, a.group)
            torchs.append(seconds)
        print(json.dumps({
            "weights": len(rounded),
            "compress": {
                "seconds": round(min(mine), 2),
                "of which rounding": round(min(rounding), 2),
                "error": error(tensors, grams, layers, dict(unpacked(output, rounded, a.bits, a.group))),
            },
            "torch": {"seconds": round(min(torchs), 2), "error": error(tensors, grams, layers, rounded)},
            "times_faster": round(min(torchs) / min(mine), 2),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
