"""Many histories of limit.lua; history.py says what one is."""

import pathlib
import tempfile
import time
from dataclasses import dataclass

import hypothesis

import harness
from harness import limits, scripts

from . import history

# More histories than there is ever time for.
MANY = 10**6


class Enough(BaseException):
    """The time is over; not for hypothesis to catch."""


class Refuted(Exception):
    """A history that breaks a promise, as short as hypothesis could make
    it."""


@dataclass
class Figures:
    histories: int = 0
    answers: int = 0
    admissions: int = 0

    def __str__(self):
        return (f"{self.histories} histories of the script, {self.answers} "
                f"answers and uses, {self.admissions} admissions checked to "
                f"the microsecond")


def prove(seconds, seed):
    """Proves the script for so many seconds, and returns the Figures."""
    redis = harness.RedisServer()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            library = limits.library(folder)
            text = scripts.compiled(
                folder, scripts.ROOT / "src/redis/scripts/limit.lua")
            return prove_text(redis, library, text, seconds, seed)
    finally:
        redis.close()


def prove_text(redis, library, text, seconds, seed):
    figures = Figures()
    end = time.monotonic() + seconds
    broken = None

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=MANY, database=None, deadline=None,
        report_multiple_bugs=False,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(history.histories())
    def one(drawn):
        nonlocal broken

        if broken is None and time.monotonic() > end:
            raise Enough

        policies, cost, steps = drawn
        each = history.History(
            limits.Script(redis, library, text, clock=True), policies, cost)
        try:
            each.run(steps)
        except Exception as error:
            broken = "\n".join([
                f"{type(error).__name__}: {error}",
                f"policies {policies}, each request costs {cost}",
                *each.trace])
            raise

        figures.histories += 1
        figures.answers += len(each.trace)
        figures.admissions += sum(len(book.admitted) for book in each.books)

    try:
        one()
    except Enough:
        pass
    except Exception as error:
        raise Refuted(broken or str(error)) from error

    return figures
