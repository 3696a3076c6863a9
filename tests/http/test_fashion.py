"""Two recipes as jobs on a part of Fashion-MNIST: they learn, and a run repeats. tests/bench/recipes.py has the whole of it."""

import gzip
import json
import struct

import trajectory
from daemon import Daemon, run

TRAIN, TEST = 5120, 1000
# name: the head, the loss, test accuracy that 80 steps reach at least (they reach 0.79 and 0.80; the goals of six epochs on
# all samples are 0.87 and 0.85)
RECIPES = {
    "tau": ("SpectralDense", trajectory.layer("TauCategoricalCrossentropy", tau=10.0), 0.72),
    "hkr": ("FrobeniusDense", trajectory.layer("MulticlassHKR", alpha=50.0, min_margin=0.5), 0.70),
}


def part(name, count, header, size):
    """The first samples of an IDX file, as an IDX file."""
    with gzip.open(trajectory.DATA / f"{name}.gz") as file:
        start = file.read(header)
        return start[:4] + struct.pack(">I", count) + start[8:] + file.read(count * size)


def wait(d, job):
    d.wait(lambda: d.get(f"/v2/jobs/{job}").json["status"] in ("succeeded", "failed", "cancelled"), "the job to end")
    page, found = f"/v2/jobs/{job}/events", []
    while page:
        told = d.get(page, Accept="application/json").json
        found += [e["metrics"] for e in told["data"] if e["type"] == "epoch"]
        page = told.get("next")
    return found[-1]


def plan(check):
    with Daemon("--threads", "1") as d:
        for name, source, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
            x = d.put(f"/v2/datasets/{name}/x?scale=0.00392156862745098", part(f"{source}-images-idx3-ubyte", count, 16, 784))
            y = d.put(f"/v2/datasets/{name}/y_true", part(f"{source}-labels-idx1-ubyte", count, 8, 1))
            check(f"{count} samples of {source} as IDX", x.status == 201 and y.status == 200, (x, y))
        for name, (head, loss, least) in RECIPES.items():
            layers = trajectory.RUNS["mlp"]["layers"][:-1] + [trajectory.layer(head, units=10, name="y")]
            definition = trajectory.definition({"input": [28, 28], "layers": [trajectory.layer("Flatten", name="f"), *layers]})
            rate = trajectory.layer("CosineDecay", initial_learning_rate=1e-3, decay_steps=80)
            ends = []
            for again in ("", "-again") if name == "tau" else ("",):
                d.put(f"/v2/models/{name}{again}", {"definition": definition, "seed": 1})
                d.put(f"/v2/models/{name}{again}/training", {"optimizer": trajectory.layer("Adam", learning_rate=rate), "loss": loss,
                                                             "metrics": ["accuracy"]})
                made = d.post("/v2/jobs", {"type": "train", "model": name + again, "dataset": "train", "validation_dataset": "test",
                                           "epochs": 2, "batch_size": 128, "seed": 1, "checkpoint_every": "never"})
                check(f"{name}{again}: a job", made.status == 202, made)
                ends.append(wait(d, made.json["id"]))
            if name == "hkr":
                c = d.post(f"/v2/models/{name}/certify", {"dataset": "test", "epsilons": [0.5], "outputs": [{"name": "label"}]}).json["certificate"]
                ours, theirs = c["provable_accuracy"][0], c["reference"]["provable_accuracy"][0]
                check("constants of pairs certify at least a quarter more at 0.5 than deel-lip's factor of 2",
                      c["head"] == "disjoint" and c["reference"]["factor"] == 2 and theirs > 0.2 and ours >= 1.25 * theirs, c)
            check(f"{name}: learns", ends[0]["val_accuracy"] >= least, json.dumps(ends[0]))
            if len(ends) > 1:
                check(f"{name}: a run repeats, to the last bit of its metrics", ends[0] == ends[1], json.dumps(ends))


run(plan)
