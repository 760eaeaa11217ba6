"""Whether the program still writes the same bytes: SHA-256 of every file of some twenty outputs.

    python3 tests/golden/golden.py COMPRESS SHARED            # compares with digests.txt beside this script
    python3 tests/golden/golden.py COMPRESS SHARED --record   # writes it anew

Every method, one shot and refit, embedding and factors rounded, another number format, a GGUF source, training. A change of
behaviour changes digests, and is recorded with the reason in its commit; a refactoring changes none. Kernels choose by the
processor's vector instructions and caches, so digests are those of one processor, named in the first line of the file.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


TOY = "shared/models/stories260k"
TEXT = ["--calibrate", "shared/text/tinystories_train_head.txt", "--calibrate-ctx", "128", "--samples", "8"]
ONE_SHOT = [*TEXT, "--one-shot"]
CORPUS = "shared/text/tinystories_valid_docs.txt"
TRAIN = ["--corpus", CORPUS, "--steps", "4", "--every", "2", "--batch", "2", "--train-ctx", "64"]
# Names of models are recorded in outputs, so all of them are relative to a folder with links to what is read.
COMMANDS = {
    "svd": ["run", "svd", TOY, "--keep", "0.8"],
    "svd-dense": ["run", "svd", TOY, "--keep", "0.8", "--dense"],
    "svd-shipped": ["run", "svd", "--keep", "0.9", "--skip", "value"],
    "svd-rounded-factors": ["run", "svd", TOY, "--keep", "0.8", "--factor-bits", "8"],
    "svd-rounded-embedding": ["run", "svd", TOY, "--keep", "0.8", "--embedding-bits", "8"],
    "svd-bf16": ["run", "svd", TOY, "--keep", "0.8", "--dtype", "bf16"],
    "svd-gguf": ["run", "svd", "fixtures/gguf/llama.gguf", "--keep", "0.8"],
    "svd-qwen3": ["run", "svd", "fixtures/networks/qwen3", "--keep", "0.8"],
    "svd-sharded": ["run", "svd", "fixtures/networks/llama_sharded", "--keep", "0.8"],
    "svd-activation": ["run", "svd", TOY, "--metric", "activation", "--keep", "0.8", *ONE_SHOT],
    "svd-activation-refit": ["run", "svd", TOY, "--metric", "activation", "--keep", "0.8", *TEXT],
    "fwsvd-rows": ["run", "fwsvd", TOY, "--fisher", "rows", "--keep", "0.8", *ONE_SHOT],
    "fwsvd": ["run", "fwsvd", TOY, "--keep", "0.8", *ONE_SHOT],
    "fwsvd-refit": ["run", "fwsvd", TOY, "--keep", "0.8", *TEXT],
    "welore": ["run", "welore", TOY, "--keep", "0.8", *ONE_SHOT],
    "welore-refit": ["run", "welore", TOY, "--keep", "0.7", *TEXT, "--factor-bits", "8"],
    "lorc-nearest": ["run", "lorc", TOY, "--group", "4", "--quantizer", "nearest", "--metric", "plain", "--rank", "4"],
    "lorc": ["run", "lorc", *ONE_SHOT],
    "lorc-refit": ["run", "lorc", "--bits", "3", "--rank", "2", "--embedding-bits", "8", *TEXT],
    "lorc-asymmetric": ["run", "lorc", TOY, "--group", "4", "--bits", "2", "--asymmetric", *ONE_SHOT],
    "masa": ["run", "masa", TOY, "--atoms", "2", "--keep", "0.6", *ONE_SHOT],
    "masa-refit": ["run", "masa", TOY, "--atoms", "1", "--keep", "0.8", *TEXT, "--factor-bits", "8"],
    "masa-plain": ["run", "masa", TOY, "--atoms", "3", "--residual", "0.2", "--metric", "plain", "--groups", "1", "--dense"],
    "think": ["run", "think", TOY, "--cache-bits", "4", "--lambda", "0.25", "--compensate"],
    "tune-factors": ["tune", "svd", "--train", "factors", *TRAIN],
    "tune-distillation": ["tune", "svd", "--original", TOY, "--objective", "distillation", *TRAIN],
}


def digests(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): digest(file) for file in files}


def digest(file):
    content = file.read_bytes()
    if file.name == "compression.json":
        # How long training took is recorded, and differs each time.
        content = re.sub(rb'"[a-z_]*(seconds|per_second)": [0-9.e+-]+', b"", content)
    return hashlib.sha256(content).hexdigest()


def outputs(program, shared, place):
    (place / "shared").symlink_to(shared)
    (place / "fixtures").symlink_to(ROOT / "tests/fixtures")
    found = {}
    for name, words in COMMANDS.items():
        run = [program, *words, "-o", name, "--no-evaluate", "--quiet"]
        if "--calibrate" in words:
            run += ["--evidence", "evidence"]
        done = subprocess.run(run, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        found[name] = digests(place / name)
    return found


def machine():
    lines = dict(re.findall(r"^(.*?)\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf8"), re.MULTILINE))
    return ", ".join(lines.get(key, "?") for key in ("model name", "cpu family", "model", "stepping", "cache size"))


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    a.add_argument("program", type=Path)
    a.add_argument("shared", type=Path)
    a.add_argument("--record", action="store_true")
    a = a.parse_args()
    record = HERE / "digests.txt"
    with tempfile.TemporaryDirectory() as place:
        found = outputs(str(a.program.resolve()), a.shared.resolve(), Path(place))
    lines = [f"{digest}  {name}/{file}" for name, files in found.items() for file, digest in files.items()]
    if a.record:
        record.write_text("\n".join([machine(), *lines, ""]), encoding="utf8")
        return
    kind, *known = record.read_text(encoding="utf8").splitlines()
    if kind != machine():
        print(f"recorded on {kind}; this is {machine()}: nothing compared")
        return
    known, lines = ({line[66:]: line[:64] for line in these} for these in (known, lines))
    changed = [file for file in {**known, **lines} if known.get(file) != lines.get(file)]
    for file in changed:
        print(f"{file}: {'new' if file not in known else 'gone' if file not in lines else 'changed'}")
    print(f"{len(found)} commands, {len(lines)} files, {len(changed)} of them not as recorded")
    sys.exit(bool(changed))


if __name__ == "__main__":
    main()
