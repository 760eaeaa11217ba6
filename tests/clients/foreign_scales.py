"""Models that other programs have rounded have the perplexity here that they have when PyTorch multiplies them out.

    python tests/clients/foreign_scales.py COMPRESS MODEL_DIR TEXT --ctx 256 --windows 8

The weights of the blocks are rounded by compressed-tensors' own functions: packed integers with scales in f16, bf16 and
f32, per group and per row, with zero points and without, in one group and in several (which of them a layer belongs to is
asked of compressed-tensors); integers and FP8 of one byte with scales per tensor, row and block. The layouts of the methods
`fp8` and `fbgemm_fp8` are made here, as DeepSeek, Mistral and Meta publish them. Of three of the models an output is made
that keeps most weights, and loaded by transformers. The exit status is 1 where a perplexity is off by more than the relative
tolerance.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from compressed_tensors.utils.match import is_match, match_targets
from perplexity import perplexity
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig
from transformers.utils import logging

BLOCK = 128
PACKED, BYTES = "pack-quantized", ("int-quantized", "float-quantized", "naive-quantized")
TOKEN = dict(num_bits=8, strategy="token", dynamic=True)


def blocks_of(weight, args):
    """The extents that share a scale: rows x groups, or what a strategy makes of them."""
    if args.strategy == "group":
        return 1, args.group_size
    if args.strategy == "block":
        return tuple(args.block_structure)
    return (1 if args.strategy == "channel" else weight.shape[0]), weight.shape[1]


def spread(scales, block, shape):
    """The scale of every number."""
    rows, cols = block
    scales = scales.reshape(-(-shape[0] // rows), -(-shape[1] // cols))
    return scales.repeat_interleave(rows, 0)[: shape[0]].repeat_interleave(cols, 1)[:, : shape[1]]


def ranges(weight, block):
    """The smallest and the largest number of every block, also of those that the edge cuts off."""
    bands = [band.split(block[1], 1) for band in weight.split(block[0], 0)]
    least = [[part.amin() for part in band] for band in bands]
    most = [[part.amax() for part in band] for band in bands]
    return torch.tensor(least), torch.tensor(most)


def rounded(weight, scheme, dtype):
    """The tensors of a weight in compressed-tensors, and the weight that they stand for, in f32."""
    args = scheme.weights
    block = blocks_of(weight, args)
    scale, zero = calculate_qparams(*ranges(weight, block), args)
    scale = scale.to(dtype)
    if args.strategy == "tensor":
        scale, zero = scale.flatten(), zero.flatten()
    parts = {"weight": weight, "weight_scale": scale}
    if not args.symmetric:
        parts["weight_zero_point"] = zero
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    packed = compressor.compress(parts, scheme)
    if scheme.format == PACKED:
        exact = dict(packed) | {"weight_scale": scale.float()}
        return packed, compressor.decompress(exact, scheme)["weight"].float()
    code = packed["weight"].float()
    if not args.symmetric:
        code = code - spread(zero.float(), block, weight.shape)
    return packed, code * spread(scale.float(), block, weight.shape)


def compressed_tensors(groups, ignore=("lm_head",), dtype=torch.float32):
    """The settings of compressed-tensors for groups, and what makes the tensors of a layer."""
    schemes = {target: scheme for scheme in groups for target in scheme.targets}

    def make(name, module):
        if is_match(name, module, list(ignore)) or not is_match(name, module, list(schemes)):
            return None
        scheme = schemes[match_targets(name, module, schemes)[0]]
        return rounded(module.weight.data, scheme, dtype)

    formats = {scheme.format for scheme in groups}
    config = {
        "quant_method": "compressed-tensors", "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed", "ignore": list(ignore), "kv_cache_scheme": None,
        "global_compression_ratio": None, "sparsity_config": {}, "transform_config": {}, "version": "0.20.0",
        "config_groups": {f"group_{i}": scheme.model_dump(mode="json") for i, scheme in enumerate(groups)},
    }
    return config, make


def one(bits, strategy, format=PACKED, targets=("Linear",), inputs=None, **settings):
    """A group."""
    args = QuantizationArgs(num_bits=bits, strategy=strategy, **settings)
    return QuantizationScheme(targets=list(targets), weights=args, format=format, input_activations=inputs)


def fp8(config, block_of, name, inputs=()):
    """The settings of a method of FP8, and what makes the tensors of a layer."""

    def make(_, module):
        weight = module.weight.data
        block = block_of(weight)
        least, most = ranges(weight, block)
        scale = torch.maximum(least.abs(), most.abs()) / 448
        code = (weight / spread(scale, block, weight.shape)).to(torch.float8_e4m3fn)
        exact = code.float() * spread(scale, block, weight.shape)
        scale = scale.flatten()[0] if scale.numel() == 1 else scale
        return {"weight": code, name: scale} | {it: torch.tensor([0.5]) for it in inputs}, exact

    return config, make


# Floats that are left are rounded in another way than what is packed, which stays; what was in bytes is cut.
AGAIN = ["lorc", "--quantizer", "nearest", "--metric", "plain", "--rank", "0", "--bits", "8", "--group", "32", "--only", "3"]
CUT = ["svd", "--keep", "0.9", "--only", "3", "--dense", "--dtype", "f32"]


def models():
    """What there is to read: a name, settings, what makes a layer, and the command that makes an output of it, if any."""
    for dtype in torch.float16, torch.bfloat16, torch.float32:
        for symmetric in True, False:
            scheme = one(4, "group", group_size=32, symmetric=symmetric, actorder="static")
            name = f"4 bits in groups of 32, {'symmetric' if symmetric else 'with zero points'}, scales in {dtype}"
            yield name, *compressed_tensors([scheme], dtype=dtype), None
    for bits, strategy, symmetric, dtype in (
        (4, "channel", True, torch.bfloat16), (8, "channel", True, torch.bfloat16),
        (8, "channel", False, torch.float32), (8, "group", False, torch.bfloat16),
    ):
        scheme = one(bits, strategy, symmetric=symmetric, group_size=32 if strategy == "group" else None)
        name = f"{bits} bits per {strategy}, {'symmetric' if symmetric else 'with zero points'}, scales in {dtype}"
        yield name, *compressed_tensors([scheme], dtype=dtype), None
    several = [
        one(4, "group", group_size=32),
        one(8, "channel", targets=["re:.*down_proj$", "model.layers.2.self_attn.v_proj"]),
        one(4, "group", targets=["re:.*layers.1..*proj", "re:.*self_attn.o_proj"], group_size=96),
        one(8, "channel", targets=["re:.*layers.0.mlp.up_proj"], format="int-quantized"),
    ]
    ignore = ["lm_head", "re:.*layers\\.3\\.self_attn", "model.layers.4.mlp.up_proj"]
    yield "three groups in one file", *compressed_tensors(several[:3], ignore), AGAIN
    yield "packed and in bytes in one file", *compressed_tensors(several, ignore), AGAIN
    for bits_of, format, inputs in ("int", BYTES[0], TOKEN), ("int", BYTES[2], None), ("float", BYTES[1], TOKEN):
        inputs = inputs and QuantizationArgs(**inputs, type=bits_of)
        for strategy in "tensor", "channel", "block":
            size = dict(block_structure=[BLOCK, BLOCK]) if strategy == "block" else {}
            symmetric = format != BYTES[2]
            scheme = one(8, strategy, format, type=bits_of, inputs=inputs, symmetric=symmetric, **size)
            yield f"{format} per {strategy}", *compressed_tensors([scheme], dtype=torch.bfloat16), None
    method = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "modules_to_not_convert": ["lm_head"]}
    sized = method | {"weight_block_size": [BLOCK, BLOCK]}
    yield "fp8 in blocks", *fp8(sized, lambda _: (BLOCK, BLOCK), "weight_scale_inv"), CUT
    static = method | {"activation_scheme": "static", "weight_block_size": None}
    for name, inputs in ("weight_scale_inv", ["activation_scale"]), ("weight_scale", ["input_scale"]):
        yield f"fp8 per tensor, {name}", *fp8(static, lambda weight: tuple(weight.shape), name, inputs), None
    rows = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}
    yield "fbgemm_fp8", *fp8(rows, lambda weight: (1, weight.shape[1]), "weight_scale", ["input_scale_ub"]), None


def write(folder, source, config, make):
    """Writes a model, and returns it with the weights that its tensors stand for."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tensors = load_file(source / "model.safetensors")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.startswith("model.layers.") and (made := make(name, module)):
            parts, module.weight.data = made
            del tensors[f"{name}.weight"]
            tensors |= {f"{name}.{part}": tensor.contiguous() for part, tensor in parts.items()}
    settings = json.loads((source / "config.json").read_text()) | {"quantization_config": config}
    for file in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(source / file, folder)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "model.safetensors")
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", type=Path)
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window")
    p.add_argument("--windows", type=int, default=4, help="how many windows")
    p.add_argument("--tolerance", type=float, default=1e-4, help="how far off it may be, relative")
    a = p.parse_args()

    logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ids = tokenizer(a.text.read_bytes().decode(), add_special_tokens=False).input_ids[: a.windows * a.ctx]
    protocol = ["--text", a.text, "--ctx", str(a.ctx), "--windows", str(a.windows), "--json", "--quiet"]
    failed = False

    def ours(*command):
        found = subprocess.run([a.compress, *command, *protocol], capture_output=True, text=True)
        if found.returncode:
            sys.exit(found.stderr)
        found = json.loads(found.stdout)
        return found.get("after", found)["perplexity"]

    def compare(name, ours, theirs):
        nonlocal failed
        off = abs(ours / theirs - 1)
        failed |= not off <= a.tolerance
        print(f"{name}: {ours:.6f} here, {theirs:.6f} there, off by {off:.1e}", flush=True)

    for name, config, make, command in models():
        with tempfile.TemporaryDirectory() as folder:
            folder, out = Path(folder) / "in", Path(folder) / "out"
            folder.mkdir()
            model = write(folder, a.model, config, make)
            compare(name, ours("evaluate", folder), perplexity(model, ids, a.ctx)[0])
            if command:
                value = ours("run", command[0], folder, "-o", out, *command[1:])
                kept = json.loads((out / "config.json").read_text()).get("quantization_config")
                unpack = dict(quantization_config=CompressedTensorsConfig(dequantize=True)) if kept else {}
                model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, **unpack).eval()
                compare(f"{name}, an output", value, perplexity(model, ids, a.ctx)[0])
    sys.exit(failed)


if __name__ == "__main__":
    main()
