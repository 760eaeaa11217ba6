"""Programs that take turns: running one, and choosing among what several turns gave."""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple


class Turn(NamedTuple):
    seconds: float
    printed: str
    megabytes: float  # the largest resident set, mapped files included

    def json(self):
        return json.loads(self.printed)


def process(command, threads):
    """Runs a command to its end, in a process of its own; ends the program where it fails."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as complaint:
        begin = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaint, env=environment, text=True)
        printed = running.stdout.read()
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - begin
        if status:
            complaint.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{complaint.read()}")
    return Turn(seconds, printed, usage.ru_maxrss / 1000)


def in_turns(rounds, runs):
    """What each of some named functions returned, called once a round one after the other."""
    found = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found
