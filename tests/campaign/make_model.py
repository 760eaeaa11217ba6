"""Writes a made-up model in the layout of Qwen2, large enough to measure memory and speed with.

    python make_model.py OUT TOKENIZER_FOLDER [--hidden 1536 --layers 28 ...] [--untied] [--seed 1]

The defaults are the shape of Qwen2-1.5B: 1.54 billion numbers in bf16, 3.1 GB. Weights are normal with a
standard deviation of 1/sqrt(inputs), those that write to the residual stream smaller by 1/sqrt(2 layers), so
that the stream keeps its length and logits are finite. Needs nothing but numpy; some rows at a time are in memory.
"""

import argparse
import json
import pathlib
import shutil

import numpy


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path, help="a folder whose tokenizer.json is copied")
    parser.add_argument("--hidden", type=int, default=1536)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--key-value-heads", type=int, default=2)
    parser.add_argument("--intermediate", type=int, default=8960)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--untied", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def tensors(a):
    """Name, shape and standard deviation of every tensor; a deviation of none stands for a norm's ones."""
    size = a.hidden // a.heads
    small = (2 * a.layers) ** -0.5
    yield "model.embed_tokens.weight", [a.vocabulary, a.hidden], 1.0 if a.untied else a.hidden**-0.5
    for layer in range(a.layers):
        block = f"model.layers.{layer}."
        for role, rows, cols, scale in [
            ("self_attn.q_proj", a.heads * size, a.hidden, 1.0),
            ("self_attn.k_proj", a.key_value_heads * size, a.hidden, 1.0),
            ("self_attn.v_proj", a.key_value_heads * size, a.hidden, 1.0),
            ("self_attn.o_proj", a.hidden, a.heads * size, small),
            ("mlp.gate_proj", a.intermediate, a.hidden, 1.0),
            ("mlp.up_proj", a.intermediate, a.hidden, 1.0),
            ("mlp.down_proj", a.hidden, a.intermediate, small),
        ]:
            yield f"{block}{role}.weight", [rows, cols], scale * cols**-0.5
        for role, rows in [("q", a.heads * size), ("k", a.key_value_heads * size), ("v", a.key_value_heads * size)]:
            yield f"{block}self_attn.{role}_proj.bias", [rows], 0.02
        yield f"{block}input_layernorm.weight", [a.hidden], None
        yield f"{block}post_attention_layernorm.weight", [a.hidden], None
    yield "model.norm.weight", [a.hidden], None
    if a.untied:
        yield "lm_head.weight", [a.vocabulary, a.hidden], a.hidden**-0.5


def bf16(numbers):
    """Rounded to the nearest number with 8 significant bits, ties to even."""
    bits = numbers.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def main():
    a = arguments()
    a.out.mkdir(parents=True)
    shutil.copy(a.tokenizer / "tokenizer.json", a.out)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": a.hidden,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.key_value_heads,
        "intermediate_size": a.intermediate,
        "vocab_size": a.vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": not a.untied,
        "bos_token_id": 1,
        "torch_dtype": "bfloat16",
    }
    (a.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, offset = {}, 0
    for name, shape, _ in tensors(a):
        end = offset + 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    random = numpy.random.default_rng(a.seed)
    with open(a.out / "model.safetensors", "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for _, shape, deviation in tensors(a):
            rows = max(1, (1 << 24) // int(numpy.prod(shape[1:])))
            for first in range(0, shape[0], rows):
                part = [min(rows, shape[0] - first), *shape[1:]]
                if deviation is None:
                    numbers = numpy.ones(part, numpy.float32)
                else:
                    numbers = deviation * random.standard_normal(part, dtype=numpy.float32)
                file.write(bf16(numbers).tobytes())


main()
