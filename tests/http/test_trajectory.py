"""200 Adam steps on Fashion-MNIST: each step's loss against deel-lip's on TensorFlow, and the accuracy they end with."""

import json
import struct
import sys

import trajectory
from daemon import SOURCE, Daemon, run


def framed(header, *parts):
    """A request whose tensors follow the JSON as bytes."""
    for entry, part in zip(header["inputs"], parts):
        entry["parameters"] = {"binary_data_size": len(part)}
    text = json.dumps(header).encode()
    return text + b"".join(parts), {"Inference-Header-Content-Length": str(len(text))}


def safetensors(tensors):
    head, data, at = {}, [], 0
    for name, (shape, values) in tensors.items():
        data.append(struct.pack(f"<{len(values)}f", *values))
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def plan(check):
    with Daemon() as d:
        for name, wanted in trajectory.RUNS.items():
            follow(check, d, name, wanted)


def follow(check, d, name, wanted):
    golden = json.loads((SOURCE / f"tests/golden/trajectory-{name}.json").read_text())
    m = d.create(name, trajectory.definition(wanted))
    put = d.put(m + "/weights", safetensors(trajectory.weights(wanted)))
    check(f"{name}: the first weights", put.status == 200, put)
    put = d.put(m + "/training", {"optimizer": "adam", "loss": wanted["loss"], "metrics": ["accuracy"]})
    check(f"{name}: training", put.status == 200, put)
    n, losses = wanted["batch"], []
    x, y = trajectory.samples("train", 0, n * trajectory.STEPS)
    each = len(x) // trajectory.STEPS
    for step in range(trajectory.STEPS):
        body, headers = framed({"inputs": [{"name": "x", "shape": [n, *wanted["input"]], "datatype": "FP32"},
                                           {"name": "y_true", "shape": [n], "datatype": "UINT8"}]},
                               x[each * step:each * (step + 1)], bytes(y[n * step:n * (step + 1)]))
        answer = d.call("POST", m + "/train_step", body, headers)
        if answer.status != 200:
            check(f"{name}: step {step}", False, answer)
            return
        losses.append(answer.json["metrics"]["loss"])
    # Adam divides by the size of a gradient that may be all rounding, so runs part: TensorFlow with two threads from itself
    # with one. We may be 1e-3 away, or three times as far as they have been apart up to that step.
    apart, worst, where = 0, 0, 0
    for step, (ours, one, two) in enumerate(zip(losses, golden["loss"], golden["two_threads"])):
        scale = max(1, abs(one))
        apart = max(apart, abs(one - two) / scale)
        off = abs(ours - one) / scale / max(1e-3, 3 * apart)
        if off > worst:
            worst, where = off, step
    check(f"{name}: every loss is deel-lip's ({worst:.2f} of what is allowed)", worst <= 1,
          f"step {where}: {losses[where]}, deel-lip {golden['loss'][where]} and {golden['two_threads'][where]}")
    x, y = trajectory.samples("t10k", 0, 1000)
    body, headers = framed({"inputs": [{"name": "x", "shape": [1000, *wanted["input"]], "datatype": "FP32"},
                                       {"name": "y_true", "shape": [1000], "datatype": "UINT8"}]}, x, bytes(y))
    got = d.call("POST", m + "/evaluate", body, headers).json["metrics"]["accuracy"]
    # Of 1000 images, a share of 0.8 is known to within 0.013.
    check(f"{name}: the accuracy is deel-lip's", abs(got - golden["accuracy"]) <= 0.03, f"{got}, deel-lip {golden['accuracy']}")


if not trajectory.DATA.exists():
    print("1..0 # SKIP dataset-fashion-mnist is not installed")
    sys.exit(0)
run(plan)
