#!/usr/bin/env python3
"""Golden vectors of torchlip's LseHKRMulticlassLoss, which deel-lip does not have: the groups loss and steps of generate.py.

    python3.11 -m venv VENV && VENV/bin/pip install -r tests/bench/peers/requirements-torch.txt
    VENV/bin/python tests/golden/generate_torch.py [group ...]

torch on one thread, from seeds. Steps train plain Dense layers, which torch and Keras compute alike.
"""
import importlib.metadata
import json
import os
import platform
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np  # noqa: E402
import torch  # noqa: E402
from deel.torchlip.modules.loss import LseHKRMulticlassLoss  # noqa: E402

import files  # noqa: E402
from files import floors, normal, settle, worst, write  # noqa: E402

torch.set_num_threads(1)
files.TOOL = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("deel-torchlip", "torch", "numpy"))
files.TOOL += ", python " + platform.python_version()
DEFAULTS = {"alpha": 1.0, "temperature": 1.0, "penalty": 1.0, "min_margin": 1.0}


def keras(options, reduction="auto"):
    return json.dumps({"class_name": "LseHKRMulticlassLoss", "config": {"reduction": reduction, "name": "LseHKRMulticlassLoss",
                                                                        **DEFAULTS, **options}})


def made(options, dtype, reduction):
    loss = LseHKRMulticlassLoss(**options, reduction=reduction)
    loss.alpha = loss.alpha.to(dtype)  # float32's value
    return loss


def loss():
    cases = [("hkr", dict(alpha=0.9, temperature=10.0)), ("hinge", dict(min_margin=0.5, penalty=2.0)), ("kr", dict(alpha=0.0)),
             ("half", dict(alpha=0.5, temperature=3.0, penalty=0.5, min_margin=2.0))]
    for seed, (case, options) in enumerate(cases, 21000):
        for low in (0.0, -1.0):
            rng = np.random.default_rng(seed)
            y = np.where(np.eye(5)[rng.integers(0, 5, 12)] > 0, 1.0, low).astype(np.float32)
            p, weight = normal(rng, 12, 5), (rng.random(12) + 0.25).astype(np.float32)
            p[0], p[1, :3] = 0.25, 0.5

            def results(dtype):
                out, target = {}, torch.tensor(y)
                for name, w in (("", 1.0), ("_weighted", torch.tensor(weight, dtype=dtype))):
                    x = torch.tensor(p, dtype=dtype, requires_grad=True)
                    single = made(options, dtype, "none")(x, target)
                    value = (single * w).mean()  # torchlip has no weights: these are Keras's
                    value.backward()
                    out["value" + name], out["grad" + name] = value.detach().numpy(), x.grad.numpy()
                return {**out, "per_sample": made(options, dtype, "none")(x, target).detach().numpy()}

            got, names = results(torch.float32), ("value", "value_weighted", "per_sample")
            found = floors(got, results(torch.float64), names)
            assert worst(found) < 2e-5, (case, found)
            write("loss", f"torchlip-lse_{case}" + ("-11" if low else ""), seed,
                  {"y_true": y, "y_pred": p, "sample_weight": weight, **got}, loss=keras(options), **found)


def steps():
    """Thirty steps of SGD."""
    options, rate = dict(alpha=0.9, temperature=4.0), 0.05
    definition = {"class_name": "Sequential", "config": {"layers": [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 5], "name": "x"}},
        {"class_name": "Dense", "config": {"units": 8, "activation": "relu", "name": "d1"}},
        {"class_name": "Dense", "config": {"units": 3, "name": "d2"}}]}}
    training = {"optimizer": {"class_name": "SGD", "config": {"learning_rate": rate}}, "loss": json.loads(keras(options))}

    def make(seed):
        rng = np.random.default_rng(seed)
        weights = {"d1/kernel": normal(rng, 5, 8, scale=0.4), "d1/bias": normal(rng, 8, scale=0.1),
                   "d2/kernel": normal(rng, 8, 3, scale=0.4), "d2/bias": normal(rng, 3, scale=0.1)}
        klass = rng.integers(0, 3, (3, 16))
        klass[:, :3] = np.arange(3)
        x = (normal(rng, 3, 5, scale=0.7)[klass] + normal(rng, 3, 16, 5, scale=0.6)).astype(np.float32)
        y, order = np.eye(3, dtype=np.float32)[klass], np.arange(30) % 3

        def train(dtype):
            w = {k: torch.tensor(v, dtype=dtype, requires_grad=True) for k, v in weights.items()}
            optimizer, called, out, losses = torch.optim.SGD(w.values(), rate), made(options, dtype, "mean"), {}, []
            for step, at in enumerate(order, 1):
                hidden = torch.relu(torch.tensor(x[at], dtype=dtype) @ w["d1/kernel"] + w["d1/bias"])
                value = called(hidden @ w["d2/kernel"] + w["d2/bias"], torch.tensor(y[at]))
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                losses.append(value.item())
                if step in (1, 30):
                    out.update({f"step{step}/{k}": v.detach().numpy().copy() for k, v in w.items()})
            return {"loss": np.array(losses), **out}

        got, given = train(torch.float32), {**{"weights/" + k: v for k, v in weights.items()}, "x": x, "y_true": y, "batch_index": order}
        return {**given, **got}, {"definition": json.dumps(definition), "training": json.dumps(training),
                                  **floors(got, train(torch.float64), ("loss",))}

    settle("steps", "torchlip-lse", 66000, make, 3e-5)


if __name__ == "__main__":
    files.run({"loss": loss, "steps": steps}, sys.argv[1:], lambda name: "torchlip" in name)
