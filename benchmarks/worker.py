"""What a benchmark's worker process does: so many steps at a time as are asked for on standard input.

benchmarks/speed.py runs several workers in turn, so that all of them meet the same machine.
"""

import sys
import time


def say(what):
    print(what, flush=True)


def answer(step):
    """Say 'ready', then after each number read the seconds that so many steps took, until nobody asks any more."""
    say("ready")
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            step()
        say(time.perf_counter() - begun)
