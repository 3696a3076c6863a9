"""Latency by the clock: half the highest rate with and without training, three times the highest rate, health meanwhile.

    bench_overload.py [SECONDS]       ONELIPD=build/server/onelipd ONELIP_BENCH=build/clients/bench/onelip-bench

The MLP of bench_serving.py, batch 1, binary; the generator shares the cores with the daemon. Poisson arrivals, latencies from the
intended time. Half the rate: p99 with training is to be at most the larger of three times that without and 5 ms. Three times the
rate: goodput at least 90 % of the highest, health within 5 ms (p99).
"""

import json
import os
import pathlib
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "http"))
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
from daemon import Daemon, tensor  # noqa: E402

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 3
DEFINITION = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 784], "name": "x"}},
    {"class_name": "SpectralDense", "config": {"units": 256, "name": "d1"}},
    {"class_name": "GroupSort2", "config": {"name": "s1"}},
    {"class_name": "SpectralDense", "config": {"units": 128, "name": "d2"}},
    {"class_name": "GroupSort2", "config": {"name": "s2"}},
    {"class_name": "SpectralDense", "config": {"units": 10, "name": "y"}}]}}
TRAINING = {"optimizer": "adam", "loss": {"class_name": "TauSparseCategoricalCrossentropy", "config": {"tau": 10.0}}}


def load(d, *options):
    said = subprocess.run([os.environ["ONELIP_BENCH"], "-u", f"{d.host}:{d.port}", "-m", "mlp", "--json", "-r", "3", "-p",
                           str(SECONDS * 1000), "--health-interval", "10", *options], capture_output=True, text=True)
    return json.loads(said.stdout)["experiments"][0]


def show(what, e):
    answers = ", ".join(f"{k}: {v}" for k, v in e["answers"].items() if v)
    print(f"{what:34} {e['requests_per_second']:8.0f} req/s  p50 {e['latency_us']['p50']:7.0f}  p99 {e['latency_us']['p99']:7.0f}  "
          f"health p99 {e['health_us']['p99']:6.0f} us  {answers}", flush=True)
    return e


class Training(threading.Thread):
    """One step after the other until told to stop."""

    def __init__(self, d):
        super().__init__()
        self.d, self.going, self.steps = d, True, 0
        x = [((i * 7919) % 10007) / 10007 for i in range(64 * 784)]
        self.body = json.dumps({"inputs": [tensor("x", [64, 784], x), tensor("y_true", [64], [i % 10 for i in range(64)], "INT64")]})
        self.start()

    def run(self):
        while self.going:
            assert self.d.post("/v2/models/mlp/train_step", self.body).status == 200
            self.steps += 1


with Daemon() as d:
    d.create("mlp", DEFINITION, TRAINING)
    highest = show("closed loop, 32 connections", load(d, "--concurrency-range", "32"))["requests_per_second"]
    half = ["--request-rate-range", f"{highest / 2:.0f}"]
    alone = show("half of it, Poisson", load(d, *half))["latency_us"]["p99"]
    training = Training(d)
    trained = show("the same while training", load(d, *half, "--verify", "--tolerance", "1e-4"))
    training.going = False
    training.join()
    print(f"{'':34} {training.steps} steps meanwhile; p99 {trained['latency_us']['p99'] / alone:.1f}x, "
          f"bound {max(3 * alone, 5000):.0f} us; revisions {trained['verify']}")
    over = show("three times the highest, 120 conn.", load(d, "--request-rate-range", f"{3 * highest:.0f}", "--connections", "120"))
    print(f"{'':34} goodput {over['requests_per_second'] / highest:.2f} of the highest")
