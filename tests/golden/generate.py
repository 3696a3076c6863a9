#!/usr/bin/env python3
"""Golden vectors: what deel-lip computes, one safetensors file per case, for tests/unit/check_golden.c.

    python3.11 -m venv VENV && VENV/bin/pip install -r tests/golden/requirements.txt
    DEEL_LIP_SOURCE=DIR VENV/bin/python tests/golden/generate.py [group ...]    # all, or norm layer graph loss training ...
    DEEL_LIP_SOURCE=DIR VENV/bin/python tests/golden/generate.py layer-pad      # the cases whose names begin so

DIR is a checkout of deel-lip's repository at commit 0d1cdae (1.5.1, not on PyPI): MulticlassSoftHKR comes from there, all
else from PyPI's 1.5.0. generate_torch.py makes the vectors of torchlip's own loss; their names have "torchlip" in them.

cases.txt lists the files, so that a lost one is noticed. The same machine type gives the same bytes: seeds are fixed,
TensorFlow runs on one thread without oneDNN. All tensors are F32. All metadata values are strings:

    tool, seed, group, case   who made it, from what
    floor:<tensor>            max|f32 - f64| / max|f64|: how far the reference's own float32 result is from the
                              same computation in float64; of losses max|f32 - f64| / max(1, |f64|)

    norm       kind "rko": kernel, u, upstream -> wbar, u_new, sigma, grad; eps_spectral, eps_bjorck ("none": no
               Bjorck), beta, maxiter_spectral, maxiter_bjorck, coef; constant_u "false": the gradient goes through
               the power iteration as well.
               kind "frobenius": kernel, upstream -> wbar, grad; columns "true" or "false", coef.
    layer      definition (Keras JSON of a deel-lip Sequential with its InputLayer), weights/<layer>/<variable>, x;
               y_infer with the stored wbar; y_train, after/<layer>/{u,sigma,wbar} of one training-mode forward;
               dy, dx, grad/<layer>/{kernel,bias} of sum(y_train * dy). Then what vanilla_export and condense make of
               the layer, as in model below; vanilla_definition only where the export changes the class.
               TensorFlow on a CPU has no channels_first convolutions and poolings: there the definition is
               deel-lip's own, and the numbers are those of the same layer with channels_last, on transposed data.
    loss       loss (Keras JSON), y_true, y_pred -> value, per_sample, grad; sample_weight, value_weighted,
               grad_weighted. Of reduction "none" value is the mean that Keras tells, grad that of the sum.
    training   definition, training; weights/..., x and y_true (pool, batch, ...), batch_index (steps); loss
               (steps), each step's own, before its update; step<k>/<layer>/<variable> after step k. deel-lip's wbar
               lags: step<k>'s wbar is the effective kernel of step k's own forward, not of the kernel beside it.
    steps      as training, of thirty steps, with every loss, every optimizer, and of functional models: branches, nested
               models, layers that are used twice, and every kind of deel-lip's on images.
    graph      as layer, of functional models: joined branches, layers and nested models that are used twice. Inputs, outputs
               and their gradients are x, x/1, …, y_infer, y_infer/1, … in the model's order. vanilla_definition only where
               no plain Keras model is nested, which deel-lip would leave as it is.
    model      definition, definition_legacy, vanilla_definition; weights/..., x; y_infer; after one training-mode
               forward: y_train, after/<layer>/{u,sigma,wbar}, y_vanilla; then condense:
               condensed/<layer>/{kernel,u,sigma} (deel-lip leaves wbar), y_condensed in training mode.
    guard      where deel-lip itself fails: kernel, u -> polar, the orthogonal factor that is meant, from a singular value
               decomposition in float64; reference, deel-lip's own result as text, with its nan and inf; kind "rko", or
               "frobenius" (columns), whose kernel has a zero column or is zero and which has no u and no polar.
    optimizer  optimizer (Keras JSON); w0, grads (steps, ...) -> w_after (steps, ...).
    metric     metric, loss (Keras JSON; the loss that accuracy goes with); y_true, y_pred -> value.
    trajectory JSON, for tests/http/test_trajectory.py: the losses of 200 Adam steps on Fashion-MNIST, with one thread
               and with two, and the accuracy on the first 1000 test images behind them; tests/http/trajectory.py has
               the networks, weights and batches.

deel-lip freezes a layer's k in traced functions and, in its Sequential, takes factors from the model's input shape.
Neither is wanted here, so the numbers never come from the model that wrote the JSON: its layers are read back from the
JSON and called one after the other, each built on its own input with the k of its own config; a functional model is
read back whole, which traces its layers with the k of their configs and builds each on its own input.
"""
import copy
import importlib.util
import json
import os
import platform
import subprocess
import sys
import warnings

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

tf.get_logger().setLevel("ERROR")
THREADS = int(os.environ.get("ONELIP_GOLDEN_THREADS", "1"))
tf.config.threading.set_intra_op_parallelism_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)

import deel.lip as lip  # noqa: E402
from deel.lip.layers import (  # noqa: E402
    FrobeniusConv2D,
    FrobeniusDense,
    InvertibleDownSampling,
    InvertibleUpSampling,
    ScaledAveragePooling2D,
    ScaledGlobalAveragePooling2D,
    ScaledGlobalL2NormPooling2D,
    ScaledL2NormPooling2D,
    SpectralConv2D,
    SpectralConv2DTranspose,
    SpectralDense,
)
from deel.lip.activations import FullSort, GroupSort, GroupSort2, Householder, MaxMin  # noqa: E402
from deel.lip.layers.unconstrained import PadConv2D  # noqa: E402
from deel.lip.model import vanillaModel  # noqa: E402
from deel.lip.normalizers import reshaped_kernel_orthogonalization, set_stop_grad_spectral  # noqa: E402
from deel.lip.utils import process_labels_for_multi_gpu  # noqa: E402

import importlib.metadata  # noqa: E402

PINNED = {"deel-lip": "1.5.0", "tensorflow-cpu": "2.15.1", "keras": "2.15.0", "numpy": "1.26.4"}
for package, version in PINNED.items():
    assert importlib.metadata.version(package) == version, f"needs {package} {version}: see requirements.txt"
assert sys.version_info[:2] == (3, 11), "needs Python 3.11"

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "http")]
import files  # noqa: E402
import trajectory as setup  # noqa: E402
from files import floors, normal, settle, worst, write  # noqa: E402

AROUND = "tensorflow-cpu {tensorflow-cpu}, numpy {numpy}, python ".format(**PINNED) + platform.python_version()
TOOL = files.TOOL = f"deel-lip {PINNED['deel-lip']}, {AROUND}"
SOFT = f"deel-lip 1.5.1 (commit 0d1cdae) in {PINNED['deel-lip']}, {AROUND}"
KL = tf.keras.layers


# ---- norm ------------------------------------------------------------------------------------------


def near_orthogonal(rng, *shape):
    m, n = int(np.prod(shape[:-1])), shape[-1]
    q, _ = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))
    q = q if m >= n else q.T
    return (q + 0.02 * rng.standard_normal((m, n)) / np.sqrt(max(m, n))).astype(np.float32).reshape(shape)


RKO = {"eps_spectral": 1e-3, "eps_bjorck": 1e-3, "beta": 0.5, "maxiter_spectral": 10, "maxiter_bjorck": 15}


def rko(dtype, kernel, u, upstream, coef, options, constant_u=True):
    set_stop_grad_spectral(constant_u)
    kernel, u, upstream = (tf.constant(a, dtype) for a in (kernel, u, upstream))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        wbar, u_new, sigma = reshaped_kernel_orthogonalization(kernel, u, coef, **options)
        product = tf.reduce_sum(wbar * upstream)
    set_stop_grad_spectral(True)
    return {"wbar": wbar, "u_new": u_new, "sigma": sigma, "grad": tape.gradient(product, kernel)}


def text(options):
    return {k: "none" if v is None else repr(v) for k, v in options.items()}


def frobenius(dtype, kernel, upstream, coef, columns):
    layer = FrobeniusDense(kernel.shape[-1], disjoint_neurons=columns, use_bias=False, k_coef_lip=coef,
                           dtype=dtype, kernel_initializer="zeros")
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(tf.cast(kernel, dtype))
    eye = tf.eye(kernel.shape[0], dtype=dtype)
    with tf.GradientTape() as tape:
        wbar = layer(eye, training=True)
        product = tf.reduce_sum(wbar * tf.cast(upstream, dtype))
    return {"wbar": layer.wbar.numpy(), "grad": tape.gradient(product, layer.kernel)}


def norm():
    def one(case, seed, draw, coef=1.0, limit=2e-5, constant_u=True, **changes):
        options = dict(RKO, **changes)

        def make(seed):
            rng = np.random.default_rng(seed)
            kernel = draw(rng)
            given = {"kernel": kernel, "u": normal(rng, 1, kernel.shape[-1]),
                     "upstream": normal(rng, *kernel.shape)}
            got = rko("float32", *given.values(), coef, options, constant_u)
            exact = rko("float64", *given.values(), coef, options, constant_u)
            return {**given, **got}, {"kind": "rko", **text(options), "coef": repr(coef),
                                      **({} if constant_u else {"constant_u": "false"}), **floors(got, exact)}

        settle("norm", case, seed, make, limit)

    dense = [(8, 5), (5, 8), (16, 16), (32, 12), (64, 48)]
    conv = [(3, 3, 2, 4), (3, 3, 4, 32), (2, 2, 3, 5), (5, 3, 2, 6)]
    for i, shape in enumerate(dense + conv):
        name = "x".join(map(str, shape))
        coef = 1.0 if shape in dense else 0.375
        one(f"gauss-{name}", 1000 + 100 * i, lambda rng: normal(rng, *shape), coef)
        one(f"near-{name}", 1050 + 100 * i, lambda rng: near_orthogonal(rng, *shape), coef)
    variants = {
        "nobjorck": {"eps_bjorck": None},
        "beta03": {"beta": 0.3},
        "maxiter34": {"maxiter_spectral": 3, "maxiter_bjorck": 4},
        "eps1e-5": {"eps_spectral": 1e-5, "eps_bjorck": 1e-5},
    }
    for j, (label, change) in enumerate(variants.items()):
        for i, shape in enumerate([(16, 16), (32, 12), (5, 8), (3, 3, 2, 4)]):
            name = "x".join(map(str, shape))
            one(f"{label}-{name}", 3000 + 1000 * j + 100 * i, lambda rng: normal(rng, *shape, scale=0.3), 1.25,
                **change)
    # The gradient goes through the power iteration too (STOP_GRAD_SPECTRAL false), converged or cut off early.
    for i, shape in enumerate([(8, 5), (5, 8), (16, 16), (3, 3, 2, 4)]):
        name = "x".join(map(str, shape))
        one(f"through-{name}", 8400 + 100 * i, lambda rng: normal(rng, *shape), constant_u=False)
        one(f"through2-{name}", 8450 + 100 * i, lambda rng: normal(rng, *shape), 1.5, constant_u=False,
            maxiter_spectral=2, eps_bjorck=None)
    # No iterations at all; a kernel whose sigma is not far above eps_spectral (below 1e-3 deel-lip's u collapses).
    one("maxiter00-8x5", 8000, lambda rng: normal(rng, 8, 5, scale=0.2), maxiter_spectral=0, maxiter_bjorck=0)
    one("small-6x4", 8100, lambda rng: normal(rng, 6, 4, scale=2e-3))
    one("large-12x12", 8200, lambda rng: normal(rng, 12, 12, scale=1e3), 3.0)

    worked = {
        "worked-a": ([[3, 0], [4, 5]], [[1, 0]], [[1, 2], [3, 4]], {}),
        "worked-b": ([[1, 2], [3, 4], [5, 6]], [[1, 1]], [[1, 0], [0, 1], [1, 1]], {}),
        "worked-b-nobjorck": ([[1, 2], [3, 4], [5, 6]], [[1, 1]], [[1, 0], [0, 1], [1, 1]], {"eps_bjorck": None}),
        # Exactly semi-orthogonal: one column stops after one Bjorck step, two columns after two.
        "worked-c-1": ([[0.6], [0.8]], [[1]], [[1], [2]], {}),
        "worked-c-2": ([[1, 0], [0, 1], [0, 0]], [[1, 2]], [[1, 2], [3, 4], [5, 6]], {}),
    }
    for case, (kernel, u, upstream, change) in worked.items():
        given = {k: np.array(v, np.float32) for k, v in zip(("kernel", "u", "upstream"), (kernel, u, upstream))}
        options = dict(RKO, **change)
        got = rko("float32", *given.values(), 1.0, options)
        exact = rko("float64", *given.values(), 1.0, options)
        write("norm", case, 0, {**given, **got}, kind="rko", **text(options), coef="1.0", **floors(got, exact))

    for i, (shape, coef, columns) in enumerate([((8, 5), 1.0, True), ((8, 5), 1.0, False), ((5, 8), 3.0, True),
                                                ((32, 12), 0.5, False), ((2, 2), 2.0, True)]):
        def make(seed):
            rng = np.random.default_rng(seed)
            kernel = np.array([[3, 0], [4, 5]], np.float32) if shape == (2, 2) else normal(rng, *shape)
            given = {"kernel": kernel, "upstream": normal(rng, *shape)}
            got = frobenius("float32", *given.values(), coef, columns)
            exact = frobenius("float64", *given.values(), coef, columns)
            return {**given, **got}, {"kind": "frobenius", "columns": str(columns).lower(), "coef": repr(coef),
                                      **floors(got, exact)}

        name = f"frobenius-{'columns' if columns else 'whole'}-{'x'.join(map(str, shape))}"
        settle("norm", name, 9000 + 100 * i, make, 1e-5)


# ---- models, one layer after the other -------------------------------------------------------------


def definition(layers, input_shape, k=1.0):
    """The JSON of a deel-lip Sequential, through Keras's own writer."""
    tf.keras.backend.clear_session()
    model = lip.Sequential([KL.Input(input_shape, name="x")] + layers, k_coef_lip=k, name="net")
    return model.to_json()


def with_dtype(entry, dtype):
    """A copy of a layer's JSON, activation included, that computes in dtype."""
    if isinstance(entry, dict):
        return {k: dtype if k == "dtype" else with_dtype(v, dtype) for k, v in entry.items()}
    return [with_dtype(v, dtype) for v in entry] if isinstance(entry, list) else entry


def read_layer(entry):
    """A layer from its JSON, built on its own input shape. (Keras's own Dense and Conv2D come back unbuilt.)"""
    layer = KL.deserialize(copy.deepcopy(entry))
    if not layer.built:
        layer.build(entry["build_config"]["input_shape"])
    slot = getattr(layer, "activation", None)
    if isinstance(slot, KL.Layer) and not slot.built:
        slot.build(layer.compute_output_shape(tuple(entry["build_config"]["input_shape"])))
    return layer


class Leaves:
    """The layers of a definition, read back from it, with weights by name: (path, layer, names of its variables)."""

    def __init__(self, leaves, weights, dtype):
        self.dtype, self.leaves = dtype, leaves
        for path, layer, names in leaves:
            values = [np.asarray(weights[f"{path}/{n}"], dtype) for n in names]
            assert len(values) == len(layer.get_weights()), path
            if values:
                layer.set_weights(values)

    def get(self, prefix, only=None):
        return {f"{prefix}{path}/{n}": v for path, layer, names in self.leaves for n, v in zip(names, layer.get_weights())
                if only is None or n in only}

    def trainable(self):
        """(name, variable) of every kernel and bias."""
        return [(f"{path}/{n}", v) for path, layer, names in self.leaves for n, v in zip(names, layer.trainable_weights)]

    def condense(self):
        for _, layer, _ in self.leaves:
            if isinstance(layer, SpectralConv2DTranspose):
                # Its own condense takes the kernel without the axis swap of its forward pass, and fails or changes
                # the function: this is condense on the matrix of the forward pass.
                wbar, u, sigma = reshaped_kernel_orthogonalization(
                    tf.transpose(layer.kernel, [0, 1, 3, 2]), layer.u, layer._get_coef(), layer.eps_spectral,
                    layer.eps_bjorck, layer.beta_bjorck, layer.maxiter_spectral, layer.maxiter_bjorck)
                layer.kernel.assign(tf.transpose(wbar, [0, 1, 3, 2]))
                layer.u.assign(u)
                layer.sig.assign(sigma)
            elif hasattr(layer, "condense"):
                layer.condense()


class Chain(Leaves):
    """A Sequential, one layer after the other."""

    def __init__(self, text, weights, dtype="float32"):
        leaves = []
        for entry in json.loads(text)["config"]["layers"]:
            if entry["class_name"] == "InputLayer":
                continue
            layer = read_layer(with_dtype(entry, dtype))
            if hasattr(layer, "k_coef_lip"):
                assert layer.k_coef_lip == entry["config"]["k_coef_lip"]
            leaves.append((layer.name, layer, variables(entry)))
        super().__init__(leaves, weights, dtype)

    def __call__(self, x, training):
        x = tf.cast(x, self.dtype)
        for _, layer, _ in self.leaves:
            takes = layer.weights or isinstance(layer, KL.Dropout)
            x = layer(x, training=training) if takes else layer(x)
        return x


NESTED = ("Sequential", "Functional", "Model")


def find_leaves(model, config, prefix=""):
    """Those of a model, in its order, the layers of nested models by their paths."""
    out = []
    for entry in config["layers"]:
        name = entry["config"]["name"]
        if entry["class_name"] in NESTED:
            out += find_leaves(model.get_layer(name), entry["config"], f"{prefix}{name}/")
        elif entry["class_name"] != "InputLayer":
            out.append((prefix + name, model.get_layer(name), variables(entry)))
    return out


class Graph(Leaves):
    """A functional model."""

    def __init__(self, text, weights, dtype="float32"):
        tf.keras.backend.clear_session()
        self.model = tf.keras.models.model_from_json(json.dumps(with_dtype(json.loads(text), dtype)))
        super().__init__(find_leaves(self.model, json.loads(text)["config"]), weights, dtype)

    def __call__(self, x, training):
        x = [tf.cast(v, self.dtype) for v in x] if isinstance(x, list) else tf.cast(x, self.dtype)
        return self.model(x, training=training)


def reader(text):
    return Chain if json.loads(text)["class_name"] == "Sequential" else Graph


def shapes_of(text):
    """(path, names, shapes) of the variables of every layer of a definition."""
    read = json.loads(text)
    if read["class_name"] == "Sequential":
        leaves = [(e["config"]["name"], read_layer(e), variables(e)) for e in read["config"]["layers"] if variables(e)]
    else:
        tf.keras.backend.clear_session()
        leaves = find_leaves(tf.keras.models.model_from_json(text), read["config"])
    return [(path, names, [w.shape for w in layer.get_weights()]) for path, layer, names in leaves if names]


def variables(entry):
    """The names of a layer's variables in Keras's order."""
    kind = entry["class_name"]
    if kind in ("Householder", "PReLU"):
        return ["theta" if kind == "Householder" else "alpha"]
    if kind == "BatchNormalization":
        return [n for n, flag in (("gamma", "scale"), ("beta", "center")) if entry["config"][flag]] + [
            "moving_mean", "moving_variance"]
    slot = entry["config"].get("activation")
    inner = [f"{slot['config']['name']}/{n}" for n in variables(slot)] if isinstance(slot, dict) else []
    if "kernel_initializer" not in entry["config"]:
        return inner
    names = ["kernel"] + (["bias"] if entry["config"]["use_bias"] else []) + inner
    if kind.startswith("Spectral"):
        names += ["u", "sigma", "wbar"]
    elif kind.startswith("Frobenius"):
        names += ["wbar"]
    return names


def draw_weights(rng, text, start="gauss"):
    """Weights for every layer of a definition: gaussian kernels of singular value about 1, small biases, random u,
    sigma 1, and, so that nobody can mistake it for a computed one, a wbar that has nothing to do with the kernel."""
    weights = {}
    for path, names, shapes in shapes_of(text):
        shape = dict(zip(names, shapes))
        m = int(np.prod(shape.get("kernel", (1, 1))[:-1]))
        for name in names:
            n = name.rpartition("/")[2]
            shape[n] = shape[name]
            if n == "kernel" and start == "near":
                value = near_orthogonal(rng, *shape[n])
            elif n in ("kernel", "wbar"):
                value = normal(rng, *shape[n], scale=1 / np.sqrt(max(m, shape[n][-1])))
            elif n == "bias":
                value = normal(rng, *shape[n], scale=0.3)
            elif n == "u":
                value = normal(rng, *shape[n])
            elif n in ("theta", "alpha", "gamma", "beta", "moving_mean"):
                value = normal(rng, *shape[n], scale=0.8)
            elif n == "moving_variance":
                value = 0.25 + np.square(normal(rng, *shape[n]))
            else:
                value = np.ones(shape[n], np.float32)
            weights[f"{path}/{name}"] = value
    return weights


def named(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


# ---- layer -----------------------------------------------------------------------------------------


def unbias(chain, weights, shape, out):
    """TensorFlow fuses the normalisation of images along their channels in float32 only, and then the moving variance follows
    the batch's with N - 1 in the divisor: float64 is made to do the same."""
    for _, layer, _ in chain.leaves:
        if isinstance(layer, KL.BatchNormalization) and len(shape) == 4 and layer.axis[0] in (1, 3):
            n, name = np.prod(shape) // shape[layer.axis[0]], f"{layer.name}/moving_variance"
            old = np.asarray(weights[name], np.float64) * layer.momentum
            out["after/" + name] = old + (out["after/" + name] - old) * n / (n - 1)


def several(name, values):
    """name, name/1, …: of one thing, or of each of a list."""
    return {f"{name}/{i}" if i else name: v for i, v in enumerate(values if isinstance(values, list) else [values])}


def arrays(values):
    return [v.numpy() for v in values] if isinstance(values, list) else values.numpy()


def one_pass(text, weights, x, dy, dtype):
    chain = reader(text)(text, weights, dtype)
    out = several("y_infer", arrays(chain(x, False)))
    before = chain.get("")
    for name, value in before.items():
        assert np.array_equal(value, np.asarray(weights[name], dtype)), name  # inference changes nothing
    x = [tf.constant(v, dtype) for v in x] if isinstance(x, list) else tf.constant(x, dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = chain(x, True)
        up = zip(y, dy) if isinstance(y, list) else [(y, dy)]
        product = tf.add_n([tf.reduce_sum(a * tf.constant(b, dtype)) for a, b in up])
    out.update(several("y_train", arrays(y)))
    out.update(several("dx", arrays(tape.gradient(product, x))))
    for name, variable in chain.trainable():
        out["grad/" + name] = tape.gradient(product, variable).numpy()
    out.update(chain.get("after/", ("u", "sigma", "wbar", "moving_mean", "moving_variance")))
    if dtype == "float64" and not isinstance(x, list):
        unbias(chain, weights, x.shape, out)
    trained = chain.get("")
    if any(name.endswith("/wbar") for name in trained):
        out.update(several("y_vanilla", arrays(chain(x, False))))
        chain.condense()
        out.update(chain.get("condensed/", ("kernel", "u", "sigma")))
        out.update(several("y_condensed", arrays(chain(x, True))))
    return out, trained


def export(text, trained):
    """deel-lip's own export of the model as Keras reads it back, with the weights after the training forward."""
    tf.keras.backend.clear_session()
    known = {"Model": lip.Model} if json.loads(text)["class_name"] == "Model" else {}
    loaded = tf.keras.models.model_from_json(text, custom_objects=known)
    for path, layer, names in find_leaves(loaded, json.loads(text)["config"]):
        if names:
            layer.set_weights([trained[f"{path}/{n}"] for n in names])
    return vanillaModel(loaded)


def first(shape):
    """The shape of a sample with its channels first."""
    return (shape[-1],) + tuple(shape[:-1])


def turned(value):
    """A batch with its channels first."""
    return np.moveaxis(value, -1, 1) if np.ndim(value) > 2 else value


def rewritten(text):
    """The definition of one layer with its channels first."""
    read = json.loads(text)
    for entry in read["config"]["layers"]:
        for at, key in ((entry.get("build_config"), "input_shape"), (entry["config"], "batch_input_shape")):
            if at and key in at:
                at[key] = at[key][:1] + list(first(at[key][1:]))
        if "data_format" in entry["config"]:
            entry["config"]["data_format"] = "channels_first"
    return json.dumps(read)


def layer():
    def one(case, seed, make_layer, shape, k=1.0, batch=4, x=None, limit=1e-5, turn=None, random=False, **ours):
        """turn: makes the same layer with channels_first, or says "rewrite" where deel-lip cannot build that; shape and x
        stay those of channels_last. random: what training
        computes is drawn, so only inference is told."""
        text = definition([make_layer()], shape, k)
        said = rewritten(text) if turn == "rewrite" else definition([turn()], first(shape), k) if turn else text
        written = json.loads(said)
        written["config"]["layers"][-1]["config"].update(ours)  # keys that only onelip has

        def make(seed):
            rng = np.random.default_rng(seed)
            weights = draw_weights(rng, text)
            xs = normal(rng, batch, *shape) if x is None else x(rng)
            out_shape = Chain(text, weights)(xs, False).shape
            given = {"x": xs, "dy": normal(rng, *out_shape)}
            got, trained = one_pass(text, weights, *given.values(), "float32")
            exact, _ = one_pass(text, weights, *given.values(), "float64")
            more = {}
            if "y_vanilla" in got:
                y = export(text, trained)(xs, training=False).numpy()
                assert np.max(np.abs(y - got["y_vanilla"])) <= 1e-6 * np.max(np.abs(y))
                got["y_vanilla"] = y
                more["vanilla_definition"] = export(said, trained).to_json()
            if random:
                given, got, more = {"x": xs}, {"y_infer": got["y_infer"]}, {"training": "random"}
            found = floors(got, exact)
            if turn:
                given, got = ({name: turned(v) if name in ("x", "dx", "dy") or name.startswith("y_") else v
                               for name, v in part.items()} for part in (given, got))
            return {**named("weights/", weights), **given, **got}, {
                "definition": json.dumps(written) if ours else said, **more, **found}

        settle("layer", case, seed, make, limit)

    seeds = iter(range(10000, 99999, 100))

    # Dense kinds.
    for case, arguments, shape, k in [
        ("spectral_dense", dict(units=7, activation="relu"), (5,), 1.0),
        ("spectral_dense-linear-k3", dict(units=4), (9,), 3.0),
        ("spectral_dense-nobias-k05", dict(units=6, use_bias=False), (6,), 0.5),
        ("spectral_dense-groupsort2", dict(units=8, activation=GroupSort2(name="sort")), (6,), 1.0),
        ("spectral_dense-groupsort2-k3", dict(units=8, activation=GroupSort2(name="sort", k_coef_lip=2.0)), (6,), 3.0),
        ("spectral_dense-nobjorck", dict(units=5, eps_bjorck=None), (8,), 1.0),
        ("spectral_dense-options", dict(units=8, beta_bjorck=0.3, eps_spectral=1e-4, eps_bjorck=1e-4,
                                        maxiter_spectral=5, maxiter_bjorck=7), (16,), 1.0),
        ("spectral_dense-one-output", dict(units=1), (10,), 1.0),
        ("frobenius_dense", dict(units=3), (7,), 1.0),
        ("frobenius_dense-whole", dict(units=4, disjoint_neurons=False), (6,), 1.0),
        ("frobenius_dense-relu-k3", dict(units=5, activation="relu"), (4,), 3.0),
        ("frobenius_dense-whole-nobias-k05", dict(units=5, disjoint_neurons=False, use_bias=False), (4,), 0.5),
        ("dense", dict(units=6), (5,), 1.0),
        ("dense-relu-nobias", dict(units=6, activation="relu", use_bias=False), (8,), 1.0),
    ]:
        kind = {"s": SpectralDense, "f": FrobeniusDense, "d": KL.Dense}[case[0]]
        one(case, next(seeds), lambda: kind(name="d1", **arguments), shape, k)

    # Convolutions.
    for case, arguments, shape, k in [
        ("spectral_conv2d-3x3", dict(filters=4, kernel_size=3), (7, 5, 2), 1.0),
        ("spectral_conv2d-3x3-wide-k3", dict(filters=20, kernel_size=3, activation="relu"), (5, 6, 2), 3.0),
        ("spectral_conv2d-2x2-nobias", dict(filters=5, kernel_size=2, use_bias=False), (6, 5, 3), 1.0),
        ("spectral_conv2d-3x5", dict(filters=6, kernel_size=(3, 5)), (6, 8, 2), 1.0),
        ("spectral_conv2d-5x5-k05", dict(filters=4, kernel_size=5), (8, 7, 2), 0.5),
        ("spectral_conv2d-1x1", dict(filters=6, kernel_size=1), (4, 5, 4), 1.0),
        ("spectral_conv2d-3x3-s2-even", dict(filters=4, kernel_size=3, strides=2), (6, 8, 2), 1.0),
        ("spectral_conv2d-3x3-s2-odd", dict(filters=4, kernel_size=3, strides=2), (7, 5, 2), 1.0),
        ("spectral_conv2d-3x3-s3", dict(filters=4, kernel_size=3, strides=3), (8, 7, 2), 1.0),
        ("spectral_conv2d-3x3-s12", dict(filters=4, kernel_size=3, strides=(1, 2)), (5, 6, 3), 1.0),
        ("spectral_conv2d-5x5-s2", dict(filters=4, kernel_size=5, strides=2), (7, 8, 2), 1.0),
        ("spectral_conv2d-2x2-s2-k3", dict(filters=8, kernel_size=2, strides=2), (6, 5, 2), 3.0),
        ("spectral_conv2d-2x2-s3", dict(filters=4, kernel_size=2, strides=3), (7, 8, 2), 1.0),
        ("spectral_conv2d-3x5-s12", dict(filters=4, kernel_size=(3, 5), strides=(1, 2), use_bias=False), (4, 9, 2),
         1.0),
        ("spectral_conv2d-1x1-s2", dict(filters=3, kernel_size=1, strides=2), (5, 6, 4), 1.0),
        ("spectral_conv2d-3x3-groupsort2", dict(filters=6, kernel_size=3, activation=GroupSort2(name="sort")),
         (6, 4, 2), 1.0),
        ("spectral_conv2d-3x3-nobjorck", dict(filters=6, kernel_size=3, eps_bjorck=None), (5, 5, 1), 1.0),
        ("spectral_conv2d-3x3-small-image", dict(filters=4, kernel_size=3), (2, 3, 2), 1.0),
        ("conv2d-valid", dict(filters=4, kernel_size=3), (6, 7, 2), 1.0),
        ("conv2d-same-relu", dict(filters=4, kernel_size=(2, 3), padding="same", activation="relu"), (5, 6, 2), 1.0),
        ("conv2d-valid-s2", dict(filters=4, kernel_size=3, strides=2, use_bias=False), (8, 7, 2), 1.0),
        ("conv2d-same-s12", dict(filters=3, kernel_size=(5, 3), strides=(1, 2), padding="same"), (6, 7, 2), 1.0),
    ]:
        kind = KL.Conv2D if case.startswith("conv2d") else SpectralConv2D
        one(case, next(seeds), lambda: kind(name="c1", **arguments), shape, k, batch=3)

    # Sorts. Ties on purpose: for n = 2 TensorFlow sends both gradients to the first of the pair.
    def with_ties(*shape):
        def draw(rng):
            x = normal(rng, *shape)
            flat = x.reshape(-1, shape[-1])
            flat[0, :] = 0.5
            flat[1, 1] = flat[1, 0]
            flat[2, -1] = flat[2, -2]
            return x
        return draw

    for case, make_layer, shape, k in [
        ("group_sort-2", lambda: GroupSort(2, name="sort"), (6,), 1.0),
        ("group_sort-3-k3", lambda: GroupSort(3, name="sort"), (9,), 3.0),
        ("group_sort-4-image", lambda: GroupSort(4, name="sort"), (2, 3, 8), 1.0),
        ("group_sort-none-k05", lambda: GroupSort(None, name="sort"), (7,), 0.5),
        ("group_sort2", lambda: GroupSort2(name="sort"), (8,), 1.0),
        ("group_sort2-image-k3", lambda: GroupSort2(name="sort"), (3, 2, 4), 3.0),
    ]:
        one(case, next(seeds), make_layer, shape, k, x=with_ties(4, *shape))

    # Pooling, images whose trailing rows and columns fill no window, and a window of zeros.
    def with_zero_window(*shape):
        def draw(rng):
            x = normal(rng, *shape)
            x[0, 0:2, 0:3, 0] = 0
            return x
        return draw

    for case, kind, pool, shape, k in [
        ("scaled_average_pooling2d-2x2", ScaledAveragePooling2D, (2, 2), (4, 6, 3), 1.0),
        ("scaled_average_pooling2d-2x3-rest-k3", ScaledAveragePooling2D, (2, 3), (5, 8, 2), 3.0),
        ("scaled_l2_norm_pooling2d-2x2", ScaledL2NormPooling2D, (2, 2), (4, 6, 3), 1.0),
        ("scaled_l2_norm_pooling2d-2x2-rest-k05", ScaledL2NormPooling2D, (2, 2), (5, 7, 2), 0.5),
        ("scaled_l2_norm_pooling2d-2x3-rest-k3", ScaledL2NormPooling2D, (2, 3), (5, 8, 2), 3.0),
    ]:
        one(case, next(seeds), lambda: kind(pool, name="pool"), shape, k, x=with_zero_window(3, *shape))

    one("flatten", next(seeds), lambda: KL.Flatten(name="flat"), (3, 2, 4))

    # The rest of deel-lip's kinds.
    for case, arguments, shape, k in [
        ("frobenius_conv2d-3x3", dict(filters=4, kernel_size=3), (7, 5, 2), 1.0),
        ("frobenius_conv2d-2x3-k3-maxmin", dict(filters=3, kernel_size=(2, 3), use_bias=False,
                                               activation=MaxMin(name="split")), (4, 6, 3), 3.0),
    ]:
        one(case, next(seeds), lambda: FrobeniusConv2D(name="c1", **arguments), shape, k, batch=3)

    def with_zeros(*shape):
        def draw(rng):
            x = normal(rng, *shape)
            x.reshape(-1)[::5] = 0
            return x
        return draw

    turn = tf.keras.initializers.Constant(1.5)  # deel-lip's own start is float32 only
    for case, make_layer, shape, k in [
        ("full_sort-k05", lambda: FullSort(name="sort"), (3, 5), 0.5),
        ("max_min", lambda: MaxMin(name="split"), (6,), 1.0),
        ("max_min-image-k3", lambda: MaxMin(name="split"), (3, 2, 3), 3.0),
        ("householder", lambda: Householder(name="turn", theta_initializer=turn), (8,), 1.0),
        ("householder-image-k3", lambda: Householder(name="turn", theta_initializer=turn), (2, 3, 4), 3.0),
        ("scaled_global_average_pooling2d", lambda: ScaledGlobalAveragePooling2D(name="pool"), (4, 3, 2), 1.0),
        ("scaled_global_average_pooling2d-keep-k3", lambda: ScaledGlobalAveragePooling2D(name="pool", keepdims=True),
         (2, 5, 3), 3.0),
        ("scaled_global_l2_norm_pooling2d-k05", lambda: ScaledGlobalL2NormPooling2D(name="pool"), (4, 3, 2), 0.5),
    ]:
        one(case, next(seeds), make_layer, shape, k, x=with_zeros(4, *shape))

    # Keras's own.
    for case, make_layer, shape in [
        ("prelu", lambda: KL.PReLU(name="act"), (3, 2)),
        ("leaky_relu", lambda: KL.LeakyReLU(0.2, name="act"), (7,)),
        ("elu", lambda: KL.ELU(1.5, name="act"), (7,)),
        ("elu-1", lambda: KL.ELU(name="act"), (7,)),
        ("thresholded_relu", lambda: KL.ThresholdedReLU(0.5, name="act"), (7,)),
        ("re_lu-max-slope", lambda: KL.ReLU(max_value=0.5, negative_slope=0.25, name="act"), (7,)),
        ("re_lu-threshold", lambda: KL.ReLU(threshold=0.3, negative_slope=0.5, max_value=1.0, name="act"), (7,)),
        ("softmax", lambda: KL.Softmax(name="act"), (3, 5)),
        ("softmax-axis1", lambda: KL.Softmax(axis=1, name="act"), (3, 4, 2)),
        ("max_pooling2d", lambda: KL.MaxPooling2D(name="pool"), (5, 4, 2)),
        ("max_pooling2d-same", lambda: KL.MaxPooling2D((3, 2), (1, 2), padding="same", name="pool"), (5, 5, 2)),
        ("average_pooling2d", lambda: KL.AveragePooling2D(name="pool"), (5, 4, 2)),
        ("average_pooling2d-same", lambda: KL.AveragePooling2D((3, 2), (1, 2), padding="same", name="pool"), (5, 5, 2)),
        ("global_max_pooling2d-keep", lambda: KL.GlobalMaxPooling2D(keepdims=True, name="pool"), (3, 4, 2)),
        ("global_average_pooling2d", lambda: KL.GlobalAveragePooling2D(name="pool"), (3, 4, 2)),
    ] + [(f"activation-{f}", lambda f=f: KL.Activation(f, name="act"), (6,)) for f in (
        "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus", "softsign", "swish", "silu",
        "gelu", "mish", "exponential", "softmax", "log_softmax")]:
        one(case, next(seeds), make_layer, shape, x=None if case.startswith("max") else with_zeros(4, *shape))

    for case, kind, arguments, shape, k in [
        ("spectral_conv2d_transpose-3x3-s2", SpectralConv2DTranspose, dict(filters=4, kernel_size=3, strides=2), (3, 4, 2),
         1.0),
        ("spectral_conv2d_transpose-4x3-k3", SpectralConv2DTranspose,
         dict(filters=3, kernel_size=(4, 3), strides=(2, 1), use_bias=False, activation="relu"), (4, 3, 5), 3.0),
        ("spectral_conv2d_transpose-2x2-s3", SpectralConv2DTranspose, dict(filters=4, kernel_size=2, strides=3), (2, 3, 4),
         1.0),
        ("conv2d_transpose-same-s2", KL.Conv2DTranspose, dict(filters=3, kernel_size=3, strides=2, padding="same"),
         (3, 4, 2), 1.0),
        ("conv2d_transpose-valid-s12", KL.Conv2DTranspose, dict(filters=3, kernel_size=(3, 1), strides=(1, 2)), (3, 4, 2),
         1.0),
    ] + [(f"pad_conv2d-{p}", PadConv2D, dict(filters=3, kernel_size=(4, 3), strides=(1, 2), padding=p), (5, 4, 2), 1.0)
         for p in ("same", "valid", "constant", "reflect", "symmetric", "circular")]:
        one(case, next(seeds), lambda: kind(name="c1", **arguments), shape, k, batch=3)

    for case, make_layer, shape in [
        ("reshape", lambda: KL.Reshape((4, -1), name="move"), (2, 6)),
        ("permute", lambda: KL.Permute((3, 1, 2), name="move"), (2, 3, 4)),
        ("zero_padding2d", lambda: KL.ZeroPadding2D(((1, 0), (2, 3)), name="move"), (2, 3, 2)),
    ]:
        one(case, next(seeds), make_layer, shape)

    # 1.5.0 puts the channel last among a sub-pixel's, 1.5.1 first; with one channel they agree. Up is right only where its
    # output is square.
    for i, (case, kind, pool, shape, ours) in enumerate([
        ("invertible_down_sampling", InvertibleDownSampling, (2, 3), (4, 6, 1), {}),
        ("invertible_down_sampling-subpixel", InvertibleDownSampling, (2, 3), (4, 6, 2),
         {"channel_order": "subpixel_major"}),
        ("invertible_up_sampling", InvertibleUpSampling, (2, 3), (3, 2, 6), {}),
        ("invertible_up_sampling-subpixel", InvertibleUpSampling, (2, 2), (3, 3, 8),
         {"channel_order": "subpixel_major"}),
    ]):
        one(case, 60000 + 100 * i, lambda: kind(pool, name="pool"), shape, **ours)

    # Activations with variables in a slot: kernel, bias, theta, u, sigma, wbar.
    seeds = iter(range(61000, 69000, 20))
    more_seeds = iter(range(70000, 79000, 20))  # of what was added later
    for case, make_slot in [
        ("householder", lambda: Householder(name="turn", theta_initializer=turn)),
        ("prelu", lambda: KL.PReLU(name="slope")),
        ("elu", lambda: KL.ELU(0.5, name="act")),
        ("leaky_relu", lambda: KL.LeakyReLU(0.2, name="act")),
        ("thresholded_relu", lambda: KL.ThresholdedReLU(0.1, name="act")),
        ("max_min", lambda: MaxMin(name="split", k_coef_lip=2.0)),
    ]:
        one("slot-spectral_dense-" + case, next(seeds), lambda: SpectralDense(6, activation=make_slot(), name="d1"), (5,))
        one("slot-spectral_conv2d-" + case, next(seeds),
            lambda: SpectralConv2D(4, (2, 3), activation=make_slot(), name="c1"), (3, 4, 2), batch=2)

    for case, make_layer, shape in [
        ("batch_normalization", lambda: KL.BatchNormalization(name="bn"), (5,)),
        ("batch_normalization-options", lambda: KL.BatchNormalization(name="bn", momentum=0.8, epsilon=0.01, scale=False), (3, 4)),
        ("batch_normalization-axis1", lambda: KL.BatchNormalization(name="bn", axis=1, center=False), (3, 4)),
        ("batch_normalization-image", lambda: KL.BatchNormalization(name="bn", momentum=0.9), (2, 3, 4)),
        ("batch_normalization-image-rows", lambda: KL.BatchNormalization(name="bn", axis=2), (2, 3, 4)),
        ("prelu-shared", lambda: KL.PReLU(shared_axes=[1, 2], name="act"), (3, 2, 4)),
        ("prelu-lip", lambda: lip.activations.PReLUlip(0.5), (6,)),
    ]:
        one(case, next(more_seeds), make_layer, shape, batch=6)

    # Every slot, for what get_config says of it; the numbers are those of the layer without them.
    regularizers, constraints, initializers = (getattr(tf.keras, n) for n in ("regularizers", "constraints", "initializers"))
    for case, make_layer, shape in [
        ("slots-spectral_dense", lambda: SpectralDense(
            4, name="d1", kernel_initializer=lip.initializers.SpectralInitializer(
                eps_bjorck=None, k_coef_lip=2.0, base_initializer="glorot_uniform"),
            bias_initializer=initializers.TruncatedNormal(0.5, 0.25, seed=3),
            kernel_regularizer=lip.regularizers.OrthDenseRegularizer(0.5), bias_regularizer=regularizers.L1L2(0.25, 0.5),
            activity_regularizer=regularizers.L2(0.125),
            kernel_constraint=lip.constraints.SpectralConstraint(2.0),
            bias_constraint=constraints.MinMaxNorm(0.25, 2.0, 0.5)), (3,)),
        ("slots-frobenius_dense", lambda: FrobeniusDense(
            4, name="d1", kernel_initializer=initializers.VarianceScaling(2.0, "fan_avg", "uniform"),
            bias_initializer=initializers.RandomUniform(-0.5, 0.5), kernel_regularizer=regularizers.OrthogonalRegularizer(0.5),
            kernel_constraint=lip.constraints.AutoWeightClipConstraint(2.0), bias_constraint=constraints.NonNeg()), (3,)),
        ("slots-spectral_conv2d", lambda: SpectralConv2D(
            4, 3, name="c1", kernel_initializer=initializers.Orthogonal(0.5, seed=1), bias_initializer=initializers.Constant(0.5),
            kernel_regularizer=lip.regularizers.LorthRegularizer(kernel_shape=(3, 3, 2, 4), lambda_lorth=0.5),
            kernel_constraint=constraints.MaxNorm(1.5, axis=[0, 1, 2]),
            bias_constraint=lip.constraints.WeightClipConstraint(0.5)), (4, 3, 2)),
        ("slots-conv2d", lambda: KL.Conv2D(
            4, 3, name="c1", kernel_initializer="he_normal", bias_initializer="ones",
            kernel_constraint=constraints.RadialConstraint(), bias_constraint=lip.constraints.FrobeniusConstraint(0.25)), (4, 3, 2)),
        ("slots-prelu", lambda: KL.PReLU("ones", alpha_regularizer="l2", alpha_constraint=constraints.UnitNorm(1), name="act"), (3, 2)),
        ("slots-batch_normalization", lambda: KL.BatchNormalization(
            beta_initializer="ones", gamma_initializer=initializers.RandomNormal(1.0, 0.25), moving_mean_initializer="ones",
            beta_regularizer="l1", gamma_regularizer=regularizers.L2(0.5), beta_constraint="non_neg",
            gamma_constraint=constraints.UnitNorm(0), name="bn"), (4,)),
        ("slots-householder", lambda: Householder(theta_initializer=initializers.LecunUniform(seed=2), name="turn"), (4,)),
    ]:
        one(case, next(more_seeds), make_layer, shape, batch=5)

    # Further shapes: images that are not square, even kernels, strides of 1 to 3; then channels_first.
    for case, kind, arguments, shape in [
        ("frobenius_conv2d-4x4", FrobeniusConv2D, dict(filters=2, kernel_size=4), (5, 7, 2)),
        ("spectral_conv2d_transpose-2x4-s23", SpectralConv2DTranspose,
         dict(filters=3, kernel_size=(2, 4), strides=(2, 3)), (3, 2, 3)),
        ("conv2d_transpose-same-4x2-s3", KL.Conv2DTranspose,
         dict(filters=2, kernel_size=(4, 2), strides=3, padding="same"), (2, 3, 2)),
        ("conv2d-valid-4x2-s3", KL.Conv2D, dict(filters=3, kernel_size=(4, 2), strides=3), (8, 7, 2)),
        ("pad_conv2d-reflect-3x5", PadConv2D, dict(filters=2, kernel_size=(3, 5), padding="reflect"), (4, 6, 2)),
        ("pad_conv2d-circular-5x2-s3", PadConv2D,
         dict(filters=2, kernel_size=(5, 2), strides=3, padding="circular"), (6, 5, 2)),
        ("frobenius_dense-image", FrobeniusDense, dict(units=3), (2, 3, 4)),
        ("spectral_dense-image", SpectralDense, dict(units=5), (3, 2, 4)),
    ]:
        one(case, next(seeds), lambda: kind(name="c1", **arguments), shape, batch=3)
    for case, make_layer, shape in [
        ("scaled_average_pooling2d-3x1", lambda: ScaledAveragePooling2D((3, 1), name="pool"), (7, 3, 2)),
        ("scaled_global_average_pooling2d-row", lambda: ScaledGlobalAveragePooling2D(name="pool"), (1, 6, 2)),
        ("scaled_global_l2_norm_pooling2d-row", lambda: ScaledGlobalL2NormPooling2D(name="pool"), (1, 6, 2)),
        ("scaled_global_l2_norm_pooling2d-column", lambda: ScaledGlobalL2NormPooling2D(name="pool"), (5, 2, 3)),
        ("full_sort-image", lambda: FullSort(name="sort"), (2, 3, 5)),
        ("full_sort-long", lambda: FullSort(name="sort"), (40,)),
        ("max_min-row", lambda: MaxMin(name="split"), (4, 3)),
        ("householder-row", lambda: Householder(name="turn", theta_initializer=turn), (3, 6)),
    ]:
        one(case, next(seeds), make_layer, shape)

    for case, kind, arguments, shape in [
        ("spectral_conv2d-first", SpectralConv2D, dict(filters=4, kernel_size=3, activation="relu"), (5, 4, 2)),
        ("spectral_conv2d-first-2x3-s2", SpectralConv2D, dict(filters=3, kernel_size=(2, 3), strides=2), (6, 5, 2)),
        ("spectral_conv2d-first-s13", SpectralConv2D, dict(filters=3, kernel_size=4, strides=(1, 3)), (4, 7, 2)),
        ("frobenius_conv2d-first", FrobeniusConv2D, dict(filters=2, kernel_size=(2, 3)), (4, 5, 3)),
        ("conv2d-first-valid-s2", KL.Conv2D, dict(filters=3, kernel_size=(3, 2), strides=2), (6, 5, 2)),
        ("conv2d-first-same", KL.Conv2D, dict(filters=3, kernel_size=2, padding="same", activation="tanh"), (3, 4, 2)),
        ("spectral_conv2d_transpose-first-s2", SpectralConv2DTranspose, dict(filters=3, kernel_size=3, strides=2),
         (2, 3, 2)),
        ("conv2d_transpose-first-s2", KL.Conv2DTranspose, dict(filters=3, kernel_size=2, strides=2), (3, 2, 2)),
        ("pad_conv2d-first-same", PadConv2D, dict(filters=2, kernel_size=3, padding="same"), (3, 4, 2)),
        ("scaled_average_pooling2d-first", ScaledAveragePooling2D, dict(pool_size=(2, 3)), (5, 6, 2)),
        ("scaled_l2_norm_pooling2d-first", ScaledL2NormPooling2D, dict(pool_size=(3, 2)), (6, 5, 2)),
        ("max_pooling2d-first", KL.MaxPooling2D, dict(pool_size=(3, 2), strides=1, padding="same"), (4, 5, 2)),
        ("average_pooling2d-first", KL.AveragePooling2D, dict(pool_size=2, strides=(1, 2), padding="same"), (4, 5, 2)),
        ("scaled_global_average_pooling2d-first", ScaledGlobalAveragePooling2D, dict(keepdims=True), (3, 4, 2)),
        ("scaled_global_l2_norm_pooling2d-first", ScaledGlobalL2NormPooling2D, {}, (3, 4, 2)),
        ("global_max_pooling2d-first", KL.GlobalMaxPooling2D, {}, (3, 4, 2)),
        ("global_average_pooling2d-first", KL.GlobalAveragePooling2D, dict(keepdims=True), (3, 4, 2)),
        ("flatten-first", KL.Flatten, {}, (3, 4, 2)),
        ("zero_padding2d-first", KL.ZeroPadding2D, dict(padding=((1, 0), (2, 3))), (3, 2, 2)),
        ("invertible_down_sampling-first", InvertibleDownSampling, dict(pool_size=(2, 3)), (4, 6, 1)),
        ("invertible_up_sampling-first", InvertibleUpSampling, dict(pool_size=(2, 3)), (3, 2, 6)),
        ("max_min-first", MaxMin, {}, (3, 4, 2)),
    ]:
        one(case, next(seeds), lambda: kind(name="c1", **arguments), shape, batch=2,
            turn=lambda: kind(name="c1", data_format="channels_first", **arguments))
    one("slot-spectral_conv2d-first-max_min", next(seeds),
        lambda: SpectralConv2D(3, 3, activation=MaxMin(name="split"), name="c1"), (3, 4, 2), batch=2,
        turn=lambda: SpectralConv2D(3, 3, activation=MaxMin(name="split", data_format="channels_first"), name="c1",
                                    data_format="channels_first"))

    # Three shapes of every kind in every format, so that check_golden.c finds them.
    seeds = iter(range(80000, 99999, 20))
    for case, make_layer, shapes in [
        ("activation-relu", lambda: KL.Activation("relu", name="act"), [(2, 3)]),
        ("activation-linear", lambda: KL.Activation("linear", name="act"), [(2, 3, 4)]),
        ("dense", lambda: KL.Dense(3, activation="tanh", name="d1"), [(2, 3, 4)]),
        ("elu", lambda: KL.ELU(0.5, name="act"), [(2, 3), (3, 2, 2)]),
        ("leaky_relu", lambda: KL.LeakyReLU(name="act"), [(2, 3), (3, 2, 2)]),
        ("thresholded_relu", lambda: KL.ThresholdedReLU(0.25, name="act"), [(2, 3), (3, 2, 2)]),
        ("re_lu", lambda: KL.ReLU(name="act"), [(2, 3), (3, 2, 2)]),
        ("softmax", lambda: KL.Softmax(name="act"), [(5,)]),
        ("group_sort2", lambda: GroupSort2(name="sort"), [(3, 6)]),
        ("reshape", lambda: KL.Reshape((-1,), name="move"), [(3, 2, 2)]),
        ("reshape-image", lambda: KL.Reshape((2, -1, 2), name="move"), [(12,)]),
        ("permute", lambda: KL.Permute((2, 1), name="move"), [(3, 4)]),
        ("permute-image", lambda: KL.Permute((2, 3, 1), name="move"), [(3, 2, 5)]),
        ("rescaling", lambda: KL.Rescaling(0.5, name="move"), [(5,), (3, 2, 2)]),
        ("rescaling-offset", lambda: KL.Rescaling(1 / 127.5, -1.0, name="move"), [(2, 3)]),
        ("batch_normalization-image-axis1", lambda: KL.BatchNormalization(name="bn", axis=1), [(3, 2, 4)]),
    ]:
        for shape in shapes:
            one(f"{case}-{'x'.join(map(str, shape))}", next(seeds), make_layer, shape, batch=3)
    for shape in [(7,), (2, 3), (3, 2, 2)]:
        one(f"dropout-{'x'.join(map(str, shape))}", next(seeds), lambda: KL.Dropout(0.25, name="thin"), shape, random=True)
    one("dropout-none", next(seeds), lambda: KL.Dropout(0.0, name="thin"), (4, 2))

    def both(case, kind, arguments, shape, last=True, batch=2):
        """The same with both formats, or with channels_first alone."""
        make_layer = lambda: kind(name="c1", **arguments)  # noqa: E731
        if last:
            one(case, next(seeds), make_layer, shape, batch=batch)
        one(case + "-first", next(seeds), make_layer, shape, batch=batch,
            turn="rewrite" if kind is PadConv2D else lambda: kind(name="c1", data_format="channels_first", **arguments))

    for case, kind, last, variants in [
        ("average_pooling2d", KL.AveragePooling2D, (True, False), [
            (dict(pool_size=(2, 3), strides=(3, 2)), (7, 4, 2)), (dict(pool_size=(1, 2)), (3, 6, 1))]),
        ("max_pooling2d", KL.MaxPooling2D, (True, False), [
            (dict(pool_size=(2, 3), strides=(3, 2)), (7, 4, 2)), (dict(pool_size=(1, 2)), (3, 6, 1))]),
        ("global_average_pooling2d", KL.GlobalAveragePooling2D, (True, True), [({}, (1, 6, 2)), (dict(keepdims=True), (4, 3, 3))]),
        ("global_max_pooling2d", KL.GlobalMaxPooling2D, (True, True), [({}, (1, 6, 2)), (dict(keepdims=True), (4, 3, 3))]),
        ("flatten", KL.Flatten, (True, True), [({}, (4, 3, 2)), ({}, (1, 5, 3))]),
        ("zero_padding2d", KL.ZeroPadding2D, (True, True), [(dict(padding=(1, 2)), (3, 4, 2)), (dict(padding=1), (1, 2, 3))]),
        ("scaled_average_pooling2d", ScaledAveragePooling2D, (False, False), [
            (dict(pool_size=(3, 1), k_coef_lip=2.0), (7, 3, 2)), (dict(pool_size=2), (4, 6, 3))]),
        ("scaled_l2_norm_pooling2d", ScaledL2NormPooling2D, (False, False), [
            (dict(pool_size=(1, 3), k_coef_lip=2.0), (3, 7, 2)), (dict(pool_size=2), (4, 6, 3))]),
        ("scaled_global_average_pooling2d", ScaledGlobalAveragePooling2D, (False, False), [({}, (1, 6, 2)), ({}, (5, 2, 3))]),
        ("scaled_global_l2_norm_pooling2d", ScaledGlobalL2NormPooling2D, (False, False), [({}, (1, 6, 2)), ({}, (5, 2, 3))]),
        ("max_min", MaxMin, (False, False), [({}, (2, 5, 3)), ({}, (4, 1, 2))]),
        ("invertible_down_sampling", InvertibleDownSampling, (True, False), [
            (dict(pool_size=(3, 1)), (6, 5, 1)), (dict(pool_size=(2, 2)), (4, 2, 1))]),
        ("invertible_up_sampling", InvertibleUpSampling, (True, False), [
            (dict(pool_size=(4, 1)), (1, 4, 4)), (dict(pool_size=(1, 2)), (4, 2, 2))]),
        ("conv2d", KL.Conv2D, (False, False), [
            (dict(filters=2, kernel_size=(4, 2), strides=(1, 3), padding="same"), (5, 7, 3))]),
        ("conv2d_transpose", KL.Conv2DTranspose, (True, False), [
            (dict(filters=2, kernel_size=(2, 4)), (4, 3, 2)), (dict(filters=3, kernel_size=(4, 3), strides=(1, 3), padding="same"),
                                                              (3, 2, 1))]),
        ("frobenius_conv2d", FrobeniusConv2D, (False, False), [
            (dict(filters=3, kernel_size=4, k_coef_lip=2.0), (5, 7, 2)), (dict(filters=2, kernel_size=3), (6, 4, 1))]),
        ("spectral_conv2d_transpose", SpectralConv2DTranspose, (False, False), [
            (dict(filters=3, kernel_size=(2, 4), strides=(1, 3), k_coef_lip=2.0), (3, 2, 3)),
            (dict(filters=2, kernel_size=3, activation="relu"), (4, 5, 2))]),
        ("pad_conv2d", PadConv2D, (False, False), [
            (dict(filters=3, kernel_size=(4, 3), strides=(1, 2), padding="reflect"), (5, 4, 2)),
            (dict(filters=2, kernel_size=(2, 5), strides=(3, 1), padding="circular"), (6, 7, 1)),
            (dict(filters=2, kernel_size=3, padding="symmetric"), (3, 5, 2))]),
        ("conv2d-groups", KL.Conv2D, (True,), [
            (dict(filters=6, kernel_size=(2, 3), strides=(2, 1), groups=3, padding="same"), (5, 4, 6))]),
        ("conv2d-gaps", KL.Conv2D, (True, True), [
            (dict(filters=3, kernel_size=(3, 2), dilation_rate=(2, 3), activation="relu"), (7, 6, 2)),
            (dict(filters=4, kernel_size=(3, 4), dilation_rate=(1, 2), groups=2, padding="same"), (4, 9, 2))]),
        ("conv2d_transpose-gaps", KL.Conv2DTranspose, (True, True), [
            (dict(filters=3, kernel_size=(3, 2), dilation_rate=2), (3, 5, 2)),
            (dict(filters=2, kernel_size=(2, 4), dilation_rate=3, padding="same"), (4, 5, 3))]),
        ("pad_conv2d-groups", PadConv2D, (True,), [
            (dict(filters=4, kernel_size=(3, 2), groups=2, padding="constant"), (4, 3, 2))]),
        ("pad_conv2d-gaps", PadConv2D, (True,), [
            (dict(filters=2, kernel_size=3, dilation_rate=(2, 1), padding="circular"), (6, 4, 2))]),
        ("conv2d_transpose-beyond", KL.Conv2DTranspose, (True, True), [
            (dict(filters=3, kernel_size=(3, 2), strides=(2, 3), padding="same", output_padding=(0, 2), activation="relu"), (3, 4, 2)),
            (dict(filters=2, kernel_size=(2, 5), strides=3, output_padding=(2, 1)), (2, 4, 3))]),
    ]:
        for i, (arguments, shape) in enumerate(variants):
            both(f"{case}-{'x'.join(map(str, shape))}", kind, arguments, shape, last[i] if i < 2 else False)


# ---- graph -----------------------------------------------------------------------------------------


def joined(*shape):
    """Every way to join tensors, around a constrained layer."""
    a, b = KL.Input(shape, name="a"), KL.Input(shape, name="b")
    c = shape[-1]
    d = (SpectralDense(c, name="d1") if len(shape) < 3 else SpectralConv2D(c, (2, 3), name="c1"))(a)
    sum_ = KL.Add(name="sum")([d, b, a])
    mean = KL.Average(name="mean")([sum_, b])
    less = KL.Subtract(name="less")([mean, a])
    times = KL.Multiply(name="times")([less, d, b])
    half = times * 0.5
    beside = KL.Concatenate(axis=1, name="beside")([half, b])
    sorted_ = FullSort(name="sort")(sum_)
    return tf.keras.Model([a, b], [beside, sorted_], name="net")


def shared():
    """A layer and a nested Sequential, used twice each, and a layer in between."""
    x = KL.Input((6,), name="x")
    d, sort = SpectralDense(6, activation="relu", name="d"), GroupSort2(name="sort")
    tower = lip.Sequential([KL.Input((6,), name="in"), SpectralDense(4, name="e"), GroupSort2(name="s")], name="tower",
                           k_coef_lip=2.0)
    first = d(x)
    again = d(sort(first)) * 0.5
    y = FrobeniusDense(3, name="y")(KL.Add(name="sum")([tower(first), tower(again)]))
    return tf.keras.Model(x, y, name="net")


def shared_image():
    """One convolution for three images, whose kernel gathers three gradients."""
    images = [KL.Input((4, 5, 2), name=n) for n in "abc"]
    conv, pool = SpectralConv2D(2, 3, name="c1"), ScaledL2NormPooling2D(2, name="pool")
    made = [pool(conv(conv(v) if i == 2 else v)) for i, v in enumerate(images)]
    y = SpectralDense(3, name="d1")(KL.Flatten(name="flat")(KL.Average(name="mean")(made)))
    return tf.keras.Model(images, [y, made[2]], name="net")


def residual(nested=True):
    """Blocks that add to what they read; with plain Keras models nested twice deep."""
    x = KL.Input((4, 6, 2), name="x")
    v = SpectralConv2D(4, 3, name="c0")(x)
    for i in range(2):
        def block(v):
            w = GroupSort2(name="sort%d" % i)(SpectralConv2D(4, (2, 3), name="c%d" % (i + 1))(v))
            return KL.Average(name="mean%d" % i)([v, w])
        if nested:
            inside = KL.Input((4, 6, 4), name="in%d" % i)
            inner = tf.keras.Model(inside, block(inside), name="inner%d" % i)
            outside = KL.Input((4, 6, 4), name="out%d" % i)
            v = tf.keras.Model(outside, inner(outside), name="outer%d" % i)(v)
        else:
            v = block(v)
    y = FrobeniusDense(3, name="y")(ScaledGlobalAveragePooling2D(name="pool")(v))
    return tf.keras.Model(x, y, name="net") if nested else lip.Model(x, y, name="net")


GRAPHS = {
    "joined-5": lambda: joined(5), "joined-2x3": lambda: joined(2, 3), "joined-3x4x2": lambda: joined(3, 4, 2),
    "shared": shared, "shared-image": shared_image, "residual-nested": residual,
    "residual": lambda: residual(False),
}


def graph_text(make):
    tf.keras.backend.clear_session()
    return make().to_json()


def graph():
    for i, case in enumerate(GRAPHS):
        text = graph_text(GRAPHS[case])
        config = json.loads(text)["config"]
        plain = not any(e["class_name"] == "Functional" or e["class_name"] == "Sequential" and not e["registered_name"]
                        for e in config["layers"])

        def make(seed):
            rng = np.random.default_rng(seed)
            weights = draw_weights(rng, text)
            net = Graph(text, weights)
            inputs = [normal(rng, 3, *v.shape[1:]) for v in net.model.inputs]
            dy = [normal(rng, 3, *v.shape[1:]) for v in net.model.outputs]
            xs, up = (v if len(v) > 1 else v[0] for v in (inputs, dy))
            got, trained = one_pass(text, weights, xs, up, "float32")
            exact, _ = one_pass(text, weights, xs, up, "float64")
            more = {}
            if plain:
                made = export(text, trained)
                for name, y in several("y_vanilla", arrays(made(xs, training=False))).items():
                    assert np.max(np.abs(y - got[name])) <= 1e-6 * np.max(np.abs(y))
                    got[name] = y
                more["vanilla_definition"] = made.to_json()
            return {**named("weights/", weights), **several("x", xs), **several("dy", up), **got}, {
                "definition": text, **more, **floors(got, exact)}

        settle("graph", case, 71000 + 100 * i, make, 2e-5)


# ---- losses ----------------------------------------------------------------------------------------


def soft_hkr():
    """The class of a version that PyPI does not have."""
    source = os.path.join(os.environ["DEEL_LIP_SOURCE"], "deel/lip/losses.py")
    spec = importlib.util.spec_from_file_location("deel.lip.losses_of_1_5_1", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MulticlassSoftHKR


def loss_class(kind):
    if kind == "MulticlassSoftHKR":
        return soft_hkr()
    return getattr(lip.losses if hasattr(lip.losses, kind) else tf.keras.losses, kind)


def soft_formula(config, y, p, memory):
    """MulticlassSoftHKR; memory holds the running mean of the calls before."""
    m = np.float64(np.float32(config["min_margin"]))
    sign, mean = 2 * tf.cast(y > 0, tf.float64) - 1, memory.get("mean", config["min_margin"])
    mean = config["alpha_mean"] * mean + (1 - config["alpha_mean"]) * float(tf.reduce_mean(tf.abs(p)))
    memory["mean"] = mean
    t = np.clip(config["temperature"] * config["min_margin"] / np.clip(mean, config["min_margin"], 20000), 0.005, 250)
    share = tf.where(y > 0, 1, tf.nn.softmax(tf.where(y > 0, -np.inf, t * p)))
    hinge = tf.nn.relu(m / 2 - sign * p) * share
    if np.isinf(config["alpha"]):
        return hinge  # a matrix: its mean is over the classes, too
    return tf.reduce_sum(-sign * p * share, axis=-1) / np.float64(np.float32(config["alpha"])) + tf.reduce_sum(hinge, axis=-1)


def loss_formula(class_name, config, y, p, memory=None):
    """Per-sample value in float64, written from the definitions, with TensorFlow's conventions at ties. tau, alpha and
    margin are the float32 values that the loss holds."""
    if class_name == "MulticlassSoftHKR":
        return soft_formula(config, y, p, {} if memory is None else memory)
    f = lambda key: tf.constant(np.float64(np.float32(config[key])))  # noqa: E731
    n, c = p.shape
    if class_name == "TauSparseCategoricalCrossentropy":
        y = tf.one_hot(tf.cast(tf.reshape(y, [-1]), tf.int32), c, dtype=tf.float64)
    positive = tf.cast(y > 0, tf.float64)
    sign = 2 * positive - 1

    def kr():
        if config["multi_gpu"]:
            return tf.reduce_mean(p * y, axis=-1)
        one = tf.cast(tf.equal(y, 1), tf.float64)
        count = tf.reduce_sum(one, axis=0)
        share = tf.where(count > 0, one / tf.maximum(count, 1), 0)
        share -= tf.where(n - count > 0, (1 - one) / tf.maximum(n - count, 1), 0)
        return tf.reduce_mean(n * p * share, axis=-1)

    def hinge(weight=1.0):
        return tf.reduce_mean((1 + positive * (weight - 1)) * tf.nn.relu(f("min_margin") / 2 - sign * p), axis=-1)

    if class_name in ("KR", "MulticlassKR"):
        return kr()
    if class_name == "HingeMargin":
        return hinge()
    if class_name == "MulticlassHinge":
        return hinge(c - 1)
    if class_name in ("HKR", "MulticlassHKR"):
        part = hinge(1.0 if class_name == "HKR" else c - 1)
        return part if np.isinf(config["alpha"]) else -kr() + f("alpha") * part
    if class_name == "MultiMargin":
        target = tf.reduce_sum(p * positive, axis=-1, keepdims=True)
        return tf.reduce_mean((1 - positive) * tf.nn.relu(f("min_margin") - target + p), axis=-1)
    if class_name == "CategoricalHinge":
        target = tf.reduce_sum(p * positive, axis=-1)
        other = tf.reduce_max(tf.where(positive > 0, -np.inf, p), axis=-1)
        return tf.nn.relu(f("min_margin") - (target - other))
    if class_name in KERAS_LOSSES:
        return keras_formula(class_name, config, y, p)
    tau = f("tau")
    if class_name.startswith("TauBinary"):
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(positive, tau * p), axis=-1) / tau
    return tf.nn.softmax_cross_entropy_with_logits(y, tau * p) / tau


KERAS_LOSSES = ("MeanSquaredError", "MeanAbsoluteError", "Hinge", "BinaryCrossentropy", "CategoricalCrossentropy",
                "SparseCategoricalCrossentropy")


def keras_formula(class_name, config, y, p):
    """The same for Keras's own losses, with its clipping."""
    least = np.float64(np.float32(1e-7))
    clip = lambda q: tf.clip_by_value(q, least, np.float64(np.float32(1) - np.float32(1e-7)))  # noqa: E731
    c = p.shape[-1]
    if class_name == "MeanSquaredError":
        return tf.reduce_mean((p - y) ** 2, axis=-1)
    if class_name == "MeanAbsoluteError":
        return tf.reduce_mean(tf.abs(p - y), axis=-1)
    if class_name == "Hinge":
        return tf.reduce_mean(tf.maximum(1 - (2 * tf.cast(y > 0, tf.float64) - 1) * p, 0), axis=-1)
    if class_name == "SparseCategoricalCrossentropy":
        z = p if config["from_logits"] else tf.math.log(clip(p))
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(tf.reshape(y, [-1]), tf.int64), z)
    smoothing = np.float64(np.float32(config["label_smoothing"]))
    if class_name == "BinaryCrossentropy":
        y = y * (1 - smoothing) + 0.5 * smoothing
        if config["from_logits"]:
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(y, p), axis=-1)
        q = clip(p)
        return -tf.reduce_mean(y * tf.math.log(q + least) + (1 - y) * tf.math.log(1 - q + least), axis=-1)
    y = y * (1 - smoothing) + smoothing / c
    if config["from_logits"]:
        return tf.nn.softmax_cross_entropy_with_logits(y, p)
    return -tf.reduce_sum(y * tf.math.log(clip(p / tf.reduce_sum(p, axis=-1, keepdims=True))), axis=-1)


def loss_results(call, per_sample, y, p, weight, dtype, sums):
    p = tf.constant(p, dtype)
    out = {}
    for name, w in (("", None), ("_weighted", weight)):
        if name and w is None:
            continue
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = call(y, p, w)
        out["value" + name] = np.mean(value.numpy())
        out["grad" + name] = tape.gradient(value, p).numpy()  # of a vector: of its sum
    single = per_sample(y, p).numpy()
    single = single.reshape(len(single), -1)
    out["per_sample"] = single.sum(axis=1) if sums else single.mean(axis=1)
    return out


def loss():
    names = ("value", "value_weighted", "per_sample")

    def one(case, seed, kind, arguments, y, p, weight=None, eager=False):
        if not case.startswith(files.ONLY):
            return
        tf.config.run_functions_eagerly(eager)
        cls = loss_class(kind)
        config = {"class_name": kind, "config": cls(**arguments).get_config()}
        sums = arguments.get("reduction") == "sum"
        single = cls(**{**arguments, "reduction": "none"})
        given = {"y_true": y, "y_pred": p}
        if weight is not None:
            given["sample_weight"] = weight
        got = loss_results(lambda a, b, w: cls(**arguments)(a, b, sample_weight=w),  # new ones: some remember
                           single, tf.constant(y), p, weight, "float32", sums)
        tf.config.run_functions_eagerly(False)

        def per_sample(a, b):
            return loss_formula(kind, config["config"], tf.cast(a, tf.float64), b)

        def reduced(a, b, w):
            each = per_sample(a, b)
            if w is not None:
                each *= tf.reshape(tf.cast(w, tf.float64), [-1] + [1] * (len(each.shape) - 1))
            how = config["config"]["reduction"]
            return tf.reduce_sum(each) if how == "sum" else each if how == "none" else tf.reduce_mean(each)

        exact = loss_results(reduced, per_sample, tf.constant(y), p, weight, "float64", sums)
        found = floors(got, exact, names)
        assert worst(found) < 2e-5, (case, found)
        print(f"loss-{case}: worst floor", worst(found))
        write("loss", case, seed, {**given, **got}, SOFT if kind == "MulticlassSoftHKR" else None,
              loss=json.dumps(config, default=float), **found)

    def binary(seed, n=12, low=0.0, c=1):
        """Labels low or 1, both present; predictions random, then on the margin, at zero and equal."""
        rng = np.random.default_rng(seed)
        y = np.where(rng.random((n, c)) < 0.4, 1.0, low).astype(np.float32)
        y[0], y[1] = 1.0, low
        p = normal(rng, n, c)
        p[2:8, 0] = [0.5, -0.5, 0.0, 0.5, 1.0, -0.5]
        return y, p, (rng.random(n) + 0.25).astype(np.float32)

    def multi(seed, n=10, c=4):
        """One-hot labels with every class present; ties on the margin and between predictions."""
        rng = np.random.default_rng(seed)
        label = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
        rng.shuffle(label)
        y = np.eye(c, dtype=np.float32)[label]
        p = normal(rng, n, c)
        p[0] = 0.5 * (2 * y[0] - 1)
        p[1, :2] = 0.25
        p[2] = 0
        p[3] = 1.0 + y[3]
        return y, p, (rng.random(n) + 0.25).astype(np.float32), label.astype(np.float32)

    seed = 20000
    for low, label in ((0.0, "01"), (-1.0, "11")):
        for kind, short, arguments in [
            ("KR", "kr", {}),
            ("HKR", "hkr-0", dict(alpha=0.0)),
            ("HKR", "hkr-10", dict(alpha=10.0, min_margin=1.0)),
            ("HKR", "hkr-inf", dict(alpha=np.inf, min_margin=2.0)),
            ("HingeMargin", "hinge_margin", {}),
            ("TauBinaryCrossentropy", "tau_binary-1", dict(tau=1.0)),
            ("TauBinaryCrossentropy", "tau_binary-10", dict(tau=10.0)),
        ]:
            seed += 1
            y, p, w = binary(seed, low=low)
            one(f"{short}-{label}", seed, kind, arguments, y, p, w)
    for kind, short, arguments in [
        ("MulticlassKR", "multiclass_kr", {}),
        ("MulticlassHinge", "multiclass_hinge", {}),
        ("MulticlassHKR", "multiclass_hkr-10", dict(alpha=10.0)),
        ("MulticlassHKR", "multiclass_hkr-50", dict(alpha=50.0, min_margin=0.5)),
        ("MulticlassHKR", "multiclass_hkr-inf", dict(alpha=np.inf)),
        ("MultiMargin", "multi_margin", {}),
        ("CategoricalHinge", "categorical_hinge", dict(min_margin=1.0)),
        ("TauCategoricalCrossentropy", "tau_categorical-1", dict(tau=1.0)),
        ("TauCategoricalCrossentropy", "tau_categorical-10", dict(tau=10.0)),
        ("TauCategoricalCrossentropy", "tau_categorical-100", dict(tau=100.0)),
        ("TauSparseCategoricalCrossentropy", "tau_sparse-10", dict(tau=10.0)),
        ("HKR", "hkr-multilabel", dict(alpha=5.0)),
    ]:
        seed += 1
        y, p, w, index = multi(seed)
        if kind.startswith("TauSparse"):
            y = index.reshape(-1, 1)
        one(short, seed, kind, arguments, y, p, w)

    # Keras's own. Probabilities include some beyond its limits, which it clips, and rows that do not sum to 1.
    for kind, short, arguments in [
        ("MeanSquaredError", "mse", {}),
        ("MeanAbsoluteError", "mae", {}),
        ("Hinge", "hinge", {}),
        ("BinaryCrossentropy", "binary", {}),
        ("BinaryCrossentropy", "binary-logits", dict(from_logits=True)),
        ("BinaryCrossentropy", "binary-smooth", dict(label_smoothing=0.2)),
        ("CategoricalCrossentropy", "categorical", {}),
        ("CategoricalCrossentropy", "categorical-logits", dict(from_logits=True)),
        ("CategoricalCrossentropy", "categorical-smooth", dict(from_logits=True, label_smoothing=0.1)),
        ("SparseCategoricalCrossentropy", "sparse", {}),
        ("SparseCategoricalCrossentropy", "sparse-logits", dict(from_logits=True)),
    ]:
        seed += 1
        y, p, w, index = multi(seed)
        if "rossentropy" in kind and not arguments.get("from_logits"):
            p = (1 / (1 + np.exp(-p))).astype(np.float32)
            p[4, :2] = [0.0, 1.0]
        if kind.startswith("Sparse"):
            y = index.reshape(-1, 1)
        elif kind == "Hinge":
            p[5] = 2 * y[5] - 1  # the margin just reached
        elif kind.startswith("Mean"):
            y = (y + 0.25).astype(np.float32)
            p[6] = y[6]
        one("keras_" + short, seed, kind, arguments, y, p, w)

    # A class nobody has, and a batch of positives only: in a traced function TensorFlow folds N - n + eps to 0 and
    # gives NaN for the second; eagerly it gives what the formula says.
    rng = np.random.default_rng(20900)
    y = np.eye(4, dtype=np.float32)[[0, 1, 1, 3, 0, 1]]
    one("multiclass_hkr-absent", 20900, "MulticlassHKR", dict(alpha=10.0), y, normal(rng, 6, 4))
    one("hkr-all-negative", 20900, "HKR", dict(alpha=2.0), np.zeros((5, 1), np.float32), normal(rng, 5, 1))
    one("hkr-all-positive", 20900, "HKR", dict(alpha=2.0), np.ones((5, 1), np.float32), normal(rng, 5, 1), eager=True)

    # The worked data of deel-lip's documented behaviour: margins that float32 does not hold exactly.
    y = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32).reshape(-1, 1)
    p = np.array([0.5, 1.1, -0.1, 0.7, -1.3, -0.4, 0.2, -0.9], np.float32).reshape(-1, 1)
    one("set1-hkr", 0, "HKR", dict(alpha=2.5, min_margin=2.0), y, p)
    one("set1-hinge", 0, "HingeMargin", dict(min_margin=1.4), y, p)
    y = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 2, 2]]
    p = np.array([[1.5, .2, -.5], [1, -1.2, .3], [.8, 2, -2], [0, 1, -.5], [-.8, 2, 0], [2.4, -.4, -1.1],
                  [-.1, -1.7, .6], [1.2, 1.3, 2.5]], np.float32)
    one("set3-multiclass_hkr", 0, "MulticlassHKR", dict(alpha=2.5), y, p)
    one("set3-multi_margin", 0, "MultiMargin", dict(min_margin=0.7), y, p)
    one("set3-categorical_hinge", 0, "CategoricalHinge", dict(min_margin=1.1), y, p)
    one("set3-tau_categorical", 0, "TauCategoricalCrossentropy", dict(tau=2.0), y, p)

    # Labels that deel-lip has made into weights, which it sums over all devices; the other reductions; soft weights.
    for seed, (kind, short, arguments, several) in enumerate([
        ("KR", "kr", {}, False), ("HKR", "hkr", dict(alpha=5.0), False),
        ("MulticlassKR", "multiclass_kr", {}, True), ("MulticlassHKR", "multiclass_hkr", dict(alpha=5.0), True),
    ], 20950):
        y, p, w = (multi if several else binary)(seed)[:3]
        y = process_labels_for_multi_gpu(tf.constant(y)).numpy()
        one(f"{short}-multi_gpu", seed, kind, dict(**arguments, multi_gpu=True, reduction="sum"), y, p, w)
    for reduction in ("sum", "none"):
        for seed, (kind, short, arguments) in enumerate([
            ("MulticlassHKR", "multiclass_hkr", dict(alpha=10.0)), ("MulticlassSoftHKR", "multiclass_soft_hkr-inf", dict(alpha=np.inf)),
            ("TauCategoricalCrossentropy", "tau_categorical", dict(tau=3.0)), ("MeanSquaredError", "keras_mse", {}),
        ], 20960):
            y, p, w, _ = multi(seed)
            one(f"{short}-{reduction}", seed, kind, dict(**arguments, reduction=reduction), y, p, w)
    for seed, (short, arguments) in enumerate([
        ("5", dict(alpha=5.0, min_margin=0.2)), ("10", {}), ("inf", dict(alpha=np.inf)),
        ("hot", dict(alpha=20.0, min_margin=0.5, alpha_mean=0.5, temperature=8.0)),
    ], 20970):
        y, p, w, _ = multi(seed)
        one(f"multiclass_soft_hkr-{short}", seed, "MulticlassSoftHKR", arguments, y, p, w)


# ---- optimizers ------------------------------------------------------------------------------------


def optimizers():
    keras, plans = tf.keras.optimizers, tf.keras.optimizers.schedules
    return [
        ("sgd", keras.SGD(0.05)),
        ("sgd-momentum", keras.SGD(0.05, momentum=0.9)),
        ("sgd-nesterov", keras.SGD(0.05, momentum=0.9, nesterov=True)),
        ("adam", keras.Adam(1e-2)),
        ("adam-options", keras.Adam(3e-3, beta_1=0.8, beta_2=0.99, epsilon=1e-5)),
        ("adam-amsgrad", keras.Adam(1e-2, amsgrad=True)),
        ("adamw", keras.AdamW(1e-2)),
        ("adamw-decay", keras.AdamW(1e-2, weight_decay=0.1, amsgrad=True)),
        ("rmsprop", keras.RMSprop(1e-2)),
        ("rmsprop-centered", keras.RMSprop(1e-2, rho=0.8, centered=True)),
        ("rmsprop-momentum", keras.RMSprop(1e-2, momentum=0.9, epsilon=1e-4)),
        ("rmsprop-all", keras.RMSprop(1e-2, momentum=0.5, centered=True, weight_decay=0.01)),
        ("sgd-decay", keras.SGD(0.05, momentum=0.9, weight_decay=0.1)),
        ("sgd-clipvalue", keras.SGD(0.05, clipvalue=0.5)),
        ("sgd-clipnorm", keras.SGD(0.05, clipnorm=1.0)),
        ("sgd-global_clipnorm", keras.SGD(0.05, global_clipnorm=2.0)),
        ("adam-ema", keras.Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7)),
        ("sgd-exponential", keras.SGD(plans.ExponentialDecay(0.1, 10, 0.5))),
        ("sgd-exponential-stairs", keras.SGD(plans.ExponentialDecay(0.1, 10, 0.5, staircase=True))),
        ("sgd-inverse_time", keras.SGD(plans.InverseTimeDecay(0.1, 4, 0.5))),
        ("sgd-piecewise", keras.SGD(plans.PiecewiseConstantDecay([5, 12], [0.1, 0.05, 0.01]))),
        ("sgd-polynomial", keras.SGD(plans.PolynomialDecay(0.1, 20, 0.01, power=2.0))),
        ("sgd-polynomial-cycle", keras.SGD(plans.PolynomialDecay(0.1, 8, 0.01, cycle=True))),
        ("adam-cosine", keras.Adam(plans.CosineDecay(0.01, 20, alpha=0.1))),
        ("adam-cosine-warmup", keras.Adam(plans.CosineDecay(0.0, 20, warmup_target=0.02, warmup_steps=6))),
        ("sgd-cosine-restarts", keras.SGD(plans.CosineDecayRestarts(0.1, 4, t_mul=2.0, m_mul=0.8, alpha=0.05))),
        ("sgd-cosine-restarts-equal", keras.SGD(plans.CosineDecayRestarts(0.1, 8, t_mul=1.0))),
    ]


# ---- training --------------------------------------------------------------------------------------

STEPS, KEPT = 100, (1, 2, 10, 50, 100)


def train(text, training, weights, x, y, batch_index, dtype, kept=KEPT):
    """deel-lip's own step, eagerly: training-mode forward, loss, gradients, optimizer. In float64 the loss is our
    formula, because deel-lip's holds float32 variables."""
    chain = reader(text)(text, weights, dtype)
    optimizer = getattr(tf.keras.optimizers, training["optimizer"]["class_name"]).from_config(
        copy.deepcopy(training["optimizer"]["config"]))
    kind, config = training["loss"]["class_name"], training["loss"]["config"]
    made = loss_class(kind).from_config(config)
    trained = [v for _, v in chain.trainable()]
    optimizer.build(trained)
    out, losses, memory = {}, [], {}
    for step, at in enumerate(batch_index, 1):
        with tf.GradientTape() as tape:
            p = chain(x[at], True)
            if dtype == "float32":
                value = made(tf.constant(y[at]), p)
            else:
                value = tf.reduce_mean(loss_formula(kind, config, tf.constant(y[at], dtype), p, memory))
        optimizer.apply_gradients(zip(tape.gradient(value, trained), trained))
        losses.append(value.numpy())
        if step in kept:
            out.update({f"step{step}/" + k: v for k, v in chain.get("").items()})
    return {"loss": np.array(losses), **out}


def training():
    sgd = {"class_name": "SGD", "config": tf.keras.optimizers.SGD(0.05).get_config()}
    adam = {"class_name": "Adam", "config": tf.keras.optimizers.Adam(1e-2).get_config()}
    nets = {
        "multiclass_hkr": (
            [SpectralDense(16, name="d1"), GroupSort2(name="a1"), FrobeniusDense(3, name="d2")], (8,), 3,
            lip.losses.MulticlassHKR(alpha=10.0, min_margin=1.0), 31000),
        "hkr": (
            [SpectralDense(12, name="d1"), GroupSort2(name="a1"), SpectralDense(1, name="d2")], (6,), 1,
            lip.losses.HKR(alpha=10.0, min_margin=1.0), 32000),
        "conv": (
            [SpectralConv2D(4, (3, 3), name="c1"), GroupSort2(name="a1"), ScaledL2NormPooling2D((2, 2), name="p1"),
             KL.Flatten(name="f1"), SpectralDense(8, name="d1"), FrobeniusDense(3, name="d2")], (8, 8, 1), 3,
            lip.losses.TauCategoricalCrossentropy(tau=10.0), 33000),
        # Moving averages, and a constraint that acts after each step.
        "batch_normalization": (
            [KL.Dense(8, use_bias=False, name="d1"), KL.BatchNormalization(momentum=0.9, name="bn"), lip.activations.PReLUlip(0.5),
             KL.Dense(3, name="d2")], (5,), 3, lip.losses.TauCategoricalCrossentropy(tau=2.0), 34000),
    }
    pool, batch = 6, 32
    for net, (layers, shape, c, made, seed) in nets.items():
        text = definition(layers, shape)
        for label, optimizer in (("sgd", sgd), ("adam", adam)):
            job = {"optimizer": optimizer,
                   "loss": {"class_name": type(made).__name__, "config": made.get_config()}}
            job = json.loads(json.dumps(job, default=float))

            def make(seed):
                rng = np.random.default_rng(seed)
                weights = draw_weights(rng, text)
                klass = rng.integers(0, max(c, 2), (pool, batch))
                klass[:, : max(c, 2)] = np.arange(max(c, 2))
                centre = normal(rng, max(c, 2), *shape, scale=0.7)
                x = (centre[klass] + normal(rng, pool, batch, *shape, scale=0.6)).astype(np.float32)
                y = np.eye(c, dtype=np.float32)[klass] if c > 1 else (2.0 * klass - 1)[..., None].astype(np.float32)
                order = rng.integers(0, pool, STEPS)
                got = train(text, job, weights, x, y, order, "float32")
                exact = train(text, job, weights, x, y, order, "float64")
                given = {**named("weights/", weights), "x": x, "y_true": y, "batch_index": order}
                return {**given, **got}, {"definition": text, "training": json.dumps(job),
                                          **floors(got, exact, ("loss",))}

            settle("training", f"{net}-{label}", seed, make, 5e-5)


def branches():
    """Branches that are joined in every way, one of them a nested deel-lip Sequential with a k of its own, another a plain model."""
    x = KL.Input((5,), name="x")
    a = GroupSort2(name="sort")(SpectralDense(6, name="a")(x))
    tower = lip.Sequential([KL.Input((6,), name="in"), SpectralDense(8, name="e"), GroupSort(4, name="s"), SpectralDense(6, name="f")],
                           name="tower", k_coef_lip=2.0)
    inside = KL.Input((6,), name="inside")
    plain = tf.keras.Model(inside, FrobeniusDense(6, name="g", activation="tanh")(inside), name="plain")
    b, c = tower(a), plain(a)
    joined = [KL.Add(name="sum")([a, b]), KL.Average(name="mean")([b, c, a]), KL.Subtract(name="less")([b, c]),
              KL.Multiply(name="times")([a, c]) * 0.5]
    y = FrobeniusDense(3, name="y")(SpectralDense(8, name="d")(KL.Concatenate(name="beside")(joined)))
    return tf.keras.Model(x, y, name="net")


def every_kind():
    """Images through every layer and activation of deel-lip that is one."""
    x = v = KL.Input((8, 8, 2), name="x")
    for each in [
        SpectralConv2D(6, (3, 2), name="c1"), GroupSort(3, name="a1"), ScaledL2NormPooling2D(2, name="p1"),
        FrobeniusConv2D(4, (2, 3), name="c2"), Householder(theta_initializer=tf.keras.initializers.Constant(1.5), name="a2"),
        InvertibleDownSampling((2, 2), name="down"), SpectralConv2DTranspose(4, 3, strides=2, name="c3"), MaxMin(name="a3"),
        InvertibleUpSampling((2, 2), name="up"), lip.activations.PReLUlip(0.5), SpectralConv2D(4, 3, strides=2, name="c4"),
        GroupSort2(name="a4"), PadConv2D(2, 3, padding="circular", name="c5"), ScaledAveragePooling2D(2, name="p2"),
    ]:
        v = each(v)
    ends = [ScaledGlobalAveragePooling2D(name="g1")(v), ScaledGlobalL2NormPooling2D(name="g2")(v), KL.Flatten(name="flat")(v)]
    w = KL.Concatenate(name="beside")(ends)
    y = FrobeniusDense(3, name="y")(FullSort(name="a5")(SpectralDense(6, activation=GroupSort2(name="sort"), name="d1")(w)))
    return lip.Model(x, y, name="net")


def as_ours(text):
    """The definition with the key that says which order of channels 1.5.0's sampling has."""
    read = json.loads(text)
    for entry in read["config"]["layers"]:
        if entry["class_name"].startswith("Invertible"):
            entry["config"]["channel_order"] = "subpixel_major"
    return json.dumps(read)


def steps():
    """Thirty steps with every loss, with every optimizer, and of functional models."""
    def net(c, activation=None):
        return [SpectralDense(8, name="d1"), GroupSort2(name="a1"),
                FrobeniusDense(c, name="d2", activation=activation) if c > 1
                else SpectralDense(1, name="d2", activation=activation)]

    losses, keras = lip.losses, tf.keras.losses
    binary = [("kr", losses.KR()), ("hkr", losses.HKR(alpha=5.0)), ("hinge_margin", losses.HingeMargin()),
              ("tau_binary", losses.TauBinaryCrossentropy(tau=5.0)), ("hinge", keras.Hinge()),
              ("binary_crossentropy", keras.BinaryCrossentropy(from_logits=True)),
              ("binary_crossentropy-sigmoid", keras.BinaryCrossentropy(label_smoothing=0.1))]
    several = [("multiclass_kr", losses.MulticlassKR()), ("multiclass_hinge", losses.MulticlassHinge()),
               ("multiclass_hkr", losses.MulticlassHKR(alpha=5.0)), ("multi_margin", losses.MultiMargin()),
               ("categorical_hinge", losses.CategoricalHinge(1.0)),
               ("tau_categorical", losses.TauCategoricalCrossentropy(tau=5.0)),
               ("tau_sparse", losses.TauSparseCategoricalCrossentropy(tau=5.0)), ("mse", keras.MeanSquaredError()),
               ("mae", keras.MeanAbsoluteError()),
               ("categorical_crossentropy", keras.CategoricalCrossentropy(from_logits=True)),
               ("categorical_crossentropy-softmax", keras.CategoricalCrossentropy()),
               ("sparse_crossentropy-softmax", keras.SparseCategoricalCrossentropy())]
    sgd, adam = tf.keras.optimizers.SGD(0.05), losses.MulticlassHKR(alpha=5.0)
    cases = [("loss-" + name, made, sgd, 1) for name, made in binary] + [("loss-" + name, made, sgd, 3) for name, made in several]
    cases += [("optimizer-" + name, adam, made, 3) for name, made in optimizers()]
    cases += [("loss-multiclass_soft_hkr", soft_hkr()(alpha=5.0, min_margin=0.5, alpha_mean=0.9), sgd, 3)]

    def one(case, seed, text, made, optimizer, c, shape, batch=16):
        job = {"optimizer": {"class_name": type(optimizer).__name__, "config": optimizer.get_config()},
               "loss": {"class_name": type(made).__name__, "config": made.get_config()}}
        job = json.loads(json.dumps(job, default=float))

        def make(seed):
            rng = np.random.default_rng(seed)
            weights = draw_weights(rng, text)
            klass = rng.integers(0, max(c, 2), (3, batch))
            klass[:, : max(c, 2)] = np.arange(max(c, 2))
            centre = normal(rng, max(c, 2), *shape, scale=0.7)
            x = (centre[klass] + normal(rng, 3, batch, *shape, scale=0.6)).astype(np.float32)
            if "sparse" in case:
                y = klass[..., None].astype(np.float32)
            else:
                y = np.eye(c, dtype=np.float32)[klass] if c > 1 else klass[..., None].astype(np.float32)
            order = np.arange(30) % 3
            got, exact = (train(text, job, weights, x, y, order, dtype, (1, 30)) for dtype in ("float32", "float64"))
            given = {**named("weights/", weights), "x": x, "y_true": y, "batch_index": order}
            return {**given, **got}, {"definition": as_ours(text), "training": json.dumps(job), **floors(got, exact, ("loss",)),
                                      **({"tool": SOFT} if "soft" in case else {})}

        settle("steps", case, seed, make, 3e-5)

    for i, (case, made, optimizer, c) in enumerate(cases):
        activation = "sigmoid" if case.endswith("sigmoid") else "softmax" if case.endswith("softmax") else None
        one(case, 61000 + 100 * i, definition(net(c, activation), (5,)), made, optimizer, c, (5,))
    tau = losses.TauCategoricalCrossentropy(tau=5.0)
    for i, (case, make_model, made, optimizer, shape, batch) in enumerate([
        ("branches", branches, adam, tf.keras.optimizers.Adam(1e-2), (5,), 16),
        ("shared", shared, adam, sgd, (6,), 16),
        ("residual-nested", residual, tau, sgd, (4, 6, 2), 8),
        ("every-kind", every_kind, tau, sgd, (8, 8, 2), 6),
    ]):
        one("graph-" + case, 69000 + 100 * i, graph_text(make_model), made, optimizer, 3, shape, batch)


# ---- model -----------------------------------------------------------------------------------------


def legacy(value):
    """Keras <= 2.12's dialect: {"class_name": "package>Name", "config"} and nothing else."""
    if isinstance(value, list):
        return [legacy(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "class_name" in value and "config" in value and "module" in value:
        return {"class_name": value.get("registered_name") or value["class_name"], "config": legacy(value["config"])}
    return {k: legacy(v) for k, v in value.items()}


def whole(text, weights, x, dtype):
    chain = Chain(text, weights, dtype)
    out = {"y_infer": chain(x, False).numpy(), "y_train": chain(x, True).numpy()}
    out.update(chain.get("after/", ("u", "sigma", "wbar")))
    trained = chain.get("")
    out["y_vanilla"] = chain(x, False).numpy()
    chain.condense()
    out.update(chain.get("condensed/", ("kernel", "u", "sigma")))
    out["y_condensed"] = chain(x, True).numpy()
    return out, trained


def model():
    nets = {
        "cnn": ([
            SpectralConv2D(8, (3, 3), name="c1"), GroupSort2(name="a1"), ScaledL2NormPooling2D((2, 2), name="p1"),
            SpectralConv2D(16, (3, 3), name="c2"), GroupSort2(name="a2"), ScaledL2NormPooling2D((2, 2), name="p2"),
            KL.Flatten(name="f1"), SpectralDense(64, name="d1"), GroupSort2(name="a3"), FrobeniusDense(10, name="d2"),
        ], (12, 12, 1), 1.0, 41000),
        "mlp-k2": ([
            SpectralDense(24, name="d1"), GroupSort2(name="a1"), SpectralDense(16, name="d2"),
            GroupSort(4, name="a2"), FrobeniusDense(5, name="d3"),
        ], (10,), 2.0, 42000),
    }
    for net, (layers, shape, k, seed) in nets.items():
        text = definition(layers, shape, k)
        old = legacy(json.loads(text))
        old["keras_version"] = "2.12.0"

        def make(seed):
            rng = np.random.default_rng(seed)
            weights = draw_weights(rng, text, "near")
            x = normal(rng, 4, *shape)
            got, trained = whole(text, weights, x, "float32")
            exact, _ = whole(text, weights, x, "float64")
            plain = export(text, trained)
            y = plain(x, training=False).numpy()
            assert np.max(np.abs(y - got["y_vanilla"])) < 1e-6 * np.max(np.abs(y))
            got["y_vanilla"] = y
            return {**named("weights/", weights), "x": x, **got}, {
                "definition": text, "definition_legacy": json.dumps(old), "vanilla_definition": plain.to_json(),
                **floors(got, exact)}

        settle("model", net, seed, make, 1e-4)


# ---- optimizer -------------------------------------------------------------------------------------


def optimizer():
    def run(config, w0, grads, dtype):
        made = getattr(tf.keras.optimizers, config["class_name"]).from_config(copy.deepcopy(config["config"]))
        w = tf.Variable(w0, dtype=dtype)
        made.build([w])
        out = []
        for g in grads:
            made.apply_gradients([(tf.constant(g, dtype), w)])
            out.append(w.numpy())
        return {"w_after": np.array(out)}

    for i, (case, made) in enumerate(optimizers()):
        config = {"class_name": type(made).__name__, "config": made.get_config()}
        config = json.loads(json.dumps(config, default=float))
        rng = np.random.default_rng(51000 + i)
        w0, grads = normal(rng, 3, 5), normal(rng, 30, 3, 5)
        grads[:, 0, 0] = 0  # a weight that never learns
        grads[:, 0, 1] *= 1e-4
        got = run(config, w0, grads, "float32")
        found = floors(got, run(config, w0, grads, "float64"))
        print(f"optimizer-{case}", found)
        write("optimizer", case, 51000 + i, {"w0": w0, "grads": grads, **got}, optimizer=json.dumps(config), **found)


# ---- metric ----------------------------------------------------------------------------------------


def metric():
    """deel-lip's four, with a constant that they are told, and Keras's accuracies."""
    robust = lip.metrics
    several = [
        ("categorical_robust_accuracy", robust.CategoricalProvableRobustAccuracy(epsilon=0.2, lip_const=1.5, disjoint_neurons=False)),
        ("categorical_robust_accuracy-disjoint", robust.CategoricalProvableRobustAccuracy(lip_const=1.0)),
        ("categorical_robustness", robust.CategoricalProvableAvgRobustness(lip_const=2.0, disjoint_neurons=False)),
        ("categorical_robustness-negative", robust.CategoricalProvableAvgRobustness(lip_const=1.0, negative_robustness=True)),
        ("categorical_accuracy", tf.keras.metrics.CategoricalAccuracy()),
        ("sparse_categorical_accuracy", tf.keras.metrics.SparseCategoricalAccuracy()),
        ("binary_accuracy-several", tf.keras.metrics.BinaryAccuracy(threshold=0.25)),
    ]
    binary = [
        ("binary_robust_accuracy", robust.BinaryProvableRobustAccuracy(epsilon=0.3, lip_const=1.5)),
        ("binary_robustness", robust.BinaryProvableAvgRobustness(lip_const=2.0)),
        ("binary_robustness-negative", robust.BinaryProvableAvgRobustness(lip_const=0.5, negative_robustness=True)),
        ("binary_accuracy", tf.keras.metrics.BinaryAccuracy()),
    ]
    for i, (case, made) in enumerate(several + binary):
        for low in (0.0,) if "accuracy" in case and "robust" not in case else (0.0, -1.0):
            rng = np.random.default_rng(71000 + i)
            c = 4 if i < len(several) else 1
            klass, p = rng.integers(0, max(c, 2), 40), normal(rng, 40, c)
            y = np.where(np.eye(c)[klass] > 0, 1.0, low) if c > 1 else np.where(klass, 1.0, low).reshape(-1, 1)
            y = klass.reshape(-1, 1) if "sparse" in case else y
            y = y.astype(np.float32)
            value = made(tf.constant(y), tf.constant(p)).numpy()
            config = {"class_name": type(made).__name__, "config": made.get_config()}
            print(f"metric-{case}", value)
            write("metric", case + ("-11" if low else ""), 71000 + i, {"y_true": y, "y_pred": p, "value": value},
                  metric=json.dumps(config, default=float))


# ---- trajectory ------------------------------------------------------------------------------------


def trajectory():
    """200 Adam steps on Fashion-MNIST, with one thread and with two: how far TensorFlow is from itself."""
    if THREADS == 1:
        for name in setup.RUNS:
            print(json.dumps(follow(name)), file=open(os.path.join(HERE, f"trajectory-{name}.json"), "w"))
        subprocess.run([sys.executable, __file__, "trajectory"], check=True,
                       env={**os.environ, "ONELIP_GOLDEN_THREADS": "2"})
        return
    for name in setup.RUNS:
        path = os.path.join(HERE, f"trajectory-{name}.json")
        told = json.load(open(path))
        again = follow(name)
        told["two_threads"] = again["loss"]
        told["accuracy_two_threads"] = again["accuracy"]
        apart = max(abs(a - b) / max(1, abs(a)) for a, b in zip(told["loss"], again["loss"]))
        print(f"trajectory-{name}: {told['loss'][0]} to {told['loss'][-1]}, two threads apart by {apart:.2e}, "
              f"accuracy {told['accuracy']}, {again['accuracy']}")
        json.dump(told, open(path, "w"))


def follow(name):
    run = setup.RUNS[name]
    known = {"SpectralDense": SpectralDense, "FrobeniusDense": FrobeniusDense, "SpectralConv2D": SpectralConv2D,
             "GroupSort2": GroupSort2, "ScaledL2NormPooling2D": ScaledL2NormPooling2D, "Flatten": KL.Flatten}
    layers = [known[entry["class_name"]](**entry["config"]) for entry in run["layers"]]
    text = definition(layers, tuple(run["input"]))
    values = {k: np.array(v, np.float32).reshape(shape) for k, (shape, v) in setup.weights(run).items()}
    for entry in run["layers"]:  # what the library initialises itself; the first training forward computes both
        for variable, shape in (("sigma", (1, 1)), ("wbar", None)):
            kernel = values.get(entry["config"]["name"] + "/kernel")
            if kernel is not None:
                values[f"{entry['config']['name']}/{variable}"] = np.ones(shape or kernel.shape, np.float32)
    chain = Chain(text, values)
    made = getattr(lip.losses, run["loss"]["class_name"])(**run["loss"]["config"])
    optimizer = tf.keras.optimizers.Adam()
    trained = [v for _, v in chain.trainable()]
    optimizer.build(trained)
    out = []
    for step in range(setup.STEPS):
        x, y = setup.samples("train", run["batch"] * step, run["batch"])
        x = np.frombuffer(x, "<f4").reshape([-1, *run["input"]])
        with tf.GradientTape() as tape:
            value = made(tf.constant(np.eye(10, dtype=np.float32)[y]), chain(x, True))
        optimizer.apply_gradients(zip(tape.gradient(value, trained), trained))
        out.append(float(value.numpy()))
    x, y = setup.samples("t10k", 0, 1000)
    p = chain(np.frombuffer(x, "<f4").reshape([-1, *run["input"]]), True).numpy()
    return {"tool": TOOL, "loss": out, "accuracy": float(np.mean(p.argmax(axis=1) == np.array(y)))}


# ---- guard -----------------------------------------------------------------------------------------


def guard():
    gauss = near_orthogonal(np.random.default_rng(60001), 8, 8)
    wide = near_orthogonal(np.random.default_rng(60002), 4, 9)
    diagonal = lambda *s: np.diag(np.array(s, np.float32))  # noqa: E731
    for case, kernel, u in [
        ("u-on-the-small-side-3", diagonal(3, 1), [[0, 1]]),  # Bjorck diverges
        ("u-on-the-small-side-2", diagonal(2, 1), [[0, 1]]),  # and here it ends at -1
        ("u-on-the-small-side-1000", diagonal(1000, 400, 1), [[0, 0, 1]]),
        ("zero-u", 0.5 * gauss, np.zeros((1, 8))),  # what one training step with a zero kernel leaves behind
        ("tiny-u", 0.5 * gauss, np.full((1, 8), 1e-17)),
        ("zero-u-wide", 3 * wide, np.zeros((1, 9))),
    ]:
        kernel, u = np.asarray(kernel, np.float32), np.asarray(u, np.float32)
        got = reshaped_kernel_orthogonalization(tf.constant(kernel), tf.constant(u), 1.0, **RKO)[0].numpy()
        left, _, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
        print(f"guard-{case}", got.ravel()[:4])
        write("guard", case, 0, {"kernel": kernel, "u": u, "polar": left @ right}, kind="rko",
              reference=" ".join("%.6g" % v for v in got.ravel()))
    for case, kernel, columns in [("frobenius-zero-column", np.array([[1, 0], [2, 0]]), True),
                                  ("frobenius-zero", np.zeros((3, 2)), False)]:
        kernel = kernel.astype(np.float32)
        got = frobenius("float32", kernel, kernel, 1.0, columns)["wbar"]
        print(f"guard-{case}", got.ravel()[:4])
        write("guard", case, 0, {"kernel": kernel}, kind="frobenius", columns=str(columns).lower(),
              reference=" ".join("%.6g" % v for v in got.ravel()))


GROUPS = {f.__name__: f for f in (norm, layer, graph, loss, training, steps, model, optimizer, metric, trajectory, guard)}
if __name__ == "__main__":
    files.run(GROUPS, sys.argv[1:], lambda name: "torchlip" not in name)
