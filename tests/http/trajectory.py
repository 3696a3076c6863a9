"""What deel-lip and onelip both train on for tests/golden/trajectory-*.json: two networks, their first weights, batches.

Standard library only. Weights are columns of cosines, which are orthogonal, with some noise of a written-down generator, so
that they need no file of their own.
"""

import gzip
import math
import pathlib
import struct

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
STEPS = 200


def layer(kind, **config):
    return {"class_name": kind, "config": config}


RUNS = {
    "mlp": {
        "batch": 64, "input": [784],
        "layers": [layer("SpectralDense", units=256, name="d1"), layer("GroupSort2", name="s1"),
                   layer("SpectralDense", units=128, name="d2"), layer("GroupSort2", name="s2"),
                   layer("FrobeniusDense", units=10, name="y")],
        "loss": layer("MulticlassHKR", alpha=10.0, min_margin=0.5),
        "shapes": {"d1/kernel": [784, 256], "d2/kernel": [256, 128], "y/kernel": [128, 10]}},
    "cnn": {
        "batch": 32, "input": [28, 28, 1],
        "layers": [layer("SpectralConv2D", filters=16, kernel_size=[3, 3], name="c1"), layer("GroupSort2", name="s1"),
                   layer("ScaledL2NormPooling2D", pool_size=[2, 2], name="p1"),
                   layer("SpectralConv2D", filters=32, kernel_size=[3, 3], name="c2"), layer("GroupSort2", name="s2"),
                   layer("ScaledL2NormPooling2D", pool_size=[2, 2], name="p2"), layer("Flatten", name="f"),
                   layer("SpectralDense", units=64, name="d1"), layer("GroupSort2", name="s3"),
                   layer("FrobeniusDense", units=10, name="y")],
        "loss": layer("TauCategoricalCrossentropy", tau=10.0),
        "shapes": {"c1/kernel": [3, 3, 1, 16], "c2/kernel": [3, 3, 16, 32], "d1/kernel": [1568, 64], "y/kernel": [64, 10]}},
}


def definition(run):
    layers = [layer("InputLayer", batch_input_shape=[None, *run["input"]], name="x"), *run["layers"]]
    return {"class_name": "Sequential", "config": {"name": "net", "k_coef_lip": 1.0, "layers": layers}}


def uniform(seed, count):
    """count numbers in [0, 1): splitmix64 from seed, the upper 24 bits of each."""
    mask, out = (1 << 64) - 1, []
    for i in range(1, count + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        out.append((z ^ z >> 31) >> 40)
    return [v / (1 << 24) for v in out]


def weights(run):
    """name -> (shape, flat float32 values as Python floats)."""
    out = {}
    for number, (name, shape) in enumerate(run["shapes"].items()):
        n, m = shape[-1], math.prod(shape[:-1])
        long, short = max(m, n), min(m, n)
        noise = uniform(1000 + number, m * n)
        table = [math.cos(math.pi * k / (2 * long)) for k in range(4 * long)]
        kernel = []
        for i in range(m):
            for j in range(n):
                a, b = (i, j) if m >= n else (j, i)  # cosine b + 1 of `long`, at a
                kernel.append(math.sqrt(2 / long) * table[(2 * a + 1) * (b + 1) % (4 * long)]
                              + 0.1 * (noise[i * n + j] - 0.5) / math.sqrt(short))
        base = name.split("/")[0]
        out[name] = (shape, single(kernel))
        out[base + "/bias"] = ([n], [0.0] * n)
        if base != "y":
            out[base + "/u"] = ([1, n], single([2 * v - 1 for v in uniform(2000 + number, n)]))
    return out


def single(values):
    """Rounded to float32."""
    return list(struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values)))


def samples(part, first, count):
    """(pixels in [0, 1] as float32 bytes, labels) of the training or t10k part."""
    with gzip.open(DATA / f"{part}-images-idx3-ubyte.gz") as file:
        file.seek(16 + 784 * first)
        pixels = file.read(784 * count)
    with gzip.open(DATA / f"{part}-labels-idx1-ubyte.gz") as file:
        file.seek(8 + first)
        labels = file.read(count)
    grey = [v / 255 for v in range(256)]
    return struct.pack(f"<{len(pixels)}f", *(grey[v] for v in pixels)), list(labels)
