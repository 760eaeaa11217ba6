"""Every command that a model card prints works, in the version of transformers that runs this.

    python tests/clients/cards.py COMPRESS MODEL TEXT

Writes an output of every form that cards tell apart, from MODEL, a small Hugging Face directory whose head is
its embedding, and from the same model with a head of its own. Then does what the card says, as it stands
there: Python from the folder beside the output and without a network, `compress` in the same place; of
`vllm` it only looks at the words. What Python has loaded, and what `compress evaluate` finds, must have the
perplexity of the record; a factored model must take a step of LoRA, and be the same when transformers has
saved it; `compress run` must write the same weights again. Where the card says that this version of
transformers does not load the output, it must not: it fails, or has another perplexity. Exits with 1 where
anything is otherwise.
"""

import argparse
import filecmp
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read on import

import torch
import transformers
from perplexity import perplexity
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

TOLERANCE = 1e-3
# As cards call the version.
VERSION = "4.57" if transformers.__version__.startswith("4.57.") else transformers.__version__.split(".")[0]

FACTORS = ["run", "svd", "MODEL", "--keep", "0.95"]
ROUNDED = ["run", "lorc", "MODEL", "--quantizer", "nearest", "--metric", "plain", "--group", "4"]
MIXTURES = ["run", "masa", "MODEL", "--atoms", "2", "--metric", "plain", "--residual", "0.3"]
ROWS = [*ROUNDED[:-1], "0", "--bits", "8"]
ENDS = ["--embedding-bits", "8"]
TUNE = ["tune", "cut", "--corpus", "FILE", "--steps", "2", "--batch", "2", "--train-ctx", "64", "--held-out", "1"]

# An output's name, and what makes it. MODEL is the model, `untied` the same with a head of its own.
FORMS = {
    "pairs": FACTORS,
    "pairs-of-all-sizes": ["run", "welore", "MODEL", "--keep", "0.9", "--calibrate", "FILE"],
    "rounded-pairs": [*FACTORS, "--factor-bits", "8"],
    "dense": [*FACTORS, "--dense"],
    "mixtures": MIXTURES,
    "mixtures-alone": [*MIXTURES[:-1], "0"],
    "rounded-mixtures": [*MIXTURES, "--factor-bits", "8"],
    "mixtures-and-pairs": ["run", "masa", "MODEL", "--atoms", "1", "--keep", "0.6", "--roles", "query,down", "--metric", "plain"],
    "tuned": TUNE,
    "pairs-and-embedding": [*FACTORS, *ENDS],
    "pairs-and-ends": [*FACTORS, *ENDS, "untied"],
    "rounded-pairs-and-embedding": [*FACTORS, "--factor-bits", "8", *ENDS],
    "rounded-pairs-and-ends": [*FACTORS, "--factor-bits", "8", *ENDS, "untied"],
    "four-bits": ROUNDED,
    "three-bits": [*ROUNDED, "--bits", "3"],
    "corrected": [*ROUNDED, "--rank", "8"],
    "zero-points": [*ROUNDED, "--asymmetric"],
    "zero-points-corrected": [*ROUNDED, "--asymmetric", "--rank", "8"],
    "four-bits-and-embedding": [*ROUNDED, *ENDS],
    "four-bits-and-ends": [*ROUNDED, *ENDS, "untied"],
    "corrected-and-ends": [*ROUNDED, "--rank", "8", *ENDS, "untied"],
    "zero-points-and-ends": [*ROUNDED, "--asymmetric", *ENDS, "untied"],
    "rows-and-embedding": [*ROWS, *ENDS],
    "rows-and-ends": [*ROWS, *ENDS, "untied"],
    "rows-and-ends-corrected": [*ROWS, "--rank", "8", *ENDS, "untied"],
}


def untie(model, to):
    """The model with a head of its own, which is the embedding once more."""
    shutil.copytree(model, to, copy_function=shutil.copyfile)
    to.chmod(0o755)
    tensors = load_file(to / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, to / "model.safetensors")
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))


def compress(*command):
    done = subprocess.run(["compress", *command], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"`{shlex.join(['compress', *command])}` fails: {done.stderr.strip()}")
    return done.stdout


def is_near(value, expected, what):
    assert abs(value / expected - 1) <= TOLERANCE, f"{what}: perplexity {value:.5f}, expected {expected:.5f}"
    return f"{what} {value:.5f}"


def output(name, command, model):
    """Writes an output, and gives the perplexity of its record and the context."""
    source = "untied" if "untied" in command else model
    command = [source if word == "MODEL" else word for word in command if word != "untied"]
    compress(*command, "-o", name, "--text", "FILE", "--quiet")
    report = json.loads(Path(name, "compression.json").read_text())["report"]
    return report["after"]["perplexity"], report["text"]["context"]


def run(block):
    """The names that a block of Python defines."""
    scope = {}
    exec(block, scope)
    return scope


def measure(model, tokenizer, context):
    ids = tokenizer(Path("FILE").read_text(encoding="utf-8"), add_special_tokens=False).input_ids
    return perplexity(model.eval(), ids, context)[0]


def python(name, blocks, expected, context):
    """Does what the Python of a card says: it loads the model, and makes it ready for LoRA."""
    scope = run(blocks[0])
    model, tokenizer = scope["model"], scope["tokenizer"]
    found = is_near(measure(model, tokenizer, context), expected, "loaded")
    config = json.loads(Path(name, "config.json").read_text())
    factored = "lowrank" in config
    mixtures = config.get("mixtures", {}).values()
    pairs = bool(config.get("lowrank")) or any(mixture["residual"] for mixture in mixtures)
    assert len(blocks) == 1 + pairs, "a card has a block that loads the model, and one for LoRA where there are factors"
    if factored and "quantization_config" not in config:
        model.save_pretrained(f"{name}-saved")
        saved = AutoModelForCausalLM.from_pretrained(f"{name}-saved", trust_remote_code=True)
        found += ", " + is_near(measure(saved, tokenizer, context), expected, "saved and loaded")
    if pairs:
        exec(blocks[1], scope)
        window = torch.arange(2, 34)[None]
        scope["model"](input_ids=window, labels=window).loss.backward()
        for factor in "up", "down":
            trained = [p for n, p in scope["model"].named_parameters() if f".{factor}.lora_B" in n]
            assert trained and all(p.grad.abs().sum() > 0 for p in trained), f"LoRA gives `{factor}` no gradients"
        found += f", LoRA trains {len(trained)} pairs"
    return found


def refused(name, blocks, expected, context):
    """Makes sure that a model is not loaded, or not as it is: as the card does it, or by default and dequantized."""
    tokenizer = AutoTokenizer.from_pretrained("untied")
    dequantize = {"quantization_config": CompressedTensorsConfig(run_compressed=False, dequantize=True)}
    ways = [
        lambda: AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True),
        lambda: AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, **dequantize),
        *(lambda: run(block)["model"] for block in blocks[:1]),
    ]
    for way in ways:
        try:
            value = measure(way(), tokenizer, context)
        except Exception:  # of many kinds, from deep within
            continue
        assert abs(value / expected - 1) > TOLERANCE, f"the card says that transformers {VERSION} does not load it, but it does"
    return "not loaded, as the card says"


def shell(name, line, expected):
    words = shlex.split(line, comments=True)
    match words[:2]:
        case ["vllm", "serve"]:
            assert words[2] == name, f"`{line}` serves something else than {name}"
            flags = {"--trust-remote-code", "--model-impl", "--enable-lora", "--max-lora-rank", "--lora-modules"}
            unknown = {word for word in words if word.startswith("--")} - flags
            assert not unknown, f"`{line}` has {unknown}"
            if "--enable-lora" in words:
                adapter = Path(words[-1].removeprefix("corrected="))
                rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
                assert rank <= int(words[words.index("--max-lora-rank") + 1]), f"`{line}` is for another rank than {rank}"
        case ["compress", "evaluate"]:
            table = compress(*words[1:])
            value = re.search(r"perplexity\W+([\d.]+)", table)
            assert value, f"`{line}` prints no perplexity: {table}"
            is_near(float(value[1]), expected, f"`{line}`")
        case ["compress", "run" | "tune"]:
            shutil.move(name, f"{name}-first")
            compress(*words[1:])
            for file in Path(name).rglob("*"):
                if file.name != "README.md" and file.name != "compression.json" and file.is_file():
                    first = Path(f"{name}-first", file.relative_to(name))
                    assert filecmp.cmp(file, first, shallow=False), f"`{line}` writes another {file} than before"
        case _:
            raise AssertionError(f"`{line}` is no command that is known here")


def prepare():
    """A process for itself: one thread, and no progress bars; what fails is said by `check`."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def check(form):
    """What was found for a form, and whether it is as it should be."""
    name, command, model = form
    try:
        expected, context = output(name, command, model)
        card = Path(name, "README.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
        code = [text for language, text in blocks if language == "python"]
        if "No version of transformers loads it" in card or f"transformers {VERSION} does not" in card:
            found = refused(name, code, expected, context)
        else:
            found = python(name, code, expected, context)
        lines = [line for language, text in blocks if language == "sh" for line in text.splitlines()]
        assert len(lines) >= 2, "a card says how to evaluate and how the output was made"
        for line in lines:
            shell(name, line, expected)
        return f"{name}: {found}; {len(lines)} commands", True
    except Exception as e:
        return f"{name}: {type(e).__name__}: {e}", False


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("compress", type=Path, help="the program")
    p.add_argument("model", type=Path)
    p.add_argument("text", type=Path)
    p.add_argument("--only", nargs="+", choices=FORMS, default=FORMS, help="these forms")
    a = p.parse_args()
    model = str(a.model.resolve())
    with tempfile.TemporaryDirectory() as place:
        program, text = a.compress.resolve(), a.text.read_text(encoding="utf-8")[:8_000]
        os.chdir(place)
        Path("bin").mkdir()
        Path("bin/compress").symlink_to(program)
        os.environ["PATH"] = f"{place}/bin:{os.environ['PATH']}"
        # The name that cards have for a text.
        Path("FILE").write_text(text, encoding="utf-8")
        untie(model, Path("untied"))
        compress(*FACTORS[:2], model, *FACTORS[3:], "-o", "cut", "--no-evaluate", "--quiet")
        # Importing takes longer than all the rest: every process does many forms.
        with multiprocessing.get_context("fork").Pool(2, prepare) as pool:
            good = True
            for line, fine in pool.imap(check, [(name, FORMS[name], model) for name in a.only], chunksize=1):
                print(line if fine else f"WRONG {line}", flush=True)
                good &= fine
    print(f"transformers {transformers.__version__}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
