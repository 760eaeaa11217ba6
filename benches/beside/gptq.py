"""GPTQ of all block weights by `compress run lorc` and by PyTorch, from the same evidence.

    python benches/beside.py gptq target/release/compress MODEL TEXT --hf DIR --ctx 1024 --windows 32
    python benches/beside.py gptq target/release/compress models/tiny TEXT --made-up 4096,11008,2 --ctx 256 --windows 8 --group 128

MODEL is anything that compress reads, DIR a Llama-like Hugging Face directory of the
same weights for PyTorch (`compress run svd MODEL --keep 1 --dtype f32 -o DIR`). A first run measures H;
the timed ones find it. Ours takes the whole process, with reading and writing the model; PyTorch's
the rounding alone, in f32, all weights that read one stream together: the algorithm of arXiv 2210.17323
in blocks of 128 columns, scales fixed when a group begins. With `--made-up HIDDEN,INNER,LAYERS` both take random weights in these shapes, with the
vocabulary of MODEL, a small Hugging Face directory; `--refinements` and `--scaling` are for ours alone. Prints the seconds of both and the error
Σ tr(R H Rᵀ) / Σ tr(W H Wᵀ), R = W − Q, of what each has written or found.
"""

import json
import tempfile
import time
from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file

from .models import Tensors, made_up
from .turns import in_turns, process

STREAMS = {
    "attention": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "output": ["self_attn.o_proj"],
    "feed_forward": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
}
BLOCK = 128
DAMPING = 0.01


def gram(evidence, layer, stream):
    lower = load_file(next(evidence.glob(f"*/{layer}.{stream}.activations.safetensors")))["gram"].double()
    n = int((2 * len(lower)) ** 0.5)
    h = torch.zeros(n, n, dtype=torch.float64)
    h[tuple(torch.tril_indices(n, n))] = lower
    return h + h.tril(-1).T


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


def arguments(p):
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
    p.add_argument("--evidence", type=Path, help="where H is kept for further runs")


def ours(a, evidence, output):
    """Seconds of the whole process, and of rounding alone."""
    command = [
        a.program, "run", "lorc", a.model, "--one-shot", "--bits", a.bits, "--group", a.group, "--quantizer", "gptq",
        "--scaling", a.scaling, "--refinements", a.refinements, "--tokens", "uniform", "--calibrate", a.text, "--samples", a.windows,
        "--calibrate-ctx", a.ctx, "--evidence", evidence, "-o", output, "--force", "--no-evaluate", "--json", "--quiet",
    ]  # fmt: skip
    turn = process(command, a.threads)
    return turn.seconds, turn.json()["compress_seconds"]


@torch.inference_mode()
def run(a):
    if BLOCK % a.group:
        raise SystemExit(f"--group must divide the block of {BLOCK} columns")
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as place:
        evidence, output = a.evidence or Path(place, "evidence"), Path(place, "out")
        if a.made_up:
            a.model = a.hf = made_up(a.model, map(int, a.made_up.split(",")), Path(place, "made-up"))
        # The first run measures H, those that are timed find it.
        ours(a, evidence, output)
        layers = json.loads((a.hf / "config.json").read_text())["num_hidden_layers"]
        tensors = Tensors(a.hf)
        grams = {(layer, stream): gram(evidence, layer, stream) for layer in range(layers) for stream in STREAMS}
        runs = {"compress": lambda: ours(a, evidence, output), "torch": lambda: theirs(tensors, grams, layers, a.bits, a.group)}
        found = in_turns(a.rounds, runs)
        mine, alone = (min(seconds) for seconds in zip(*found["compress"]))
        torchs, rounded = min(found["torch"], key=lambda turn: turn[0])
        print(json.dumps({
            "weights": len(rounded),
            "compress": {
                "seconds": round(mine, 2),
                "of which rounding": round(alone, 2),
                "error": error(tensors, grams, layers, dict(unpacked(output, rounded, a.bits, a.group))),
            },
            "torch": {"seconds": round(torchs, 2), "error": error(tensors, grams, layers, rounded)},
            "times_faster": round(torchs / mine, 2),
        }))  # fmt: skip
