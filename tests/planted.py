"""Baselines with a fault each, in a module that another process can import."""

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from segue.evaluation.baselines.contract import Baseline
from segue.evaluation.baselines.counting import Popularity


@dataclass(frozen=True)
class Planted(Baseline):
    """Popularity that begins with a fault."""

    def count(self, sequences, n_items, features=None):
        self.fault()
        return Popularity().count(sequences, n_items, features)

    def of_counts(self, counts):
        return Popularity().of_counts(counts)

    def fault(self):
        raise NotImplementedError


class Segfault(Planted):
    title: ClassVar[str] = "segfault"

    def fault(self):
        ctypes.string_at(0)


class Killed(Planted):
    title: ClassVar[str] = "killed"

    def fault(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Aborted(Planted):
    """As a library ends that complains first."""

    title: ClassVar[str] = "aborted"

    def fault(self):
        os.write(1, b"no answer, though on standard output\n")
        os.write(2, b"BLAS: bad memory unallocation!\n")
        os.abort()


class Exits(Planted):
    title: ClassVar[str] = "exits"

    def fault(self):
        os._exit(3)


class Greedy(Planted):
    """Takes more memory than its process may, while this one has what it needs."""

    title: ClassVar[str] = "greedy"

    def fault(self):
        import resource

        # What a limited machine does; never that of the process with the report.
        assert sys.argv[0] == "-c"
        resource.setrlimit(resource.RLIMIT_AS, (2**32, resource.getrlimit(resource.RLIMIT_AS)[1]))
        np.ones(2**30)


class Raises(Planted):
    title: ClassVar[str] = "raises"

    def fault(self):
        raise RuntimeError("the moon is full")


class Hangs(Planted):
    title: ClassVar[str] = "hangs"

    def fault(self):
        time.sleep(600)


class ScoresBadly(Planted):
    """Learns, and crashes when it is asked."""

    title: ClassVar[str] = "scores badly"

    def fault(self):
        pass

    def of_counts(self, counts):
        return FaultyScores()


class FaultyScores:
    name = "scores badly"

    def score(self, histories):
        ctypes.string_at(0)


def crash_at(given, key):
    """Return `given + key`, but for 2, where the process ends."""
    if key == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return given + key, os.getpid()


def name_and_process(given, key):
    return key.__name__, os.getpid()


def doubled(given, key, tell):
    """Tell which key is at work, and return `given * (key + 1)`."""
    tell(f"{key} of {given}")
    return given * (key + 1)


def tell(file, key):
    """Write who is at work into a file, all of it or nothing, and go on for ten minutes."""
    part = Path(f"{file}.part")
    part.write_text(str(os.getpid()))
    part.rename(file)
    time.sleep(600)
