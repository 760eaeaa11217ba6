"""Kills, crowds, full disks and odd neighbours: whatever happens, the right bytes or a named error, and
nothing that was there before is missing.

    python tests/campaign/campaign.py target/release/compress [--kills 100] [--crowds 10] [--disks 20] [--seed N]

Works in a temporary folder and takes some minutes; `--kills 12 --crowds 2 --disks 4` is the short one of CI.
Full disks and read-only folders are tmpfs mounts and need root; without it they are skipped, and it says so.
Needs nothing but Python.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = Path(__file__).parent.parent.parent / "models/tiny"
CALIBRATED = ["--samples", "6", "--calibrate-ctx", "64"]
CORPUS = str(TINY / "calibration.txt")

# What is killed: name, and the command without its output.
COMMANDS = {
    "svd": ["run", "svd", "--no-evaluate"],
    "svd, evaluated": ["run", "svd", "--windows", "8"],
    "svd, one shot": ["run", "svd", "--metric", "activation", "--one-shot", *CALIBRATED, "--no-evaluate"],
    "fwsvd, refit": ["run", "fwsvd", *CALIBRATED, "--no-evaluate"],
    "welore": ["run", "welore", "--one-shot", *CALIBRATED, "--no-evaluate"],
    "masa, refit": ["run", "masa", "--atoms", "2", *CALIBRATED, "--no-evaluate"],
    "lorc, refit": ["run", "lorc", "--bits", "4", "--rank", "4", *CALIBRATED, "--no-evaluate"],
    "tune": ["tune", str(TINY), "--train", "factors", "--corpus", CORPUS, "--steps", "6", "--every", "2", "--batch", "2", "--train-ctx", "64", "--no-evaluate"],
    "compare": ["compare", "--methods", "svd", "--keep", "0.8,0.6", "--windows", "4"],
}


class Campaign:
    def __init__(self, program, seed):
        self.program = str(Path(program).resolve())
        self.random = random.Random(seed)
        self.root = Path(tempfile.mkdtemp(prefix="compress-campaign-"))
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(self.root / "cache")}
        self.failures = []

    def command(self, words, output, *more):
        return [self.program, *words, "-o", str(output), "-q", *more]

    def start(self, command):
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, command):
        process = self.start(command)
        return process.communicate()[1], process.returncode

    def check(self, right, what):
        if not right:
            self.failures.append(what)
            print(f"WRONG: {what}", flush=True)

    # -- kills ------------------------------------------------------------------------------------------

    def kills(self, count):
        wholes = {}
        for name, words in COMMANDS.items():
            place = self.folder(f"whole {name}")
            clock = time.monotonic()
            stderr, code = self.run(self.command(words, place / "out"))
            self.check(code == 0, f"{name}: {stderr}")
            wholes[name] = (contents(place / "out"), time.monotonic() - clock)
            shutil.rmtree(self.root / "cache", ignore_errors=True)
        for index in range(count):
            name = self.random.choice(list(COMMANDS))
            whole, seconds = wholes[name]
            place = self.folder(f"kill {index}")
            neighbours(place)
            before = manifest(place)
            command = self.command(COMMANDS[name], place / "out")
            for _ in range(self.random.choice([1, 1, 2])):
                process = self.start(command)
                time.sleep(seconds * self.random.random())
                process.send_signal(signal.SIGKILL)
                process.communicate()
            stderr, code = self.run(command)
            # A comparison does not go on: it finds the variants that are done, and says so.
            done = "exists already" in stderr or name == "compare"
            self.check(code == 0 or done, f"kill {index}, {name}: {code} {stderr}")
            if name == "compare":
                for variant in (place / "out").glob("svd-0.?"):
                    self.check(contents(variant) == {k.removeprefix(variant.name + "/"): v for k, v in whole.items() if k.startswith(variant.name + "/")}, f"kill {index}: {variant}")
            else:
                self.check(contents(place / "out") == whole, f"kill {index}, {name}: other bytes")
            self.untouched(place, before, f"kill {index}, {name}")
            shutil.rmtree(place)

    # -- many at once -------------------------------------------------------------------------------------

    def crowds(self, count, size=32):
        words = ["run", "svd", "--no-evaluate"]
        wholes = []
        for keep in ("0.5", "0.8"):
            place = self.folder(f"crowd {keep}")
            self.run(self.command(words, place / "out", "--keep", keep))
            wholes.append(contents(place / "out"))
        for index in range(count):
            place = self.folder(f"crowd {index}")
            neighbours(place)
            before = manifest(place)
            commands = [self.command(words, place / "out", "--keep", ("0.5", "0.8")[i % 2], "--force") for i in range(size)]
            processes = [self.start(command) for command in commands]
            for process in processes:
                stderr = process.communicate()[1]
                named = process.returncode == 2 and "process " in stderr and "is writing here" in stderr
                self.check(process.returncode == 0 or named, f"crowd {index}: {process.returncode} {stderr}")
            self.check(any(process.returncode == 0 for process in processes), f"crowd {index}: nobody")
            self.check(contents(place / "out") in wholes, f"crowd {index}: neither model")
            self.untouched(place, before, f"crowd {index}")
            shutil.rmtree(place)

    # -- disks --------------------------------------------------------------------------------------------

    def disks(self, count):
        names = ["svd", "fwsvd, refit", "lorc, refit", "tune"]
        disk = self.folder("disk")
        for index in range(count):
            name = names[index % len(names)]
            whole = self.folder("undisturbed")
            self.run(self.command(COMMANDS[name], whole / "out", "--force"))
            size = self.random.randrange(64, 6000)
            self.mount(disk, f"size={size}k")
            try:
                (disk / "precious.txt").write_text("years of work")
                before = manifest(disk)
                command = self.command(COMMANDS[name], disk / "out")
                more = [] if name in ("svd", "tune") else ["--evidence", str(disk / "evidence")]
                stderr, code = self.run(command + more)
                full = code == 2 and "No space left" in stderr
                self.check(code == 0 or full, f"disk {index} of {size} kB, {name}: {code} {stderr}")
                self.untouched(disk, before, f"disk {index}")
                if full:
                    self.check(not (disk / "out").exists(), f"disk {index}: half an output")
                    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
                    stderr, code = self.run(command + more)
                    self.check(code == 0, f"disk {index}, grown, {name}: {code} {stderr}")
                self.check(contents(disk / "out") == contents(whole / "out"), f"disk {index}, {name}: other bytes")
            finally:
                subprocess.run(["umount", str(disk)], check=True)

    def parents(self):
        words = ["run", "svd", "--no-evaluate"]
        disk = self.folder("read-only")
        self.mount(disk, "ro,size=1m")
        try:
            stderr, code = self.run(self.command(words, disk / "out"))
            self.check(code == 2 and "Read-only" in stderr and "out" in stderr, f"read-only: {code} {stderr}")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        for index in range(10):
            place = self.folder("vanishing")
            parent, away = place / "parent", place / "away"
            parent.mkdir()
            neighbours(parent)
            before = manifest(parent)
            process = self.start(self.command(["run", "svd", "--windows", "8"], parent / "out"))
            time.sleep(0.02 * index)
            parent.rename(away)
            stderr = process.communicate()[1]
            self.check(process.returncode in (0, 2) and "panicked" not in stderr, f"vanished: {stderr}")
            self.check(process.returncode == 0 or "error: " in stderr, f"vanished: {stderr}")
            self.untouched(away, before, "vanished")
            shutil.rmtree(place)

    # -- neighbours ---------------------------------------------------------------------------------------

    def forced(self):
        words = ["run", "svd", "--no-evaluate"]

        def earlier(out):
            self.run(self.command(words, out, "--keep", "0.5"))

        def folder(out):
            out.mkdir()
            (out / "precious.txt").write_text("years of work")

        def linked(out):
            folder(out.with_name("elsewhere"))
            out.symlink_to("elsewhere")

        def linked_output(out):
            earlier(out.with_name("elsewhere"))
            out.symlink_to("elsewhere")

        def called_so(out):
            folder(out)
            (out / "compression.json").write_text("{}")

        kinds = {
            "nothing": (lambda out: None, True),
            "an empty folder": (lambda out: out.mkdir(), True),
            "an earlier output": (earlier, True),
            "a link to an earlier output": (linked_output, True),
            "a file": (lambda out: out.write_text("years of work"), False),
            "a folder": (folder, False),
            "a folder with a file called compression.json": (called_so, False),
            "a link to a folder": (linked, False),
            "a link to nothing": (lambda out: out.symlink_to("nowhere"), False),
            "a pipe": (lambda out: os.mkfifo(out), False),
        }
        for kind, (make, replaced) in kinds.items():
            place = self.folder("forced")
            out = place / "out"
            neighbours(place)
            make(out)
            before = manifest(place)
            stderr, code = self.run(self.command(words, out, "--force"))
            self.check(code == (0 if replaced else 2), f"--force on {kind}: {code} {stderr}")
            own = () if not replaced else ("out",)
            self.untouched(place, before, f"--force on {kind}", own)
            shutil.rmtree(place)
        for name in ("out.compress-work", "out.compress-lock"):
            place = self.folder("forced")
            folder(place / name)
            before = manifest(place)
            stderr, code = self.run(self.command(words, place / "out", "--force"))
            self.check(code == 2 and name in stderr, f"--force beside {name}: {code} {stderr}")
            self.untouched(place, before, f"--force beside {name}")
            shutil.rmtree(place)

    # -- helpers ------------------------------------------------------------------------------------------

    def untouched(self, place, before, what, own=("out",)):
        """Nothing that was there is missing or changed; of ours nothing is left but the output and, after a
        kill, the file of a lock."""
        now = manifest(place)
        kept = {path: digest for path, digest in before.items() if not path.startswith(own) or path.startswith("out.")}
        lost = {path for path, digest in kept.items() if now.get(path) != digest}
        self.check(not lost, f"{what}: {sorted(lost)} lost")
        parts = {path.split("/")[0] for path in now} - {path.split("/")[0] for path in before}
        self.check(parts <= {"out", "out.compress-lock", "out.compress-work", "evidence"}, f"{what}: {parts} left")

    def folder(self, name):
        place = self.root / name.replace(" ", "-")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def mount(self, place, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def neighbours(place):
    """Files and folders with names like ours that are not ours."""
    for name in ("out.compress-old", "out.old", "out2", "compress-work"):
        (place / name).mkdir()
        (place / name / "precious.txt").write_text("years of work")
    (place / "precious.txt").write_text("years of work")


def manifest(place):
    """Every path below a folder, and what it is or holds."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_symlink():
            found[name] = "link to " + os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "other"
    return found


def contents(output):
    """An output's files; of records and cards only that they are there, since they hold times."""
    told = ("compression.json", "README.md")
    return {path: "" if path.endswith(told) else digest for path, digest in manifest(output).items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("program")
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--crowds", type=int, default=10)
    arguments.add_argument("--disks", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    campaign = Campaign(given.program, given.seed)
    parts = [
        ("kills", lambda: campaign.kills(given.kills)),
        ("crowds", lambda: campaign.crowds(given.crowds)),
        ("forced", campaign.forced),
    ]
    mounts = os.geteuid() == 0 and shutil.which("mount")
    probe = campaign.folder("probe")
    mounts = mounts and subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(probe)], capture_output=True).returncode == 0
    if mounts:
        subprocess.run(["umount", str(probe)], check=True)
        parts += [("disks", lambda: campaign.disks(given.disks)), ("parents", campaign.parents)]
    else:
        print("full disks and read-only folders: skipped, no tmpfs can be mounted here")
    for name, part in parts:
        clock = time.monotonic()
        part()
        print(f"{name}: {time.monotonic() - clock:.0f} s", flush=True)
    shutil.rmtree(campaign.root)
    print(f"{len(campaign.failures)} wrong")
    sys.exit(bool(campaign.failures))


if __name__ == "__main__":
    main()
