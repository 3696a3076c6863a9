"""Bad input gets its status, code and pointer, changes nothing, and leaves the daemon alive."""

import json
import struct

from daemon import MLP, TRAINING, Daemon, batch, run, tensor


def edited(path, value):
    """MLP with one thing changed; path is a JSON pointer, value None removes."""
    definition = json.loads(json.dumps(MLP))
    at = definition
    *way, last = [int(p) if p.isdigit() else p for p in path.split("/")[1:]]
    for step in way:
        at = at[step]
    at[last] = value
    return definition


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def binary(header, data):
    text = json.dumps(header).encode()
    return text + data, {"Inference_Header_Content_Length": str(len(text))}


def plan(check):
    with Daemon("--max-body-bytes", "100000") as d:
        m = d.create(training=TRAINING)

        def photograph():
            return d.get(m).headers["ETag"], d.get(m + "/weights").body, d.get("/v2/models").body

        before = photograph()

        def refused(name, answer, status, code, text="", pointer=None):
            good = answer.status == status and answer.code == code
            if good:
                body = answer.json
                good = text in body["error"] and body["error"] == body["detail"] and body["status"] == status
                good = good and (pointer is None or body["errors"][0]["pointer"] == pointer)
            check(name, good, f"wanted {status} {code} {text} {pointer}, got {answer}")

        # definitions
        layer = "/config/layers/1"
        for name, definition, status, code, text, pointer in [
            ("unknown layer", edited(layer + "/class_name", "SpectralDence"), 422, "unknown_layer_class", "SpectralDense",
             layer + "/class_name"),
            ("unknown option", edited(layer + "/config/unitz", 3), 422, "unknown_option", "units", layer + "/config/unitz"),
            ("a value of the wrong type", edited(layer + "/config/units", "many"), 422, "bad_definition", "many",
             layer + "/config/units"),
            ("a value out of range", edited(layer + "/config/beta_bjorck", 0.9), 422, "bad_definition", "0.9",
             layer + "/config/beta_bjorck"),
            ("an unknown activation", edited(layer + "/config/activation", "relux"), 422, "unknown_option", "relu",
             layer + "/config/activation"),
            ("an unknown initializer", edited(layer + "/config/kernel_initializer", "he"), 422, "unknown_option",
             "SpectralInitializer", layer + "/config/kernel_initializer"),
            ("two layers of one name", edited(layer + "/config/name", "y"), 422, "bad_definition", "two layers", None),
            ("no input shape", {"class_name": "Sequential", "config": {"layers": [
                {"class_name": "Dense", "config": {"units": 2}}]}}, 422, "bad_definition", "input shape", None),
            ("a zero kernel", edited(layer + "/config/kernel_initializer", "zeros"), 422, "zero_kernel", "d1/kernel", None),
        ]:
            refused(f"{name}, in POST", d.post("/v2/models", {"name": "new", "definition": definition}), status, code, text,
                    pointer and "/definition" + pointer)
            refused(f"{name}, in PUT of Keras's JSON", d.put("/v2/models/new", definition), status, code, text, pointer)
        refused("malformed JSON", d.post("/v2/models", b'{"name": "new",'), 400, "bad_json")
        refused("an unknown member", d.post("/v2/models", {"name": "new", "definition": MLP, "sead": 3}), 400, "unknown_member",
                pointer="/sead")
        refused("a name that is none", d.put("/v2/models/a%20b", MLP), 400, "bad_name")
        refused("a name that exists", d.post("/v2/models", {"name": "m", "definition": MLP}), 409, "already_exists")
        refused("a coefficient that is none", d.put("/v2/models/new", {"definition": MLP, "coefficient": "loud"}), 400,
                "bad_parameter", pointer="/coefficient")
        refused("an unknown model", d.get("/v2/models/none"), 404, "unknown_model", "Request for unknown model: 'none' is not found")
        refused("an unknown version", d.get(m + "/versions/9"), 404, "unknown_version", "version 9")
        refused("an unknown layer", d.get(m + "/layers/none"), 404, "unknown_layer")
        refused("an unknown path", d.get("/v2/nothing"), 404, "not_found", "Not Found")
        refused("a method that is not there", d.delete("/v2/models"), 405, "method_not_allowed", "Method Not Allowed")

        # inference
        infer = m + "/infer"
        good = tensor("x", [1, 4], [1, 2, 3, 4])
        for name, inputs, code, text in [
            ("a wrong shape", [tensor("x", [1, 5], [1, 2, 3, 4, 5])], "shape_mismatch",
             "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [1,5]."),
            ("too few numbers", [tensor("x", [2, 4], [1, 2, 3])], "size_mismatch", "Shape does not match"),
            ("another datatype", [tensor("x", [1, 4], [1, 2, 3, 4], "INT32")], "datatype_mismatch", "expects 'FP32'"),
            ("an unknown input", [good, tensor("z", [1, 4], [1, 2, 3, 4])], "unknown_input", "unexpected inference input 'z'"),
            ("a missing input", [], "missing_input", "missing required input(s) ['x']"),
            ("no data at all", [{"name": "x", "shape": [1, 4], "datatype": "FP32"}], "bad_request", "no field is set"),
            ("a negative size", [tensor("x", [-1, 4], [1, 2, 3, 4])], None, ""),
            ("a size beyond memory", [tensor("x", [1 << 62, 4], [1])], None, ""),
            ("65 inputs", [tensor(f"x{i}", [1, 4], [1, 2, 3, 4]) for i in range(65)], "bad_request", "at most 64"),
            ("numbers nested too deep", [{**good, "data": [[[[[[[[[1, 2, 3, 4]]]]]]]]]}], "size_mismatch", "nested deeper than 8"),
            ("a word for a number", [tensor("x", [1, 4], [1, 2, "three", 4])], None, ""),
        ]:
            answer = d.post(infer, {"inputs": inputs})
            if code:
                refused(f"infer: {name}", answer, 400, code, text)
            else:
                check(f"infer: {name}", answer.status == 400 and answer.code, answer)
        refused("infer: malformed JSON", d.post(infer, b'{"inputs": [}'), 400, "bad_json")
        head = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}]}
        body, header = binary(head, b"\0" * 28)
        refused("infer: bytes missing", d.post(infer, body, **header), 400, "size_mismatch", "expecting")
        body, header = binary(head, b"\0" * 36)
        refused("infer: bytes left over", d.post(infer, body, **header), 400, "size_mismatch", "unexpected additional input data")
        refused("infer: a header longer than the body",
                d.post(infer, b"{}", Inference_Header_Content_Length="400"), 400, "bad_request", "should be in range")
        refused("infer: a body over the limit", d.post(infer, b" " * 200000), 413, "too_large")
        refused("infer: an unknown model", d.post("/v2/models/none/infer", {"inputs": [good]}), 404, "unknown_model")

        # training
        step = m + "/train_step"
        bad = batch()
        bad["inputs"][0]["data"][5] = "NaN"
        refused("train: NaN in the data", d.post(step, bad), 422, "nonfinite", "NaN")
        bad = batch()
        bad["inputs"][0]["data"][5] = "Infinity"
        refused("train: Inf in the data", d.post(step, bad), 422, "nonfinite")
        bad = batch()
        bad["inputs"][1]["data"][2] = 3
        refused("train: a class that is none", d.post(step, bad), 422, "bad_labels", "sample 2")
        bad = batch()
        bad["inputs"][1] = tensor("y_true", [4], [0, 1, 2, 0], "INT64")
        answer = d.post(step, bad)
        check("train: fewer labels than samples", answer.status == 400 and answer.code in ("shape_mismatch", "size_mismatch"), answer)
        bad = {"inputs": batch()["inputs"][:1]}
        refused("train: no labels", d.post(step, bad), 400, "missing_input", "y_true")
        refused("train: an old revision", d.post(step, batch(), If_Match='"00000000-1-1"'), 412, "precondition_failed")
        for name, training, status, code in [
            ("an unknown loss", {**TRAINING, "loss": "Hinge9"}, 422, "unknown_option"),
            ("an unknown optimizer", {**TRAINING, "optimizer": "adamant"}, 422, "unknown_option"),
            ("an unknown metric", {**TRAINING, "metrics": ["precision"]}, 422, "unknown_option"),
            ("an unknown callback", {**TRAINING, "callbacks": ["TensorBoard"]}, 422, "unknown_option"),
            ("a callback without what it needs", {**TRAINING, "callbacks": ["LossParamScheduler"]}, 422, "bad_definition"),
            ("telemetry every -1 steps", {**TRAINING, "telemetry_every": -1}, 422, "bad_definition"),
            ("a loss for an unknown output", {**TRAINING, "loss": {"nobody": "mse"}}, 422, "unknown_option"),
            ("an unknown member", {**TRAINING, "optimiser": "adam"}, 400, "unknown_member"),
            ("no loss", {"optimizer": "adam"}, None, None),
        ]:
            answer = d.put(m + "/training", training)
            if code:
                refused(f"training: {name}", answer, status, code)
            else:
                check(f"training: {name}", answer.status in (400, 422), answer)
        rare = d.put(m + "/training", {**TRAINING, "publish": "rarely"})
        check("training: an unknown word: all that are known", rare.json["error"] ==
              'publish needs one of "step", "epoch", "job", "never", not rarely', rare)
        plain = d.create("plain")
        refused("train before there is a training", d.post(plain + "/train_step", batch()), 409, "training_not_configured")
        refused("evaluate before there is a training", d.post(plain + "/evaluate", batch()), 409, "training_not_configured")
        d.delete(plain)

        # weights
        weights = m + "/weights"
        refused("weights: no safetensors", d.put(weights, b"\x89not a file"), 422, "bad_file")
        file = safetensors({"d1/kernel": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}, b"\0" * 64)
        answer = d.put(weights, file)
        refused("weights: names and shapes that do not fit", answer, 422, "bad_weights")
        check("weights: the lists say which", answer.status == 422 and "y/kernel" in str(answer.json.get("missing"))
              and "d1/kernel" in str(answer.json.get("shape")), answer)
        file = d.get(weights).body
        refused("weights: a file that was cut off", d.put(weights, file[:-5]), 422, "bad_file")
        refused("weights: NaN in a tensor", d.put(weights, file[:-4] + struct.pack("<f", float("nan"))), 422, "nonfinite")

        refused("a query parameter that is none", d.get(m + "/lipschitz?layerz=true"), 400, "bad_parameter")

        check("nothing has changed", photograph() == before)
        check("the daemon is alive and trains", d.alive and d.post(step, batch()).status == 200)
        check("and drains", d.stop() == 0, d.said())


run(plan)
