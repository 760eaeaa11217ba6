"""What `plan` foretells of memory and disk, beside what runs take.

    python tests/campaign/footprint.py target/release/compress MODEL TEXT [--ctx 512] [--samples 16] [--memory 3GB] [--only lorc]

Eight commands on one model: each is planned, then run without its evaluation; memory is the largest resident set, disk what the
work directory, the output and the measurements take together at their fullest, looked at every 20 ms. Prints a table.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

COMMANDS = {
    "svd": ["svd", "--keep", "0.8"],
    "svd, activation, one shot": ["svd", "--metric", "activation", "--keep", "0.8", "--one-shot"],
    "svd, activation, refit": ["svd", "--metric", "activation", "--keep", "0.8"],
    "fwsvd, one shot": ["fwsvd", "--keep", "0.8", "--one-shot"],
    "fwsvd, refit": ["fwsvd", "--keep", "0.8"],
    "lorc, nearest": ["lorc", "--quantizer", "nearest"],
    "lorc, one shot": ["lorc", "--one-shot"],
    "lorc, refit": ["lorc"],
}
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def size(folder):
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                pass
    return total


def foretold(text, row):
    found = re.search(rf"\| {row} +\|[^|]*\| +about ([0-9.]+) (\w+)", text)
    return float(found[1]) * UNITS[found[2]] if found else float("nan")


def measure(command, place, environment):
    most, stop = [0], threading.Event()

    def watch():
        while not stop.wait(0.02):
            most[0] = max(most[0], size(place))

    watcher = threading.Thread(target=watch)
    watcher.start()
    clock = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - clock
    stop.set()
    watcher.join()
    if status:
        raise SystemExit(stderr.decode())
    return usage.ru_maxrss * 1024, most[0], seconds


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    a.add_argument("program")
    a.add_argument("model")
    a.add_argument("text")
    a.add_argument("--ctx", default="512")
    a.add_argument("--samples", default="16")
    a.add_argument("--memory")
    a.add_argument("--only", default="")
    a = a.parse_args()
    base = ["--calibrate", a.text, "--calibrate-ctx", a.ctx, "--samples", a.samples]
    base += ["--memory", a.memory] if a.memory else []
    print(f"{'':28} {'memory':>10} {'foretold':>10} {'':>6} {'disk':>10} {'foretold':>10} {'':>6} {'seconds':>8}")
    for name, words in COMMANDS.items():
        # All that begin with it, or the one of that name: "svd" alone is the beginning of others.
        if not (name == a.only if a.only in COMMANDS else name.startswith(a.only)):
            continue
        place = Path(tempfile.mkdtemp(prefix="compress-footprint-", dir="."))
        environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}
        plan = subprocess.run([a.program, "plan", *words, a.model, *base], env=environment, capture_output=True, text=True)
        shutil.rmtree(place / "cache", ignore_errors=True)
        rows = foretold(plan.stderr, "memory to compress"), foretold(plan.stderr, "free disk needed")
        run = [a.program, "run", *words, a.model, *base, "-o", str(place / "out"), "--no-evaluate", "-q"]
        memory, disk, seconds = measure(run, place, environment)
        told = zip((memory, disk), rows)
        cells = "".join(f" {x / 1e6:7.0f} MB {f / 1e6:7.0f} MB {f / x:6.2f}" for x, f in told)
        print(f"{name:28}{cells} {seconds:8.1f}", flush=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
