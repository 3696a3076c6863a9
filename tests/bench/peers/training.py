"""What the peers of bench_training.py share: the folder that all read, and the loop that answers "so many steps"."""

import json
import pathlib
import sys
import time

import numpy as np


class Folder:
    """Folder: definition.json, manifest and its tensors, x.f32 and y.f32, in batches."""

    def __init__(self, path, batch):
        path = pathlib.Path(path)
        self.layers = json.loads((path / "definition.json").read_text())["config"]["layers"]
        self.input = self.layers[0]["config"]["batch_input_shape"][1:]
        self.weights = {}
        for line in (path / "manifest").read_text().splitlines():
            name, *shape = line.split()
            self.weights[name] = np.fromfile(path / f"{name.replace('/', '.')}.f32", np.float32).reshape([int(v) for v in shape])
        y = np.fromfile(path / "y.f32", np.float32).astype(np.int64)
        x = np.fromfile(path / "x.f32", np.float32).reshape([len(y), *self.input])
        self.batches = [(x[i:i + batch], y[i:i + batch]) for i in range(0, len(y) - batch + 1, batch)]


def serve(about, batches, step):
    """For each count on standard input: that many steps, their losses and milliseconds as a line of JSON."""
    print(json.dumps({"about": about}), flush=True)
    at = 0
    for line in sys.stdin:
        loss, ms = [], []
        for _ in range(int(line)):
            x, y = batches[at % len(batches)]
            begin = time.perf_counter()
            told = float(step(x, y))
            ms.append((time.perf_counter() - begin) * 1e3)
            loss.append(told)
            at += 1
        print(json.dumps({"loss": loss, "ms": ms}), flush=True)
