#!/usr/bin/env python3
"""Two recipes on the whole of Fashion-MNIST, over HTTP: how accurate, how robust, how long.

    ONELIPD=build/server/onelipd python3 tests/bench/recipes.py [epochs]

MLP 784-256-128-10 with GroupSort2, Adam 1e-3 falling as a cosine, batches of 256, six epochs: crossentropy with temperature
10, and MulticlassHKR alpha 50, margin 0.5 with a disjoint head. Standard library only; not part of `make check`.
"""

import json
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))

import trajectory  # noqa: E402
from daemon import Daemon  # noqa: E402

BATCH = 256
RECIPES = {
    "tau-crossentropy": ("SpectralDense", {"class_name": "TauCategoricalCrossentropy", "config": {"tau": 10.0}}),
    "HKR": ("FrobeniusDense", {"class_name": "MulticlassHKR", "config": {"alpha": 50.0, "min_margin": 0.5}}),
}


def request(n, *tensors):
    header = json.dumps({"inputs": [{"name": name, "shape": [n, *shape], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
                                    for name, shape, kind, data in tensors]}).encode()
    return header + b"".join(t[3] for t in tensors), {"Inference-Header-Content-Length": str(len(header))}


def batch(x, y):
    return request(len(y), ("x", [784], "FP32", x), ("y_true", [], "UINT8", y))


def main(epochs):
    row = 784 * 4
    x, y = trajectory.samples("train", 0, 60000)
    test_x, test_y = trajectory.samples("t10k", 0, 10000)
    steps = len(y) // BATCH * epochs
    rate = {"class_name": "CosineDecay", "config": {"initial_learning_rate": 1e-3, "decay_steps": steps}}
    with Daemon("--checkpoint-seconds", "60") as d:
        for name, (head, loss) in RECIPES.items():
            run = dict(trajectory.RUNS["mlp"])
            run["layers"] = run["layers"][:-1] + [trajectory.layer(head, units=10, name="y")]
            m = d.create("net", trajectory.definition(run), {
                "optimizer": {"class_name": "Adam", "config": {"learning_rate": rate}}, "loss": loss, "metrics": ["accuracy"]})
            order, shuffle, start, inside = list(range(len(y))), random.Random(1), time.monotonic(), 0
            for _ in range(epochs):
                shuffle.shuffle(order)
                for at in range(0, len(order) - BATCH + 1, BATCH):
                    chosen = order[at:at + BATCH]
                    answer = d.call("POST", m + "/train_step", *batch(b"".join(x[row * i:row * (i + 1)] for i in chosen),
                                                                     bytes(y[i] for i in chosen)))
                    assert answer.status == 200, answer
                    inside += sum(v for k, v in answer.json["parameters"].items() if k.endswith("_ns")) / 1e9
            seconds = time.monotonic() - start
            header, headers = batch(test_x, bytes(test_y))
            length = int(headers["Inference-Header-Content-Length"])
            asked = json.loads(header[:length])
            asked["metrics"] = ["accuracy", *({"class_name": "CategoricalProvableRobustAccuracy",
                                               "config": {"epsilon": e / 255, "name": f"provable at {e}/255"}} for e in (36, 72, 108))]
            text = json.dumps(asked).encode()
            told = d.call("POST", m + "/evaluate", text + header[length:], {"Inference-Header-Content-Length": str(len(text))})
            figures = {k: round(v, 4) for k, v in told.json["metrics"].items()}
            print(f"{name}: {steps} steps in {seconds:.1f} s, of them {inside:.1f} s training; {figures}", flush=True)
            d.delete(m)


if not pathlib.Path(trajectory.DATA).exists():
    sys.exit("dataset-fashion-mnist is not installed")
main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
