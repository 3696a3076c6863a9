"""One of bench_inference.py's sides: a network in onelip (by ctypes), onnxruntime or torch, each called from Python the cheapest
way that it has.

    inference.py FOLDER THREADS onelip|onnxruntime|torch [VARIANT]

FOLDER has a definition <net>.json for each network. onelip draws weights, condenses them and leaves the effective kernels there as
<net>.npz, from which the others build theirs. Then standard input is read: "<net> <batch> <seconds>" is answered with the
microseconds of a call, and "<net> <batch> 0" with the outputs for a batch that all sides draw alike.
"""

import ctypes
import functools
import json
import os
import pathlib
import sys
import time

import numpy as np

FOLDER, THREADS, KIND = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
VARIANT = sys.argv[4] if len(sys.argv) > 4 else ""


def layers_of(net):
    layers = json.loads((FOLDER / f"{net}.json").read_text())["config"]["layers"]
    return layers[0]["config"]["batch_input_shape"][1:], [(entry["class_name"], entry["config"]) for entry in layers[1:]]


def inputs(net, batch):
    shape, _ = layers_of(net)
    return np.random.default_rng(batch).random([batch, *shape], np.float32)


# ---- onelip: libonelip by ctypes ---------------------------------------------------------------------------------------------

class Shape(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_size_t), ("dim", ctypes.c_size_t * 8)]


class Onelip:
    def __init__(self, nets):
        self.lib = ctypes.CDLL(VARIANT)
        self.lib.openblas_get_corename.restype = ctypes.c_char_p
        self.about = f"libonelip (OpenBLAS core {self.lib.openblas_get_corename().decode()})"
        for name in ("lip_model_layer", "lip_layer_output_shape", "lip_snapshot_kernel", "lip_snapshot_bias", "lip_workspace_new"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.kept = [] # arrays whose addresses calls have
        self.error = ctypes.create_string_buffer(4096)
        cores, before = sorted(os.sched_getaffinity(0)), set(os.listdir("/proc/self/task"))
        self.do("lip_set_threads", ctypes.c_size_t(THREADS))
        for core, thread in zip(cores[1:], set(os.listdir("/proc/self/task")) - before if THREADS > 1 else []):
            os.sched_setaffinity(int(thread), [core]) # as onnxruntime's may be
        os.sched_setaffinity(0, cores[:1] if THREADS > 1 else cores)
        self.workspace = ctypes.c_void_p(self.lib.lip_workspace_new())
        self.nets = {net: self.read(net) for net in nets}

    def do(self, name, *arguments):
        if getattr(self.lib, name)(*arguments, self.error):
            raise SystemExit(f"{name}: {self.error.raw[4:].split(bytes(1))[0].decode()}")

    def read(self, net):
        text = (FOLDER / f"{net}.json").read_bytes()
        model, state, snapshot = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self.do("lip_model_read", text, ctypes.c_size_t(len(text)), ctypes.c_bool(True), ctypes.byref(model))
        self.do("lip_state_new", model, ctypes.c_uint64(1), ctypes.byref(state))
        self.do("lip_state_condense", state, None, None)
        self.do("lip_state_publish", state, ctypes.byref(snapshot))
        self.leave(net, snapshot)
        return snapshot

    def leave(self, net, snapshot):
        """The kernels as the others want them: of the shape that the definition's layers have."""
        shape, layers = layers_of(net)
        made, size = {}, list(shape)
        for i, (kind, config) in enumerate(layers, 1):
            if "Conv2D" in kind:
                kernel = [*config["kernel_size"], size[-1], config["filters"]]
                size[-1] = config["filters"]
            elif "Pooling" in kind:
                size[:2] = [n // p for n, p in zip(size, config["pool_size"])]
                continue
            elif kind == "Flatten":
                size = [int(np.prod(size))]
                continue
            elif "Dense" in kind:
                kernel = [size[0], config["units"]]
                size = [config["units"]]
            else:
                continue
            at, count = self.lib.lip_snapshot_kernel(snapshot, ctypes.c_size_t(i)), int(np.prod(kernel))
            made[config["name"]] = np.ctypeslib.as_array((ctypes.c_float * count).from_address(at)).reshape(kernel)
        np.savez(FOLDER / f"{net}.npz", **made)
        self.outputs = size

    def prepare(self, net, x):
        y = np.empty([len(x), 10], np.float32)
        call, arguments = self.lib.lip_predict, (self.nets[net], self.workspace, ctypes.c_size_t(len(x)), ctypes.c_void_p(x.ctypes.data),
                                                 ctypes.c_void_p(y.ctypes.data), None)
        self.kept += [x, y]
        return functools.partial(call, *arguments), lambda: y


# ---- what the others share ---------------------------------------------------------------------------------------------------

def plan(net):
    """The condensed network as others compute it fastest: a list of ("conv" | "dense", kernel), "sort" and "pool".

    Columns are put in such order that GroupSort2's pairs are halves: even ones first. Images are channels first. A pool is the root
    of the mean of the squares; its factor 2 is in the next kernel.
    """
    shape, layers = layers_of(net)
    kernels, steps = np.load(FOLDER / f"{net}.npz"), []
    order, factor, size = np.arange(shape[-1]), 1.0, list(shape)
    flat = False
    for i, (kind, config) in enumerate(layers):
        sorts = i + 1 < len(layers) and layers[i + 1][0] == "GroupSort2"
        if "Conv2D" in kind or "Dense" in kind:
            kernel = kernels[config["name"]].astype(np.float64) * factor
            if flat: # rows are places of an image
                kernel = kernel.reshape(*size, -1)[:, :, order].transpose(2, 0, 1, 3).reshape(kernel.shape)
                flat = False
            else:
                kernel = kernel[..., order, :]
            columns = np.arange(kernel.shape[-1])
            if sorts:
                kernel = kernel[..., np.concatenate([columns[::2], columns[1::2]])]
                # minima of all pairs, then maxima: number of pair times 2, then that plus 1
                places = np.argsort(np.concatenate([columns[::2], columns[1::2]]))
                order = np.concatenate([columns[::2], columns[1::2]])
            else:
                order = columns
            steps.append(("conv" if kernel.ndim == 4 else "dense", np.ascontiguousarray(kernel, np.float32)))
            size[-1], factor = kernel.shape[-1], 1.0
        elif kind == "GroupSort2":
            steps.append(("sort", None))
        elif kind == "ScaledL2NormPooling2D":
            steps.append(("pool", config["pool_size"]))
            size[:2] = [n // p for n, p in zip(size, config["pool_size"])]
            factor = float(np.sqrt(np.prod(config["pool_size"])))
        elif kind == "Flatten":
            steps.append(("flatten", None))
            flat = True
        else:
            raise SystemExit(f"no plan for {kind}")
    return shape, steps


def channels_first(net, x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


# ---- onnxruntime -------------------------------------------------------------------------------------------------------------

def graph(net, halves):
    """halves: the products of pairs' first and second columns are two, so that none need be split."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape, steps = plan(net)
    nodes, weights, at = [], [], "x"
    sizes = [shape[-1], *shape[:-1]] if len(shape) == 3 else shape

    def node(kind, inputs, *outputs, **attributes):
        nodes.append(helper.make_node(kind, inputs, list(outputs), **attributes))
        return outputs[0]

    def product(kind, what, name, at, *outputs):
        kernel = what.transpose(3, 2, 0, 1) if kind == "conv" else what
        weights.append(numpy_helper.from_array(np.ascontiguousarray(kernel), f"w{name}"))
        weights.append(numpy_helper.from_array(np.zeros(what.shape[-1], np.float32), f"b{name}"))
        return node("Conv" if kind == "conv" else "Gemm", [at, f"w{name}", f"b{name}"], *outputs,
                    **({"auto_pad": "SAME_UPPER"} if kind == "conv" else {}))

    for i, (kind, what) in enumerate(steps):
        out = "y" if i == len(steps) - 1 else f"t{i}"
        if kind in ("conv", "dense"):
            if halves and i + 1 < len(steps) and steps[i + 1][0] == "sort":
                half = what.shape[-1] // 2
                product(kind, what[..., :half], f"{i}a", at, f"a{i + 1}")
                product(kind, what[..., half:], f"{i}c", at, f"c{i + 1}")
            else:
                at = product(kind, what, i, at, out)
        elif kind == "sort":
            if not halves:
                node("Split", [at], f"a{i}", f"c{i}", axis=1)
            at = node("Concat", [node("Min", [f"a{i}", f"c{i}"], f"l{i}"), node("Max", [f"a{i}", f"c{i}"], f"h{i}")], out, axis=1)
        elif kind == "pool":
            squares = node("Mul", [at, at], f"q{i}")
            at = node("Sqrt", [node("AveragePool", [squares], f"m{i}", kernel_shape=what, strides=what)], out)
        else:
            at = node("Flatten", [at], out, axis=1)
    made = helper.make_graph(nodes, net, [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *sizes])],
                             [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])], weights)
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


class Onnxruntime:
    """VARIANT: split or halves, a graph; and what waiting threads do: spin, sleep, or spin with a core for each (pinned)."""

    def __init__(self, nets):
        import onnxruntime

        self.about = f"onnxruntime {onnxruntime.__version__} {VARIANT}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        form, _, waits = VARIANT.partition(" ")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if waits == "sleep" else "1")
        if waits == "pinned":
            cores = sorted(os.sched_getaffinity(0))
            options.add_session_config_entry("session.intra_op_thread_affinities", ";".join(str(c + 1) for c in cores[1:THREADS]))
            os.sched_setaffinity(0, cores[:1])
        self.kept = [] # arrays whose addresses calls have
        self.sessions = {net: onnxruntime.InferenceSession(graph(net, form == "halves"), options, providers=["CPUExecutionProvider"]) for net in nets}

    def prepare(self, net, x):
        session, x = self.sessions[net], channels_first(net, x)
        y = np.empty([len(x), 10], np.float32)
        bound = session.io_binding()
        bound.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
        bound.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        self.kept += [x, bound]
        return functools.partial(session._sess.run_with_iobinding, bound._iobinding, None), lambda: y


# ---- torch -------------------------------------------------------------------------------------------------------------------

class Torch:
    """VARIANT: eager; last (channels last); compiled (torch.compile, weights frozen)."""

    def __init__(self, nets):
        import torch
        import torch._inductor.config

        self.torch = torch
        torch.set_num_threads(THREADS)
        self.mode = torch.inference_mode() # for as long as it lives
        self.mode.__enter__()
        self.about = f"torch {torch.__version__} {VARIANT}"
        self.nets = {net: self.build(net) for net in nets}

    def build(self, net):
        torch = self.torch
        nn, functional = torch.nn, torch.nn.functional

        class Sort(nn.Module):
            def forward(self, x):
                a, b = x.chunk(2, 1)
                return torch.cat((torch.minimum(a, b), torch.maximum(a, b)), 1)

        class Pool(nn.Module):
            def forward(self, x):
                return functional.avg_pool2d(x * x, 2).sqrt_()

        made = []
        for kind, what in plan(net)[1]:
            if kind == "conv":
                layer = nn.Conv2d(what.shape[2], what.shape[3], what.shape[:2], padding="same")
                layer.weight.data.copy_(torch.tensor(what.transpose(3, 2, 0, 1)))
            elif kind == "dense":
                layer = nn.Linear(*what.shape)
                layer.weight.data.copy_(torch.tensor(what.T))
            else:
                layer = {"sort": Sort, "pool": Pool, "flatten": nn.Flatten}[kind]()
            if kind in ("conv", "dense"):
                layer.bias.data.zero_()
            made.append(layer)
        made = nn.Sequential(*made).eval()
        if VARIANT == "last":
            made = made.to(memory_format=torch.channels_last)
        if VARIANT == "compiled":
            torch._inductor.config.freezing = True
            made = torch.compile(made, dynamic=False)
        return made

    def placed(self, net, x):
        x = self.torch.tensor(x)
        x = x.permute(0, 3, 1, 2) if x.dim() == 4 else x # the permuted view of NHWC is channels last
        return x if VARIANT == "last" else x.contiguous()

    def prepare(self, net, x):
        model, x = self.nets[net], self.placed(net, x)
        return functools.partial(model, x), lambda: model(x).numpy()


# ---- the loop ----------------------------------------------------------------------------------------------------------------

def timed(call, seconds):
    """The median over parts of some 200 us, of the time of a call."""
    clock, times = time.perf_counter, []
    begin = clock()
    call()
    calls = max(1, int(200e-6 / (clock() - begin)))
    end = begin + seconds
    while clock() < end or len(times) < 5:
        begin = clock()
        for _ in range(calls):
            call()
        times.append((clock() - begin) / calls)
    return float(np.median(times[len(times) // 5:])) * 1e6


def main():
    side = {"onelip": Onelip, "onnxruntime": Onnxruntime, "torch": Torch}[KIND]([p.stem for p in sorted(FOLDER.glob("*.json"))])
    ready = {}
    print(json.dumps({"about": side.about}), flush=True)
    for line in sys.stdin:
        net, batch, seconds = line.split()
        if (net, batch) not in ready:
            ready[net, batch] = side.prepare(net, inputs(net, int(batch)))
        call, outputs = ready[net, batch]
        if float(seconds):
            print(json.dumps({"us": timed(call, float(seconds))}), flush=True)
        else:
            call()
            print(json.dumps({"y": np.asarray(outputs(), np.float64).tolist()}), flush=True)


main()
