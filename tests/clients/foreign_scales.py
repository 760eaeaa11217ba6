"""Models that compressed-tensors packs, with scales in f16, bf16 and f32, have the perplexity here that they have
when it multiplies them out.

    python tests/clients/foreign_scales.py COMPRESS MODEL_DIR TEXT --ctx 256 --windows 8

Each weight of the blocks is rounded by compressed-tensors' own functions, with an `actorder` of `static` and zero points in
some. The exit status is 1 where a perplexity is off by more than the relative tolerance.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from perplexity import perplexity
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

GROUP = 32


def rounded(weight, args, dtype):
    """The tensors of a packed weight, and the weight that they stand for, in f32."""
    groups = weight.unflatten(1, (-1, GROUP))
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    parts = {"weight": weight, "weight_scale": scale.to(dtype)}
    if not args.symmetric:
        parts["weight_zero_point"] = zero
    packed = PackedQuantizationCompressor.compress(parts, scheme)
    exact = dict(packed) | {"weight_scale": packed["weight_scale"].float()}
    return packed, PackedQuantizationCompressor.decompress(exact, scheme)["weight"].float()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", type=Path)
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--ctx", type=int, default=256, help="tokens of a window")
    p.add_argument("--windows", type=int, default=8, help="how many windows")
    p.add_argument("--tolerance", type=float, default=1e-4, help="how far off it may be, relative")
    a = p.parse_args()

    logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ids = tokenizer(a.text.read_bytes().decode(), add_special_tokens=False).input_ids[: a.windows * a.ctx]
    failed = False
    for dtype in torch.float16, torch.bfloat16, torch.float32:
        for symmetric in True, False:
            args = QuantizationArgs(num_bits=4, symmetric=symmetric, strategy="group", group_size=GROUP, actorder="static")
            model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
            tensors = load_file(a.model / "model.safetensors")
            for name, module in model.named_modules():
                if isinstance(module, torch.nn.Linear) and name.startswith("model.layers."):
                    packed, weight = rounded(module.weight.data, args, dtype)
                    del tensors[f"{name}.weight"]
                    tensors |= {f"{name}.{part}": tensor.contiguous() for part, tensor in packed.items()}
                    module.weight.data = weight
            config = json.loads((a.model / "config.json").read_text())
            scheme = QuantizationScheme(targets=["Linear"], weights=args, format="pack-quantized")
            config["quantization_config"] = {
                "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
                "ignore": ["lm_head"], "kv_cache_scheme": None, "global_compression_ratio": None,
                "sparsity_config": {}, "transform_config": {}, "version": "0.20.0",
                "config_groups": {"group_0": scheme.model_dump(mode="json")},
            }
            with tempfile.TemporaryDirectory() as folder:
                for file in ["tokenizer.json", "tokenizer_config.json"]:
                    shutil.copy(a.model / file, folder)
                (Path(folder) / "config.json").write_text(json.dumps(config))
                save_file(tensors, Path(folder) / "model.safetensors")
                protocol = ["--text", a.text, "--ctx", str(a.ctx), "--windows", str(a.windows), "--json", "--quiet"]
                found = subprocess.run([a.compress, "evaluate", folder, *protocol], capture_output=True, text=True)
                if found.returncode:
                    sys.exit(found.stderr)
                ours = json.loads(found.stdout)["perplexity"]
            theirs, _ = perplexity(model, ids, a.ctx)
            off = abs(ours / theirs - 1)
            failed |= off > a.tolerance
            print(f"scales in {dtype}, {'symmetric' if symmetric else 'with zero points'}: {ours:.6f} here, {theirs:.6f} there, off by {off:.1e}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
