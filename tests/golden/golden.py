"""Whether the program still writes the same bytes: SHA-256 of every file of some twenty outputs.

    python3 tests/golden/golden.py COMPRESS SHARED            # compares with digests.txt beside this script
    python3 tests/golden/golden.py COMPRESS SHARED --record   # writes it anew

Every method, one shot and refit, embedding and factors rounded, another number format, a GGUF source, training. A change of
behaviour changes digests, and is recorded with the reason in its commit; a refactoring changes none. Kernels choose by the
processor's vector instructions, so digests are those of one kind of machine, named in the first line of the file.
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


def commands(shared):
    toy = str(shared / "models/stories260k")
    networks = ROOT / "tests/fixtures/networks"
    text = ["--calibrate", str(shared / "text/tinystories_train_head.txt"), "--calibrate-ctx", "128", "--samples", "8"]
    one_shot = [*text, "--one-shot"]
    corpus = str(shared / "text/tinystories_valid_docs.txt")
    train = ["--corpus", corpus, "--steps", "4", "--every", "2", "--batch", "2", "--train-ctx", "64"]
    return {
        "svd": ["run", "svd", toy, "--keep", "0.8"],
        "svd-dense": ["run", "svd", toy, "--keep", "0.8", "--dense"],
        "svd-shipped": ["run", "svd", "--keep", "0.9", "--skip", "value"],
        "svd-rounded-factors": ["run", "svd", toy, "--keep", "0.8", "--factor-bits", "8"],
        "svd-rounded-embedding": ["run", "svd", toy, "--keep", "0.8", "--embedding-bits", "8"],
        "svd-bf16": ["run", "svd", toy, "--keep", "0.8", "--dtype", "bf16"],
        "svd-gguf": ["run", "svd", str(ROOT / "tests/fixtures/gguf/llama.gguf"), "--keep", "0.8"],
        "svd-qwen3": ["run", "svd", str(networks / "qwen3"), "--keep", "0.8"],
        "svd-sharded": ["run", "svd", str(networks / "llama_sharded"), "--keep", "0.8"],
        "svd-activation": ["run", "svd", toy, "--metric", "activation", "--keep", "0.8", *one_shot],
        "svd-activation-refit": ["run", "svd", toy, "--metric", "activation", "--keep", "0.8", *text],
        "svd-kronecker": ["run", "svd", toy, "--metric", "kronecker", "--keep", "0.8", *one_shot],
        "fwsvd": ["run", "fwsvd", toy, "--keep", "0.8", *one_shot],
        "fwsvd-refit": ["run", "fwsvd", toy, "--keep", "0.8", *text],
        "welore": ["run", "welore", toy, "--keep", "0.8", *one_shot],
        "welore-refit": ["run", "welore", toy, "--keep", "0.7", *text, "--factor-bits", "8"],
        "lorc-nearest": ["run", "lorc", toy, "--quantizer", "nearest", "--metric", "plain", "--rank", "4"],
        "lorc": ["run", "lorc", toy, *one_shot],
        "lorc-refit": ["run", "lorc", toy, "--bits", "3", "--rank", "2", "--embedding-bits", "8", *text],
        "lorc-asymmetric": ["run", "lorc", toy, "--bits", "2", "--asymmetric", *one_shot],
        "tune-factors": ["tune", "{svd}", "--train", "factors", *train],
        "tune-distillation": ["tune", "{svd}", "--original", toy, "--objective", "distillation", *train[:2], "--samples", "4", "--steps", "2"],
    }


def digests(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def outputs(program, shared, place):
    found = {}
    for name, words in commands(shared).items():
        words = [word.replace("{svd}", str(place / "svd")) for word in words]
        run = [program, *words, "-o", str(place / name), "--no-evaluate", "--quiet", "--evidence", str(place / "evidence")]
        if name.startswith("tune") or "--calibrate" not in words:
            run = run[:-2]
        done = subprocess.run(run, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        found[name] = digests(place / name)
    return found


def machine():
    flags = re.search(r"^flags.*", Path("/proc/cpuinfo").read_text(encoding="utf8"), re.MULTILINE)
    return "avx512" if flags and "avx512f" in flags[0] else "avx2"


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
        print(f"the digests were recorded on a machine with {kind}; this one has {machine()}: nothing compared")
        return
    known, lines = ({line[66:]: line[:64] for line in these} for these in (known, lines))
    changed = [file for file in {**known, **lines} if known.get(file) != lines.get(file)]
    for file in changed:
        print(f"{file}: {'new' if file not in known else 'gone' if file not in lines else 'changed'}")
    print(f"{len(found)} commands, {len(lines)} files, {len(changed)} of them not as recorded")
    sys.exit(bool(changed))


if __name__ == "__main__":
    main()
