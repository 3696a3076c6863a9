"""Latency by the clock: half the highest rate with and without training and event streams, three times the highest rate, health.

    bench_overload.py [SECONDS [ROUNDS]]       ONELIPD=build/server/onelipd ONELIP_BENCH=build/clients/bench/onelip-bench

The MLP of bench_serving.py, batch 1, binary; the generator shares the cores with the daemon. Poisson arrivals, latencies from the
intended time. Half the rate: p99 with training is to be at most the larger of three times that without and 5 ms. Three times the
rate, in turns with the highest: goodput at least 90 % of that, health within 5 ms (p99). 200 event streams that follow a job are to make p99 at most
1.2 times that with the job alone.
"""

import json
import os
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "http"))
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
from daemon import MLP, Daemon, tensor  # noqa: E402

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 3
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
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


class Readers(threading.Thread):
    """Event streams of one job, read as they come."""

    def __init__(self, d, job, n):
        super().__init__()
        self.selector, self.going, self.bytes = selectors.DefaultSelector(), True, 0
        for i in range(n):
            s = socket.socket()
            s.bind((f"127.0.0.{2 + i // 100}", 0))  # an address may have 128 connections
            s.connect((d.host, d.port))
            s.sendall(f"GET /v2/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            self.selector.register(s, selectors.EVENT_READ)
        self.start()

    def run(self):
        while self.going:
            for key, _ in self.selector.select(0.1):
                self.bytes += len(key.fileobj.recv(65536))
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


def streams(d, half):
    """A job at work on another model, with and without streams that follow it."""
    rows = "".join(f"{i % 5},{i % 7},{i % 3},{i % 2},{i % 3}\n" for i in range(2000))
    d.put("/v2/datasets/toy?label=label", "a,b,c,d,label\n" + rows)
    d.create("toy", MLP, {**TRAINING, "loss": {"class_name": "MulticlassHKR", "config": {"alpha": 10.0}}})
    job = d.post("/v2/jobs", {"type": "train", "model": "toy", "dataset": "toy", "epochs": 100000, "checkpoint_every": "never"}).json["id"]
    d.wait(lambda: d.get(f"/v2/jobs/{job}").json["progress"]["step"] > 10, "the job")
    ratios = []
    for _ in range(3):
        alone = show("a job meanwhile", load(d, *half))["latency_us"]["p99"]
        readers = Readers(d, job, 200)
        followed = show("and 200 streams of its events", load(d, *half))["latency_us"]["p99"]
        readers.going = False
        readers.join()
        ratios.append(followed / alone)
    print(f"{'':34} p99 with streams {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}), {readers.bytes} bytes read")
    d.post(f"/v2/jobs/{job}/cancel")


def overload(d):
    goodputs, health = [], []
    for _ in range(ROUNDS):
        highest = show("closed loop, 32 connections", load(d, "--concurrency-range", "32"))["requests_per_second"]
        over = show("three times that, 120 connections", load(d, "--request-rate-range", f"{3 * highest:.0f}", "--connections", "120"))
        goodputs.append(over["requests_per_second"] / highest)
        health.append(over["health_us"]["p99"])
    print(f"{'':34} goodput {statistics.median(goodputs):.2f} of the highest ({min(goodputs):.2f} to {max(goodputs):.2f}; 0.9 at least), "
          f"health p99 {statistics.median(health):.0f} us ({min(health):.0f} to {max(health):.0f}; 5000 at most)")


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
    streams(d, half)
    overload(d)
