"""How long a forward pass takes: libonelip beside onnxruntime and torch, on this machine in the same seconds.

    bench_inference.py BUILD [--net mlp|cnn] [--threads 1|2] [--rounds N] [--seconds S]

BUILD is a build folder with the library and tests/bench/peak, TORCH_PYTHON a Python with peers/requirements-torch.txt.
`make bench-inference` makes them and calls this.

All compute the same condensed network on the same inputs; their outputs are compared first. Then each round measures all, one
behind the other, each for so many seconds at every batch; a round that other programs disturbed is measured again, if there is
patience left. A figure is the median of the rounds, a ratio the median of each round's. Of a peer's settings the best counts,
chosen anew for every figure. Beside it stands how much arithmetic that is, and what share of the machine's peak, which is
measured in the same rounds. Where a peer is so quick that the wanted ratio would need more than the peak, the figure says so,
and BOUND of the peak is wanted instead.
"""

import argparse
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

asked = argparse.ArgumentParser()
asked.add_argument("build", type=pathlib.Path)
asked.add_argument("--net", choices=["mlp", "cnn"])
asked.add_argument("--threads", type=int, choices=[1, 2])
asked.add_argument("--rounds", type=int, default=9)
asked.add_argument("--seconds", type=float, default=0.05)
asked = asked.parse_args()
PYTHON = os.environ["TORCH_PYTHON"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "MKL_", "ORT_"))}
REST = 0.003 # seconds between turns: threads that spin for more work give up
APART = 2e-5 # of outputs around 1, sums of up to 1568 terms in float32
FOREIGN, PATIENCE = 0.1, 60 # of a core that others take; rounds that are measured again in all
BOUND = 0.9 # of the machine's peak, where no program can reach the wanted ratio
OPERATIONS = {"mlp": 2 * (784 * 256 + 256 * 128 + 128 * 10), # of products, a sample
              "cnn": 2 * (28 * 28 * 9 * 16 + 14 * 14 * 144 * 32 + 1568 * 64 + 64 * 10)}

layer = trajectory.layer
NETS = {
    "mlp": {"input": [784], "layers": [layer("SpectralDense", units=256, name="d1"), layer("GroupSort2", name="s1"),
                                       layer("SpectralDense", units=128, name="d2"), layer("GroupSort2", name="s2"),
                                       layer("SpectralDense", units=10, name="d3")]},
    "cnn": trajectory.RUNS["cnn"],
}
SETTINGS = {"onnxruntime": ["split spin", "halves spin", "split sleep", "split pinned", "halves pinned"],
            "torch": ["eager", "last", *(["compiled"] if shutil.which("g++") else [])]}
# (net, batch, threads): how many times as fast as (onnxruntime: at least, goal; torch: at least)
RACES = {
    ("mlp", 1, 1): (1.5, None, 4), ("mlp", 64, 1): (0.95, 1, 1.8), ("mlp", 256, 1): (0.95, 1, 1.8),
    ("cnn", 1, 1): (0.8, 1.1, 2), ("cnn", 64, 1): (0.8, 1.1, 2),
    ("mlp", 1, 2): (1.5, None, 4), ("mlp", 64, 2): (0.9, 1, 1.8), ("mlp", 256, 2): (0.9, 1, 1.8),
    ("cnn", 1, 2): (0.8, 1.1, 2), ("cnn", 64, 2): (0.8, 1.1, 2),
}
BOTH = {("mlp", 256): 1.7} # (net, batch): how many times as fast two threads are


class Side:
    """A process that is asked for microseconds: of a call, or as `peak` of 10^9 operations."""

    def __init__(self, kind, *command):
        self.kind = kind
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.us, self.foreign = {}, []

    def ready(self):
        self.about = self.read()["about"]
        return self

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind} ended")
        return json.loads(line)

    def ask(self, net, batch, seconds):
        self.process.stdin.write(f"{net} {batch} {seconds}\n")
        self.process.stdin.flush()
        return self.read()

    def ticks(self):
        return sum(int(v) for v in pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13])

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


def busy(sides):
    """Ticks that the machine was busy, those of the sides left out: for what else it worked, and waited for its host."""
    user, nice, system, _, _, irq, soft, stolen = (int(v) for v in open("/proc/stat").readline().split()[1:9])
    return user + nice + system + irq + soft + stolen - sum(side.ticks() for side in sides)


def play(sides, net, batch, patience):
    """One round; again while others disturb it and there is patience, of which the rest is returned."""
    while True:
        begin, others, us = time.monotonic(), busy(sides), []
        for side in sides:
            time.sleep(REST)
            us.append(side.ask(net, batch, asked.seconds)["us"])
        others = (busy(sides) - others) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begin)
        if others <= FOREIGN or not patience:
            break
        patience -= 1
    for side, took in zip(sides, us):
        side.us.setdefault((net, batch), []).append(took)
    sides[0].foreign.append(others)
    return patience


def network(folder, threads, kind, variant):
    return Side(kind, PYTHON, str(HERE / "peers/inference.py"), folder, str(threads), kind, variant)


def measure(folder, threads, cases):
    """The sides and their figures: ours, with one thread less and so on, the others, and last the machine's peak."""
    sides, patience = [], PATIENCE
    try:
        for t in range(threads, 0, -1):
            sides.append(network(folder, t, "onelip", str(asked.build.resolve() / "lib/.libs/libonelip.so")))
            sides[-1].ready() # and has left its kernels
        sides += [network(folder, threads, kind, variant) for kind, variants in SETTINGS.items()
                  for variant in variants if threads > 1 or not variant.endswith(("sleep", "pinned"))]
        for side in sides[threads:]:
            side.ready()
        for case in cases:
            compare(sides, *case)
        sides.append(Side("peak", str(asked.build.resolve() / "tests/bench/peak"), str(threads)).ready())
        for _ in range(asked.rounds):
            for case in cases:
                patience = play(sides, *case, patience)
    finally:
        for side in sides:
            side.stop()
    return sides


def best(sides, kind, net, batch):
    return min((side for side in sides if side.kind == kind), key=lambda side: side.figure(net, batch))


def judge(sides, net, batch, threads, missed):
    mine, giga = sides[0].us[net, batch], OPERATIONS[net] * batch / 1e9
    median = statistics.median(mine)
    limit = 1e6 / sides[-1].figure(net, batch) # GF/s
    share = statistics.median(giga * peak / us for peak, us in zip(sides[-1].us[net, batch], mine))
    print(f"{net}, batch {batch}, {threads} thread{'s' if threads > 1 else ''}: {median:.1f} us ({min(mine):.1f} to {max(mine):.1f}), "
          f"{1e6 * giga / median:.1f} GF/s, {100 * share:.0f} % of the peak of {limit:.1f}")
    least, goal, torch = RACES[net, batch, threads]
    for kind, wanted, hoped in (("onnxruntime", least, goal), ("torch", torch, None)):
        side = best(sides, kind, net, batch)
        theirs = side.us[net, batch]
        ratio = statistics.median(a / b for a, b in zip(theirs, mine))
        rate = 1e6 * giga / side.figure(net, batch)
        beyond = ratio < wanted and wanted * rate > limit
        print(f"    {side.about:34} {side.figure(net, batch):8.1f} us ({min(theirs):.1f} to {max(theirs):.1f}), "
              f"{rate:.1f} GF/s: {ratio:.2f}x (at least {wanted}{f', goal {hoped}' if hoped else ''}"
              f"{f': {wanted * rate:.0f} GF/s, more than the peak; at least {100 * BOUND:.0f} % of that then' if beyond else ''})")
        if beyond and share < BOUND:
            missed.append(f"{net}, batch {batch}, {threads} threads, {kind}: {wanted}x is beyond the peak, of which it is "
                          f"{100 * share:.0f} %, wanted {100 * BOUND:.0f} %")
        elif not beyond and ratio < wanted:
            missed.append(f"{net}, batch {batch}, {threads} threads, {kind}: {ratio:.2f}x, wanted {wanted}x")
    least = BOTH.get((net, batch))
    if least and threads == 2:
        ratio = statistics.median(a / b for a, b in zip(sides[1].us[net, batch], mine))
        print(f"    two threads are {ratio:.2f}x as fast as one (at least {least})")
        if ratio < least:
            missed.append(f"{net}, batch {batch}: two threads {ratio:.2f}x, wanted {least}x")


def main():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"cpu {cpu}, {os.cpu_count()} cores; medians of {asked.rounds} rounds", flush=True)
    missed = []
    with tempfile.TemporaryDirectory(prefix="onelip-bench-") as folder:
        for net, run in NETS.items():
            if asked.net in (None, net):
                (pathlib.Path(folder) / f"{net}.json").write_text(json.dumps(trajectory.definition(run)))
        for threads in [asked.threads] if asked.threads else [1, 2]:
            cases = [(net, batch) for net, batch, t in RACES if t == threads and asked.net in (None, net)]
            sides = measure(folder, threads, cases)
            print(f"{sides[0].about}, {threads} thread{'s' if threads > 1 else ''}: other programs took "
                  f"{100 * statistics.mean(sides[0].foreign):.0f} % of a core")
            for net, batch in cases:
                judge(sides, net, batch, threads, missed)
            sys.stdout.flush()
    for text in missed:
        print("missed:", text)
    raise SystemExit(1 if missed else 0)


main()
