#!/usr/bin/env python3
"""Recipes on the whole of Fashion-MNIST, over HTTP: how accurate, how robust, what certificates find, how long.

    ONELIPD=build/server/onelipd python3 tests/bench/recipes.py [recipe …]

MLP 784-256-128-10 with GroupSort2, Adam falling as a cosine, batches of 256: crossentropy with temperature 10 (six epochs from
1e-3), MulticlassHKR alpha 50, margin 0.5 with a disjoint head (the same), and with margin 0.35, ten epochs from 2e-3, which is more
accurate, certifies more, and more beyond what deel-lip's own factor of 2 finds. Standard library only; not part of `make check`.
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
EPSILONS = [36 / 255, 72 / 255, 0.5, 1.0]
# name: the head, the loss, epochs, the rate to begin with
RECIPES = {
    "tau-crossentropy": ("SpectralDense", {"class_name": "TauCategoricalCrossentropy", "config": {"tau": 10.0}}, 6, 1e-3),
    "HKR": ("FrobeniusDense", {"class_name": "MulticlassHKR", "config": {"alpha": 50.0, "min_margin": 0.5}}, 6, 1e-3),
    "HKR-0.35": ("FrobeniusDense", {"class_name": "MulticlassHKR", "config": {"alpha": 50.0, "min_margin": 0.35}}, 10, 2e-3),
}


def request(n, *tensors):
    header = json.dumps({"inputs": [{"name": name, "shape": [n, *shape], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
                                    for name, shape, kind, data in tensors]}).encode()
    return header + b"".join(t[3] for t in tensors), {"Inference-Header-Content-Length": str(len(header))}


def batch(x, y):
    return request(len(y), ("x", [784], "FP32", x), ("y_true", [], "UINT8", y))


def certified(d, m, x, y):
    """Provable accuracy by the certificates, by deel-lip's formula, and how long the answer took."""
    header, headers = batch(x, bytes(y))
    length = int(headers["Inference-Header-Content-Length"])
    asked = json.loads(header[:length])
    asked.update(epsilons=EPSILONS, parameters={"local": False}, outputs=[{"name": "label", "parameters": {"binary_data": True}}])
    text = json.dumps(asked).encode()
    start = time.monotonic()
    told = d.call("POST", m + "/certify", text + header[length:], {"Inference-Header-Content-Length": str(len(text))})
    seconds = time.monotonic() - start
    body = json.loads(told.body[:int(told.headers["Inference-Header-Content-Length"])])["certificate"]
    return body["provable_accuracy"], body["reference"]["provable_accuracy"], seconds


def main(names):
    row = 784 * 4
    x, y = trajectory.samples("train", 0, 60000)
    test_x, test_y = trajectory.samples("t10k", 0, 10000)
    with Daemon("--checkpoint-seconds", "60") as d:
        for name, (head, loss, epochs, first) in ((n, RECIPES[n]) for n in names):
            steps = len(y) // BATCH * epochs
            rate = {"class_name": "CosineDecay", "config": {"initial_learning_rate": first, "decay_steps": steps}}
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
            ours, theirs, took = certified(d, m, test_x, test_y)
            print(f"{name}: certified at {', '.join(f'{e:.3f}' for e in EPSILONS)}: {ours}; by deel-lip's factor {theirs}; "
                  f"{ours[2] / theirs[2]:.4f} times as many at 0.5; {len(test_y)} certificates in {took:.2f} s", flush=True)
            d.delete(m)


if not pathlib.Path(trajectory.DATA).exists():
    sys.exit("dataset-fashion-mnist is not installed")
main(sys.argv[1:] or list(RECIPES))
