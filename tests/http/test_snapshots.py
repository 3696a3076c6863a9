"""Inference while weights change: every answer is one revision's, whole, and no connection sees one go back.

Two sets of weights alternate under load, and training publishes in between; a layer's output is compared bit by bit, because the
model is deterministic and small enough to know what each set of weights gives.
"""

import http.client
import json
import os
import struct
import subprocess
import threading
import time

from daemon import Daemon, floats, run, tensor

BENCH = os.environ["ONELIP_BENCH"]
WIDTH, DEPTH = 64, 6

# y = (w / 2)^DEPTH x for w times the identity in every layer, exactly: an answer that read some layers before a change and
# some behind it would be another power.
DEEP = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, WIDTH], "name": "x"}},
    *[{"class_name": "Dense", "config": {"units": WIDTH, "use_bias": False, "name": f"l{i}"}} for i in range(DEPTH)]]}}
SETS = (0.5, 2.0)


def safetensors(factor):
    kernel = b"".join(struct.pack("<f", factor if i % (WIDTH + 1) == 0 else 0.0) for i in range(WIDTH * WIDTH))
    head = json.dumps({f"l{i}/kernel": {"dtype": "F32", "shape": [WIDTH, WIDTH],
                                        "data_offsets": [i * len(kernel), (i + 1) * len(kernel)]} for i in range(DEPTH)}).encode()
    return struct.pack("<Q", len(head)) + head + kernel * DEPTH


class Reader(threading.Thread):
    """Infers over one connection until told to stop; keeps what it saw."""

    def __init__(self, d, m, k):
        super().__init__()
        self.d, self.m, self.k, self.going = d, m, k, True
        self.seen, self.wrong, self.error = [], [], None
        self.start()

    def run(self):
        x = [(self.k + 1) * (i % 7 - 3) / 4 for i in range(WIDTH)]
        if self.k % 2:
            head = json.dumps({"inputs": [{"name": "x", "shape": [1, WIDTH], "datatype": "FP32",
                                           "parameters": {"binary_data_size": 4 * WIDTH}}],
                               "parameters": {"binary_data_output": True}}).encode()
            body, headers = head + struct.pack(f"<{WIDTH}f", *x), {"Inference-Header-Content-Length": str(len(head))}
        else:
            body, headers = json.dumps({"inputs": [tensor("x", [1, WIDTH], x)]}), {}
        try:
            connection = http.client.HTTPConnection(self.d.host, self.d.port, timeout=60)
            while self.going:
                connection.request("POST", self.m + "/infer", body, headers)
                answer = connection.getresponse()
                got = answer.read()
                if self.k % 2:
                    length = int(answer.headers["Inference-Header-Content-Length"])
                    document, y = json.loads(got[:length]), floats(got[length:])
                else:
                    document = json.loads(got)
                    y = document["outputs"][0]["data"]
                which = [s for s in SETS if y == [s ** DEPTH * v for v in x]]
                revision = document["parameters"]["weights_revision"]
                if len(which) != 1 or str(revision) != answer.headers["Onelip-Weights-Revision"]:
                    self.wrong.append((answer.status, revision, y[:4]))
                self.seen.append((revision, which[0] if which else None))
            connection.close()
        except Exception as error:  # shown by the check
            self.error = repr(error)


def swaps(check):
    with Daemon("--threads", "2") as d:
        m = d.create("deep", DEEP)
        files, truth = [safetensors(s) for s in SETS], {}
        first = d.put(m + "/weights", files[0])
        truth[first.json["weights_revision"]] = SETS[0]
        readers = [Reader(d, m, k) for k in range(8)]
        end = time.monotonic() + 3
        n = 0
        while time.monotonic() < end or n < 20:
            n += 1
            answer = d.put(m + "/weights", files[n % 2])
            if answer.status != 200:
                check("weights can be replaced under load", False, answer)
                break
            truth[answer.json["weights_revision"]] = SETS[n % 2]
        for reader in readers:
            reader.going = False
        for reader in readers:
            reader.join()
        seen = [pair for r in readers for pair in r.seen]
        check("readers are never refused", not any(r.error for r in readers), [r.error for r in readers])
        check("every answer is exactly one set's", not any(r.wrong for r in readers), [r.wrong[:3] for r in readers])
        check("and that of the revision it names", all(truth.get(revision) == which for revision, which in seen),
              [p for p in seen if truth.get(p[0]) != p[1]][:5])
        check("both sets were seen, many times", {w for _, w in seen} == set(SETS) and len({r for r, _ in seen}) >= 10,
              (len(seen), len({r for r, _ in seen})))
        check("no connection sees a revision go back", all(all(a[0] <= b[0] for a, b in zip(r.seen, r.seen[1:])) for r in readers))


def trains(check):
    with Daemon("--threads", "2") as d:
        definition = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 32], "name": "x"}},
            {"class_name": "SpectralDense", "config": {"units": 48, "name": "d1"}},
            {"class_name": "GroupSort2", "config": {"name": "s1"}},
            {"class_name": "SpectralDense", "config": {"units": 32, "name": "d2"}},
            {"class_name": "FrobeniusDense", "config": {"units": 3, "name": "y"}}]}}
        m = d.create("t", definition, {"optimizer": {"class_name": "SGD", "config": {"learning_rate": 0.5}},
                                       "loss": {"class_name": "MulticlassHKR", "config": {"alpha": 10.0, "min_margin": 0.5}}})
        step = {"inputs": [tensor("x", [32, 32], [((7 * i) % 23 - 11) / 11 for i in range(32 * 32)]),
                           tensor("y_true", [32], [i % 3 for i in range(32)], "INT64")]}
        load = subprocess.Popen([BENCH, "-u", f"{d.host}:{d.port}", "-m", "t", "--concurrency-range", "8", "--verify", "--tolerance",
                                 "1e-5", "-p", "1000", "-r", "3", "--json"], stdout=subprocess.PIPE, text=True)
        steps = 0
        while load.poll() is None:
            answer = d.post(m + "/train_step", step)
            if answer.status != 200:
                check("steps are taken under load", False, answer)
                break
            steps += 1
        said = load.communicate(timeout=60)[0]
        e = json.loads(said)["experiments"][0]
        check("while training publishes, no answer is of two revisions and none goes back", load.returncode == 0
              and e["verify"]["mixed"] == 0 and e["verify"]["regressions"] == 0, e)
        check("readers saw many of the revisions", e["verify"]["revisions"] >= 10 and steps >= 10, (e["verify"], steps))
        check("and were all answered", e["answers"]["200"] > 0 and sum(e["answers"].values()) == e["answers"]["200"], e["answers"])


def plan(check):
    swaps(check)
    trains(check)


run(plan)
