"""How long a training step takes: onelip beside deel-lip on TensorFlow and beside torch, on this machine in the same minutes.

    bench_training.py BUILD [mlp|cnn] [ROUNDS [STEPS]]

TF_PYTHON is a Python with tests/golden/requirements.txt, TORCH_PYTHON one with peers/requirements-torch.txt.

All train the same network from the same weights on the same batches; peers wait for their turn while another one runs, so that
each round measures all in the same seconds. A figure is the median of the rounds' medians. The losses of the warm-up steps are
compared: a peer that computes something else ends the run. `make bench-training` makes the Pythons and calls this.
"""

import json
import math
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "http"))

import trajectory  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
ONLY = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] in ("mlp", "cnn") else None
ROUNDS, STEPS = (int(v) for v in (sys.argv[2 + bool(ONLY):] + ["5", "30"][len(sys.argv) - 2 - bool(ONLY):])[:2])
WARM = 40
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "TF_"))}
ENVIRONMENT.update(PYTHONPATH=str(HERE / "peers"), TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

layer = trajectory.layer
NETS = {
    "mlp": {"batch": 64, "input": [784],
            "layers": [layer("SpectralDense", units=256, name="d1"), layer("GroupSort2", name="s1"),
                       layer("SpectralDense", units=128, name="d2"), layer("GroupSort2", name="s2"),
                       layer("SpectralDense", units=10, name="d3")],
            "shapes": {"d1/kernel": [784, 256], "d2/kernel": [256, 128], "d3/kernel": [128, 10]}},
    "cnn": {**trajectory.RUNS["cnn"], "batch": 128},
}
TRAINING = {"optimizer": {"class_name": "Adam", "config": {"learning_rate": 1e-3}},
            "loss": {"class_name": "TauCategoricalCrossentropy", "config": {"tau": 10.0}}}
# (net, threads): peer -> (at least, goal). A step must be so many times as fast.
RACES = {
    ("mlp", 2): {"tensorflow": (4.5, 6), "torch autograd": (6, 8), "torch by_hand": (None, None), "torchlip": (6, None)},
    ("mlp", 1): {"tensorflow": (3.5, None)},
    ("cnn", 2): {"tensorflow": (4, 6), "torchlip": (3.5, None)},
}
# What losses may differ by: the first one, and those of the warm-up. torch's Adam has its epsilon in another place, which moves
# weights that hardly learn; torchlip's norm comes from one power iteration, and its convolutions' factor knows no image size.
APART = {"tensorflow": (1e-5, 1e-3), "torch autograd": (1e-5, 0.03), "torch by_hand": (1e-5, 0.03), "torchlip": (0.1, 0.3)}


class Side:
    def __init__(self, name, command):
        self.name, self.ms, self.phases = name, [], []
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=ENVIRONMENT)
        self.about = self.read()["about"]
        self.warm = self.steps(WARM)["loss"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended")
        return json.loads(line)

    def steps(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.read()

    def turn(self):
        told = self.steps(STEPS)
        self.ms.append(statistics.median(told["ms"]))
        self.phases.append(told)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def samples(count):
    """Fashion-MNIST where it is installed, else noise around ten patterns."""
    if trajectory.DATA.exists():
        return "Fashion-MNIST", *trajectory.samples("train", 0, count)
    rng = random.Random(1)
    patterns = [[rng.random() for _ in range(784)] for _ in range(10)]
    labels = [rng.randrange(10) for _ in range(count)]
    pixels = [min(1, max(0, v + rng.gauss(0, 0.3))) for label in labels for v in patterns[label]]
    return "ten noisy patterns", struct.pack(f"<{len(pixels)}f", *pixels), labels


def write(folder, net, x, y):
    run = {**net, "loss": None}
    (folder / "definition.json").write_text(json.dumps(trajectory.definition(run)))
    (folder / "training.json").write_text(json.dumps(TRAINING))
    (folder / "x.f32").write_bytes(x)
    (folder / "y.f32").write_bytes(struct.pack(f"<{len(y)}f", *y))
    lines = []
    for name, (shape, values) in trajectory.weights(run).items():
        lines.append(" ".join([name, *map(str, shape)]))
        (folder / f"{name.replace('/', '.')}.f32").write_bytes(struct.pack(f"<{math.prod(shape)}f", *values))
    (folder / "manifest").write_text("\n".join(lines) + "\n")


def command(peer, folder, batch, threads):
    if peer == "onelip":
        return [BUILD / "tests/bench/trainer", folder, batch, threads]
    if peer == "tensorflow":
        return [os.environ["TF_PYTHON"], HERE / "peers/train_tf.py", folder, batch, threads, threads]
    return [os.environ["TORCH_PYTHON"], HERE / "peers/train_torch.py", folder, batch, threads, peer.split()[-1]]


def apart(ours, theirs):
    each = [abs(a - b) / max(1, abs(b)) for a, b in zip(ours, theirs)]
    return each[0], max(each)


def race(folder, net, threads, peers):
    batch, missed, sides = NETS[net]["batch"], [], []
    try:
        for name in ("onelip", *peers):
            variable = "TF_PYTHON" if name == "tensorflow" else "TORCH_PYTHON"
            if name == "onelip" or os.environ.get(variable):
                sides.append(Side(name, command(name, folder, batch, threads)))
            else:
                print(f"{name}: skipped ({variable})")
        for _ in range(ROUNDS):
            for side in sides:
                time.sleep(0.3)  # threads of the one before go to sleep
                side.turn()
    finally:
        for side in sides:
            side.stop()
    ours = sides[0]
    print(f"{net}, batch {batch}, {threads} threads: medians of {ROUNDS} rounds of {STEPS} steps")
    mine = statistics.median(ours.ms)
    told = ours.phases[-1]
    print(f"  {'onelip':15} {mine:7.2f} ms ({min(ours.ms):.2f} to {max(ours.ms):.2f})   {ours.about}; "
          + ", ".join(f"{k} {v:.2f}" for k, v in told["phases"].items()) + "; " + ", ".join(told["layers"]))
    for side in sides[1:]:
        least, goal = peers[side.name]
        theirs = statistics.median(side.ms)
        ratio, difference = theirs / mine, apart(ours.warm, side.warm)
        wanted = "" if least is None else f" (at least {least}{f', goal {goal}' if goal else ''})"
        print(f"  {side.name:15} {theirs:7.2f} ms ({min(side.ms):.2f} to {max(side.ms):.2f})   {ratio:.2f}x{wanted}   {side.about}; "
              f"losses apart by {difference[0]:.1e} at first, then {difference[1]:.1e}")
        if any(d > allowed for d, allowed in zip(difference, APART[side.name])):
            raise SystemExit(f"{side.name} computes something else: losses {ours.warm[-3:]} and {side.warm[-3:]}")
        if least and ratio < least:
            missed.append(f"{net}, {threads} threads, {side.name}: {ratio:.2f}x, wanted {least}x")
    return missed


def main():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    what, x, y = samples(8192)
    print(f"cpu {cpu}, {os.cpu_count()} cores; {what}", flush=True)
    missed = []
    for (net, threads), peers in RACES.items():
        if ONLY in (None, net):
            with tempfile.TemporaryDirectory(prefix="onelip-bench-") as folder:
                write(pathlib.Path(folder), NETS[net], x, y)
                missed += race(folder, net, threads, peers)
                sys.stdout.flush()
    for text in missed:
        print("missed:", text)
    raise SystemExit(1 if missed else 0)


main()
