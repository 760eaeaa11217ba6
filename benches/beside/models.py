"""Models that several comparisons run: as compress sees them, as PyTorch does, and made-up ones."""

import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .turns import process


class Tensors:
    """All tensors of a directory, one at a time."""

    def __init__(self, folder):
        files = [safe_open(file, "pt") for file in sorted(Path(folder).glob("*.safetensors"))]
        self.files = {name: file for file in files for name in file.keys()}

    def __iter__(self):
        return iter(self.files)

    def __getitem__(self, name):
        return self.files[name].get_tensor(name)


def whole(program, model, folder, threads):
    """Writes a model as f32 safetensors, so that all programs work on the same numbers; the folder."""
    options = ["--keep", "1", "--dtype", "f32", "-o", folder, "--no-evaluate", "--quiet"]
    process([program, "run", "svd", model, *options], threads)
    return folder


def made_up(model, sizes, folder):
    """Random weights in the shapes of some blocks of a large model, with the vocabulary of a small one.

    Sizes: hidden, inner, layers, and outputs of key and value (as many as hidden where left out).
    """
    hidden, inner, layers, *grouped = sizes
    key_value = grouped[0] if grouped else hidden
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json", "*.md", "*.toml"))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "head_dim": 128}
    config |= {"torch_dtype": "float32", "num_attention_heads": hidden // 128, "num_key_value_heads": key_value // 128}
    path.write_text(json.dumps(config))
    torch.manual_seed(1)
    shapes = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qo"}
    shapes |= {f"self_attn.{name}_proj": (key_value, hidden) for name in "kv"}
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
    return folder


def text_arguments(p):
    """The arguments of comparisons that run a model over a text."""
    p.add_argument("model", type=Path, help="anything that compress reads")
    p.add_argument("text", type=Path)
    p.add_argument("--hf", type=Path, metavar="DIR", help="the same model for PyTorch, where MODEL is no Hugging Face directory")
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window")
    p.add_argument("--windows", type=int, default=64, help="how many windows, from the start of the text")
    p.add_argument("--batch", type=int, default=8, help="windows that PyTorch also tries at a time, next to 1")


def torch_model(a):
    """The model in f32, and its windows of the text, windows × ctx; warmed up."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(a.threads)
    folder = a.hf or a.model
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    ids = AutoTokenizer.from_pretrained(folder)(a.text.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
    windows = torch.tensor(ids[: a.windows * a.ctx]).view(a.windows, a.ctx)
    with torch.inference_mode():  # the first call is slower
        model(windows[:1], use_cache=False)
    return model, windows


def print_speeds(a, rows):
    """A line for each of some quantities: name, tokens of a window that count, our seconds, PyTorch's by batch."""
    print(f"{'tokens per second':18} {'compress':>9} {'PyTorch':>9} {'windows at a time':>18} {'times faster':>13}")
    for name, scored, ours, theirs in rows:
        tokens = a.windows * scored
        seconds, batch = min((seconds, batch) for batch, seconds in theirs.items())
        print(f"{name:18} {tokens / ours:9.0f} {tokens / seconds:9.0f} {batch:18} {seconds / ours:13.2f}")
