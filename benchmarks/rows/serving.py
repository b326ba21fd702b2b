"""Rows for a served model: its rate over HTTP against the network's own rate."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.harness import Goal, Measured, Row, Setup, Side, rates
from benchmarks.networks import network_of, trial_of
from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE
from bp_lcz.model.checkpoint import load_classifier, versions, write_checkpoint
from bp_lcz.model.memory import OF_BATCHES, keep_freed_memory
from bp_lcz.records import Checkpoint
from bp_lcz.serving.client import Client

REQUEST = 64
"""Number of patches of a request."""


def serving(setup: Setup) -> Measured:
    """Requests of a client, one after the other, against the network on the same patches."""
    folder, size, requests = setup.folder / "served", 2 if setup.quick else REQUEST, 1 if setup.quick else 30
    folder.mkdir(exist_ok=True)
    trial = trial_of("bp-lcz")
    settings = {key: value for key, value in trial if key != "name"}
    described = {"trial": trial.name, "source": None, "versions": versions(), "parameters": 0, **settings}
    write_checkpoint(folder, network_of(trial), Checkpoint(channels=ALL_CHANNELS, **described))
    rng = np.random.default_rng(1)
    sen1, sen2 = (
        rng.uniform(0, 0.4, (size, PATCH_SIDE, PATCH_SIDE, len(bands))).astype(np.float32)
        for bands in (ALL_CHANNELS.sen1, ALL_CHANNELS.sen2)
    )

    def side(predict_proba: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Side:
        return Side(lambda _: [predict_proba(sen1, sen2) for _ in range(requests)], requests * size)

    alone = load_classifier(folder, setup.device).predict_proba
    with running_server(folder, setup.threads) as url, Client(url) as connected:
        client = connected.predict_proba
        if client(sen1, sen2).tobytes() != alone(sen1, sen2).tobytes():
            raise AssertionError("the server gives other bytes than the network")
        keep_freed_memory(OF_BATCHES)  # as the server does
        return Measured(
            *rates(setup, side(client), side(alone), wide=0.03),
            note=f"float32, {size} patches a request, each sent when the answer of the one before is there",
        )


@contextmanager
def running_server(model: Path, threads: int) -> Iterator[str]:
    """Address of `bp-lcz serve` with the model of a folder."""
    command = [sys.executable, "-W", "ignore", "-m", "bp_lcz.cli", "serve", str(model.resolve()), "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


ROWS = (Row("serving", "patches over HTTP", "the network alone", "patches/s", Goal(0.8), serving),)
