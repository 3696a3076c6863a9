"""How golden vectors are written: one safetensors file per case. Shared by generate.py and generate_torch.py."""
import json
import os
import struct

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = ""  # who computes, for the files' metadata
ONLY = ""  # what the names of the wanted cases begin with


def write(group, case, seed, tensors, tool=None, **metadata):
    """One safetensors file: u64 header length, JSON padded with spaces to 8 bytes, data."""
    if not case.startswith(ONLY):
        return
    head = {"__metadata__": {"tool": tool or TOOL, "seed": str(seed), "group": group, "case": case}}
    for key, value in metadata.items():
        assert isinstance(value, str), key
        head["__metadata__"][key] = value
    at, data = 0, []
    for name, value in tensors.items():
        value = np.ascontiguousarray(np.asarray(value, dtype="<f4"))
        assert np.isfinite(value).all(), (group, case, name)
        head[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
        data.append(value.tobytes())
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(HERE, f"{group}-{case}.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def floors(got, exact, losses=()):
    """floor:<tensor> for every tensor of `got` that `exact` has too."""
    out = {}
    for name, value in got.items():
        if name in exact:
            a, b = np.asarray(value, np.float64), np.asarray(exact[name], np.float64)
            assert a.shape == b.shape, (name, a.shape, b.shape)
            top = np.abs(b).max()
            scale = np.maximum(1, np.abs(b)) if name in losses else (top if top > 0 else 1.0)
            out["floor:" + name] = "%.2e" % np.max(np.abs(a - b) / scale)
    return out


def worst(found):
    return max((float(v) for v in found.values()), default=0.0)


def settle(group, case, seed, make, limit):
    """Write what make(seed) gives. A case whose float32 and float64 results part by more than `limit` stands on the
    edge of a stopping test or a kink and says nothing about an implementation: the next seed is taken."""
    if not case.startswith(ONLY):
        return
    for tried in range(seed, seed + 40):
        tensors, metadata = make(tried)
        if worst({k: v for k, v in metadata.items() if k.startswith("floor:")}) <= limit:
            write(group, case, tried, tensors, **metadata)
            print(f"{group}-{case}: seed {tried}, worst floor", worst(
                {k: v for k, v in metadata.items() if k.startswith("floor:")}), flush=True)
            return
        print(f"{group}-{case}: seed {tried} refused", {k: v for k, v in metadata.items()
                                                       if k.startswith("floor:") and float(v) > limit})
    raise SystemExit(f"{group}-{case}: no seed gives a float32 result within {limit} of float64")


def normal(rng, *shape, scale=1.0):
    """Gaussian numbers that float32 holds exactly."""
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def run(groups, arguments, made_here):
    """The groups that are asked for, all without arguments; then cases.txt. made_here(name): whether a file of that name is
    ours to make again."""
    global ONLY
    for argument in arguments or groups:
        group, _, ONLY = argument.partition("-")
        for old in os.listdir(HERE):
            if old.startswith(f"{group}-{ONLY}") and old.endswith(".safetensors") and made_here(old):
                os.remove(os.path.join(HERE, old))
        groups[group]()
    with open(os.path.join(HERE, "cases.txt"), "w") as file:
        file.write("".join(sorted(f"{name[:-12]}\n" for name in os.listdir(HERE) if name.endswith(".safetensors"))))
