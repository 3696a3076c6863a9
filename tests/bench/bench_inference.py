"""How long a forward pass takes: libonelip beside onnxruntime and torch, on this machine in the same seconds.

    bench_inference.py LIBONELIP [mlp|cnn] [ROUNDS [SECONDS]]

TORCH_PYTHON is a Python with peers/requirements-torch.txt. `make bench-inference` makes it and calls this.

All compute the same condensed network on the same inputs; their outputs are compared first. Then each round measures all, one
behind the other, each for so many seconds at every batch. A figure is the median of the rounds. Of a peer's settings the best
counts, chosen anew for every figure.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "http"))

import trajectory  # noqa: E402

LIBRARY = pathlib.Path(sys.argv[1]).resolve()
ONLY = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] in ("mlp", "cnn") else None
ROUNDS, SECONDS = (float(v) for v in (sys.argv[2 + bool(ONLY):] + ["9", "0.05"][len(sys.argv) - 2 - bool(ONLY):])[:2])
PYTHON = os.environ["TORCH_PYTHON"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "MKL_", "ORT_"))}
REST = 0.003 # seconds between turns: threads that spin for more work give up
APART = 2e-5 # of outputs around 1, sums of up to 1568 terms in float32

layer = trajectory.layer
NETS = {
    "mlp": {"input": [784], "layers": [layer("SpectralDense", units=256, name="d1"), layer("GroupSort2", name="s1"),
                                       layer("SpectralDense", units=128, name="d2"), layer("GroupSort2", name="s2"),
                                       layer("SpectralDense", units=10, name="d3")]},
    "cnn": trajectory.RUNS["cnn"],
}
SETTINGS = {"onnxruntime": ["spin", "sleep"], "torch": ["eager", "last", *(["compiled"] if shutil.which("g++") else [])]}
# (net, batch, threads): how many times as fast as (onnxruntime: at least, goal; torch: at least)
RACES = {
    ("mlp", 1, 1): (1.5, None, 4), ("mlp", 64, 1): (0.95, 1, 1.8), ("mlp", 256, 1): (0.95, 1, 1.8),
    ("cnn", 1, 1): (0.8, 1.1, 2), ("cnn", 64, 1): (0.8, 1.1, 2),
    ("mlp", 1, 2): (1.5, None, 4), ("mlp", 64, 2): (0.9, 1, 1.8), ("mlp", 256, 2): (0.9, 1, 1.8),
    ("cnn", 1, 2): (0.8, 1.1, 2), ("cnn", 64, 2): (0.8, 1.1, 2),
}
BOTH = {"mlp": [(256, 1.7)]} # net: (batch, how many times as fast two threads are)


class Side:
    def __init__(self, folder, threads, kind, variant):
        self.kind = kind
        self.process = subprocess.Popen([PYTHON, str(HERE / "peers/inference.py"), folder, str(threads), kind, variant],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.about = self.read()["about"]
        self.us = {}

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind} ended")
        return json.loads(line)

    def ask(self, net, batch, seconds):
        self.process.stdin.write(f"{net} {batch} {seconds}\n")
        self.process.stdin.flush()
        return self.read()

    def turn(self, net, batch):
        self.us.setdefault((net, batch), []).append(self.ask(net, batch, SECONDS)["us"])

    def figure(self, net, batch):
        return statistics.median(self.us[net, batch])

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def compare(sides, net, batch):
    ours = sides[0].ask(net, batch, 0)["y"]
    for side in sides[1:]:
        worst = max(abs(a - b) for p, q in zip(ours, side.ask(net, batch, 0)["y"]) for a, b in zip(p, q))
        if not worst <= APART:
            raise SystemExit(f"{side.about}: {net}, batch {batch}: outputs are {worst:.1e} apart")


def measure(folder, threads, cases):
    sides = []
    try:
        sides = [Side(folder, threads, "onelip", str(LIBRARY))]
        sides += [Side(folder, threads, kind, variant) for kind, variants in SETTINGS.items()
                  for variant in (variants if threads > 1 or kind == "torch" else variants[:1])]
        for case in cases:
            compare(sides, *case)
        for _ in range(int(ROUNDS)):
            for case in cases:
                for side in sides:
                    time.sleep(REST)
                    side.turn(*case)
    finally:
        for side in sides:
            side.stop()
    return sides


def best(sides, kind, net, batch):
    return min((side for side in sides if side.kind == kind), key=lambda side: side.figure(net, batch))


def judge(sides, net, batch, threads, missed):
    mine = sides[0].us[net, batch]
    median = statistics.median(mine)
    print(f"{net}, batch {batch}, {threads} thread{'s' if threads > 1 else ''}: {median:.1f} us ({min(mine):.1f} to {max(mine):.1f})")
    least, goal, torch = RACES[net, batch, threads]
    for kind, wanted, hoped in (("onnxruntime", least, goal), ("torch", torch, None)):
        side = best(sides, kind, net, batch)
        theirs = side.us[net, batch]
        ratio = side.figure(net, batch) / median
        print(f"    {side.about:32} {side.figure(net, batch):8.1f} us ({min(theirs):.1f} to {max(theirs):.1f})  {ratio:5.2f}x "
              f"(at least {wanted}{f', goal {hoped}' if hoped else ''})")
        if ratio < wanted:
            missed.append(f"{net}, batch {batch}, {threads} threads, {kind}: {ratio:.2f}x, wanted {wanted}x")
    return median


def main():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"cpu {cpu}, {os.cpu_count()} cores; medians of {int(ROUNDS)} rounds", flush=True)
    missed, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="onelip-bench-") as folder:
        for net, run in NETS.items():
            if ONLY in (None, net):
                (pathlib.Path(folder) / f"{net}.json").write_text(json.dumps(trajectory.definition(run)))
        for threads in (1, 2):
            cases = [(net, batch) for net, batch, t in RACES if t == threads and ONLY in (None, net)]
            sides = measure(folder, threads, cases)
            if threads == 1:
                print(f"libonelip: {sides[0].about}")
            for net, batch in cases:
                figures[net, batch, threads] = judge(sides, net, batch, threads, missed)
            sys.stdout.flush()
    for net, wanted in BOTH.items():
        for batch, least in wanted if ONLY in (None, net) else []:
            ratio = figures[net, batch, 1] / figures[net, batch, 2]
            print(f"{net}, batch {batch}: two threads are {ratio:.2f}x as fast as one (at least {least})")
            if ratio < least:
                missed.append(f"{net}, batch {batch}: two threads {ratio:.2f}x, wanted {least}x")
    for text in missed:
        print("missed:", text)
    raise SystemExit(1 if missed else 0)


main()
