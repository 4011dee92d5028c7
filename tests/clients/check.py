"""What the scripts share: named checks, whose outcomes are printed and compared between brokers.

Every script is run as `SCRIPT BOOTSTRAP [more]`. It prints a line `name<TAB>outcome` per check, where the outcome is
"ok" or what was seen instead, and ends with 0 if the broker under test gave every answer at all. The caller decides
which outcomes it accepts: the same script runs against Playhouse and against Apache Kafka.
"""

import sys
import time
import traceback
import uuid

RUN = uuid.uuid4().hex[:8]


def name(what):
    """A name of this run: scripts may share a broker, and may be run again."""
    return f"{what}-{RUN}"


def check(what):
    """Runs the function at once; what it returns, or the kind of what it raises, is the outcome."""

    def run(function):
        began = time.time()
        try:
            outcome = function()
            outcome = "ok" if outcome is None else str(outcome)
        except Exception as error:  # Everything is an outcome.
            traceback.print_exc()
            outcome = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        print(f"{what}\t{outcome}", flush=True)
        print(f"{what} took {time.time() - began:.1f} s", file=sys.stderr)
        return function

    return run


def equal(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{seen!r} instead of {wanted!r}")


def until(condition, seconds=30):
    """Waits for a condition, with a deadline."""
    deadline = time.time() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.time() > deadline:
            raise AssertionError("not within the deadline")
        time.sleep(0.05)
