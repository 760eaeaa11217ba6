"""Makes the hostile files of this folder: each is wrong in the way that its name says.

    python tests/corpus/make.py

What is said of each is in tests/snapshots/corpus__corpus_*.snap. They are read by tests/corpus.rs and are the seeds of the fuzz targets.
"""

import json
import struct
from pathlib import Path

HERE = Path(__file__).parent


def put(kind, name, data):
    (HERE / kind / name).write_bytes(data)


def safetensors(name, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    put("safetensors", name, struct.pack("<Q", len(text) if length is None else length) + text + data)


def tensor(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


safetensors("good", {"a": tensor(0, 4), "b": tensor(4, 8)}, bytes(8))
put("safetensors", "empty", b"")
put("safetensors", "seven_bytes", bytes(7))
safetensors("length_of_all_ones", b"{}", length=2**64 - 1)
safetensors("length_past_the_end", b"{}", length=3)
safetensors("header_is_no_json", b"{]")
safetensors("header_is_no_utf8", b'{"\xff\xfe": 1}')
safetensors("header_is_a_list", b"[]")
safetensors("header_is_nested_deeply", b"[" * 5000 + b"]" * 5000)
safetensors("overlap", {"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(8))
safetensors("hole", {"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12))
safetensors("past_the_end", {"a": tensor(0, 4000, (1000,))}, bytes(4))
safetensors("end_before_begin", {"a": tensor(4, 0)}, bytes(4))
safetensors("negative_offset", {"a": tensor(-4, 0)}, bytes(4))
safetensors("shape_overflows", {"a": tensor(0, 4, (2**63, 2**63))}, bytes(4))
safetensors("shape_of_nothing", {"a": tensor(0, 0, (0, 2**62))})
safetensors("shape_and_bytes_disagree", {"a": tensor(0, 4, (3,))}, bytes(4))
safetensors("unknown_type", {"a": tensor(0, 4, dtype="F31")}, bytes(4))
safetensors("trailing_bytes", {"a": tensor(0, 4)}, bytes(40))
safetensors("same_name_twice", b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8))


def string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf(name, metadata=b"", tensors=b"", keys=0, count=0, magic=b"GGUF", version=3, data=b""):
    put("gguf", name, magic + struct.pack("<IQQ", version, count, keys) + metadata + tensors + data)


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def info(name, dims, kind=0, offset=0):
    return string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


def number(name, value):
    return key(name, 4, struct.pack("<I", value))


def strings(name, *values):
    return key(name, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(string, values)))


def llama(heads=2, merges=("a b",), more=()):
    """Everything that a config and a tokenizer need, as keyword arguments of gguf()."""
    keys = [
        key("general.architecture", 8, string("llama")),
        number("llama.block_count", 1),
        number("llama.context_length", 8),
        number("llama.embedding_length", 8),
        number("llama.feed_forward_length", 8),
        number("llama.attention.head_count", heads),
        number("llama.attention.head_count_kv", 1),
        key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
        key("tokenizer.ggml.model", 8, string("gpt2")),
        key("tokenizer.ggml.pre", 8, string("smollm")),
        strings("tokenizer.ggml.tokens", "a", "b", "ab"),
        strings("tokenizer.ggml.merges", *merges),
        *more,
    ]
    return {"metadata": b"".join(keys), "keys": len(keys)}


architecture = key("general.architecture", 8, string("llama"))
gguf("good", **llama())
gguf("heads_of_zero", **llama(heads=0))
gguf("merges_outside_the_vocabulary", **llama(merges=("no where",)))
gguf("wrong_magic", magic=b"GGML")
gguf("version_99", version=99)
gguf("keys_of_all_ones", keys=2**64 - 1)
gguf("tensors_of_all_ones", count=2**64 - 1)
gguf("string_past_the_end", struct.pack("<Q", 2**40) + b"general", keys=1)
gguf("string_is_no_utf8", key(b"\xff\xfe", 4, struct.pack("<I", 1)), keys=1)
gguf("unknown_value_type", key("a", 99, b""), keys=1)
gguf("array_of_all_ones", key("a", 9, struct.pack("<IQ", 0, 2**64 - 1)), keys=1)
gguf("arrays_nested_deeply", key("a", 9, struct.pack("<IQ", 9, 1) * 2000), keys=1)
gguf("same_key_twice", architecture * 2, keys=2)
gguf("alignment_of_three", key("general.alignment", 4, struct.pack("<I", 3)), keys=1)
gguf("alignment_of_zero", key("general.alignment", 4, struct.pack("<I", 0)), keys=1)
gguf("tensor_past_the_end", tensors=info("a", (1000,)), count=1, data=bytes(64))
gguf("tensor_overflows", tensors=info("a", (2**63, 2**63)), count=1)
gguf("tensor_of_nothing", tensors=info("a", (0, 5)), count=1)
gguf("tensor_of_nine_dimensions", tensors=info("a", (1,) * 9), count=1)
gguf("tensor_of_unknown_type", tensors=info("a", (32,), kind=999), count=1, data=bytes(64))
gguf("tensor_of_half_a_block", tensors=info("a", (33,), kind=2), count=1, data=bytes(96))
gguf("tensor_of_a_block_cut_short", tensors=info("a", (256,), kind=22), count=1, data=bytes(64))
divisors = info("rope_freqs.weight", (2,))
gguf("divisors_of_nothing", **llama(), tensors=divisors, count=1, data=bytes(64))
gguf("divisors_of_no_number", **llama(), tensors=divisors, count=1, data=struct.pack("<8f", *[float("nan")] * 8))
yarn = key("llama.rope.scaling.type", 8, string("yarn"))
gguf("scaled_by_no_number", **llama(more=(yarn, key("llama.rope.scaling.factor", 6, struct.pack("<f", float("nan"))))))
gguf("scaled_by_infinity", **llama(more=(yarn, key("llama.rope.scaling.factor", 6, struct.pack("<f", float("inf"))))))
gguf("tensors_overlap", tensors=info("a", (8,)) + info("b", (8,)), count=2, data=bytes(128))
gguf("tensor_off_its_alignment", tensors=info("a", (8,), offset=1), count=1, data=bytes(128))


def step(site="0.query", rank=5, **more):
    return {"step": {"site": site, "rank": rank} | more}


def plan(name, **changes):
    good = {
        "version": 1,
        "kind": "truncate",
        "method": "svd",
        "source": {"name": "toy", "digest": "0"},
        "keep": 0.5,
        "steps": [step() | {"parameters": [576, 240]}],
    }
    changed = {field: value for field, value in (good | changes).items() if value is not None}
    put("plan", name + ".json", json.dumps(changed).encode())


plan("good")
put("plan", "empty.json", b"")
put("plan", "a_list.json", b"[]")
plan("no_version", version=None)
plan("version_of_tomorrow", version=2)
plan("no_kind", kind=None)
plan("another_kind", kind="round")
plan("unknown_field", surprise=1)
plan("unknown_field_beside_a_step", steps=[step() | {"surprise": 1}])
plan("unknown_field_of_a_step", steps=[step(scheme={"bits": 4})])
plan("steps_are_no_list", steps={})
plan("keep_is_text", keep="half")
plan("rank_of_zero", steps=[step(rank=0)])
plan("rank_negative", steps=[step(rank=-1)])
plan("rank_fractional", steps=[step(rank=1.5)])
plan("rank_of_all_ones", steps=[step(rank=2**64 - 1)])
plan("layer_of_all_ones", steps=[step(f"{2**64 - 1}.query")])
plan("layer_past_all_ones", steps=[step(f"{2**64}.query")])
plan("no_such_role", steps=[step("0.head")])
plan("same_site_twice", steps=[step(rank=1)] * 2)
plan("no_rank", steps=[{"step": {"site": "0.query"}}])


def model(name, network="llama", config=None, **files):
    """A network of tests/fixtures with other settings and files: an object becomes JSON, text is written as it is."""
    change = {"network": network, "config": config or {}, "files": {k.replace("__", "."): v for k, v in files.items()}}
    put("model", f"{name}.json", (json.dumps(change, indent=1) + "\n").encode())


def scaled(**settings):
    return {"rope_scaling": settings}


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 281864\n"
INDEX = "model.safetensors.index.json"

model("good")
model("good_yarn", config=scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=32))
model("good_unknown_but_off", config={"use_gain": False, "gain": 0, "gains": [], "made_by": "somebody", "_gain": 2})
model("config_is_a_list", config__json=[])
model("config_is_no_json", config__json="{]")
model("config_is_html", config__json="<!doctype html><html><body>Access denied</body></html>")
model("config_is_an_lfs_pointer", config__json=LFS)
model("weights_are_an_lfs_pointer", model__safetensors=LFS)
model("unknown_setting_that_is_on", config={"use_gain": True})
model("unknown_number", config={"attention_gain": 0.5})
model("partial_rotary", config={"partial_rotary_factor": 0.5})
model("rope_of_unknown_kind", config=scaled(rope_type="spiral", factor=2.0))
model("rope_without_a_kind", config=scaled(factor=2.0))
model("rope_is_a_list", config={"rope_scaling": [2.0]})
model("rope_factor_of_zero", config=scaled(rope_type="linear", factor=0))
model("rope_factor_is_text", config=scaled(rope_type="linear", factor="2"))
model("rope_bounds_swapped", config=scaled(rope_type="llama3", factor=8, low_freq_factor=4, high_freq_factor=1, original_max_position_embeddings=32))
model("theta_below_zero", config={"rope_theta": -1})
model("layers_past_all_bounds", config={"num_hidden_layers": 2**63})
model("one_layer_too_many", config={"num_hidden_layers": 3})
model("heads_of_zero", config={"num_attention_heads": 0})
model("head_of_odd_size", config={"head_dim": 15})
model("experts", config={"num_local_experts": 8})
model("softcapping", config={"final_logit_softcapping": 30.0})
model("windows_in_some_layers", config={"layer_types": ["full_attention", "sliding_attention"]})
model("attends_to_the_future", config={"is_causal": False})
model("class_of_another_family", config={"architectures": ["BertForMaskedLM"]})
model("family_unknown", config={"model_type": "mamba"})
model("activation_unknown", config={"hidden_act": "gelu"})
model("biases_that_are_not_there", config={"attention_bias": True})
model("packed_by_gptq", config={"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}})
model("packed_by_bitsandbytes", config={"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
model("packed_by_mlx", config={"quantization": {"group_size": 64, "bits": 4}})
model("adapter_that_is_not_there", config={"compress_adapter": "adapter"})
model("adapter_outside", config={"compress_adapter": "../adapter"})
model("tokenizer_missing", tokenizer_config__json={})
model("tokenizer_is_no_json", tokenizer__json="{]")
model("tokenizer_is_an_lfs_pointer", tokenizer__json=LFS)
model("tokenizer_of_tiktoken", tokenizer__model="IQ== 0\nIg== 1\nIw== 2\n")
model("tokenizer_model_cut_short", tokenizer__model="\n\u0014\n")
model("index_without_a_map", "llama_sharded", **{INDEX: {"metadata": {}}})
model("index_that_leaves_its_folder", "llama_sharded", **{INDEX: {"weight_map": {"model.norm.weight": "../x.safetensors"}}})
model("index_of_a_shard_that_is_not_there", "llama_sharded", **{INDEX: {"weight_map": {"model.norm.weight": "model-9.safetensors"}}})
model("index_of_numbers", "llama_sharded", **{INDEX: {"weight_map": {"model.norm.weight": 1}}})
model("shards_without_an_index", "llama_sharded", **{INDEX: None})
