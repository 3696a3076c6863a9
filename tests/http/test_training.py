"""The training resource as a whole: losses, metrics, optimizers, callbacks, telemetry, gradients, and what is refused."""

import json
import math
import struct

from daemon import MLP, TRAINING, Daemon, batch, floats, run, tensor

TWINS = {"class_name": "Functional", "config": {"name": "twins", "layers": [
    {"class_name": "InputLayer", "name": "a", "config": {"batch_input_shape": [None, 4], "name": "a"}, "inbound_nodes": []},
    {"class_name": "InputLayer", "name": "b", "config": {"batch_input_shape": [None, 2], "name": "b"}, "inbound_nodes": []},
    {"class_name": "Concatenate", "name": "cat", "config": {"name": "cat"}, "inbound_nodes": [[["a", 0, 0, {}], ["b", 0, 0, {}]]]},
    {"class_name": "SpectralDense", "name": "d", "config": {"units": 8, "name": "d"}, "inbound_nodes": [[["cat", 0, 0, {}]]]},
    {"class_name": "FrobeniusDense", "name": "y", "config": {"units": 3, "name": "y"}, "inbound_nodes": [[["d", 0, 0, {}]]]},
    {"class_name": "SpectralDense", "name": "z", "config": {"units": 1, "name": "z"}, "inbound_nodes": [[["d", 0, 0, {}]]]}],
    "input_layers": [["a", 0, 0], ["b", 0, 0]], "output_layers": [["y", 0, 0], ["z", 0, 0]]}}


def scalar(definition=MLP):
    """The same network with one output."""
    layers = json.loads(json.dumps(definition))
    layers["config"]["layers"][-1] = {"class_name": "SpectralDense", "config": {"units": 1, "name": "y"}}
    return layers


def both(n=6, **labels):
    """A batch for TWINS."""
    inputs = [tensor("a", [n, 4], [math.sin(i) for i in range(4 * n)]), tensor("b", [n, 2], [math.cos(i) for i in range(2 * n)])]
    return {"inputs": inputs + [tensor(name.replace("__", ":"), *rest) for name, rest in labels.items()]}


def labelled(n, label, datatype="FP32", shape=None, c=None):
    """batch(n) with other labels."""
    body = batch(n)
    body["inputs"][1] = tensor("y_true", shape or [n], label, datatype)
    return body


def outputs(answer):
    if answer.status != 200:
        raise RuntimeError(str(answer))
    return {o["name"]: o["data"] for o in answer.json["outputs"]}


def tensors(file):
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:8 + length])
    return {k: floats(file[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]])
            for k, t in header.items() if k != "__metadata__"}, header.get("__metadata__")


def state(d, m):
    """What a refused request must not change."""
    return d.get(m + "/weights").body, d.get(m + "/training?state=true").body, d.get(m).json["state_revision"]


def losses(check, d):
    binary = d.create("binary", scalar())
    index, onehot = [i % 3 for i in range(6)], [float(i % 3 == j) for i in range(6) for j in range(3)]
    for i, (loss, label) in enumerate([
        ("MulticlassKR", labelled(6, index, "INT64")), ("MulticlassHinge", labelled(6, index, "UINT8", [6, 1])),
        ("MulticlassHKR", labelled(6, onehot, shape=[6, 3])), ("MulticlassSoftHKR", labelled(6, index, "INT64")),
        ("LseHKRMulticlassLoss", labelled(6, index, "INT64")), ("MultiMargin", labelled(6, [2 * v - 1 for v in onehot], shape=[6, 3])),
        ({"class_name": "CategoricalHinge", "config": {"min_margin": 1}}, labelled(6, index, "INT64")),
        ({"class_name": "TauCategoricalCrossentropy", "config": {"tau": 5}}, labelled(6, index, "INT64")),
        ({"class_name": "TauSparseCategoricalCrossentropy", "config": {"tau": 5}}, labelled(6, index, "INT64")),
        ({"class_name": "CategoricalCrossentropy", "config": {"from_logits": True}}, labelled(6, onehot, shape=[6, 3])),
        ({"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}}, labelled(6, index, "INT64")),
        ("mse", labelled(6, onehot, shape=[6, 3])), ("mean_absolute_error", labelled(6, onehot, shape=[6, 3])),
    ]):
        m = d.create(f"loss{i}")
        put = d.put(m + "/training", {"optimizer": "adam", "loss": loss, "metrics": ["accuracy", "mean_margin"]})
        first = d.post(m + "/train_step", label)
        last = [d.post(m + "/train_step", {**label, "parameters": {"learning_rate": 0.02}}) for _ in range(8)][-1]
        name = put.json.get("loss", {}).get("class_name", loss)
        check(f"{name} trains", first.status == 200 and put.status == 200
              and (name == "MulticlassKR" or last.json["metrics"]["loss"] < first.json["metrics"]["loss"]), f"{put} {first} {last}")
    for loss in ("KR", {"class_name": "HKR", "config": {"alpha": 5}}, "HingeMargin", "hinge",
                 {"class_name": "TauBinaryCrossentropy", "config": {"tau": 2}},
                 {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}):
        put = d.put(binary + "/training", {"optimizer": "sgd", "loss": loss, "metrics": ["accuracy", "binary_accuracy", "KR"]})
        step = d.post(binary + "/train_step", labelled(6, [0, 1, 0, 1, 1, 0], "UINT8"))
        check(f"{put.json['loss']['class_name']} trains one output", step.status == 200
              and step.json["metrics"].keys() == {"loss", "accuracy", "binary_accuracy", "KR"}, step)
    d.put(binary + "/training", {"optimizer": "sgd", "loss": {"class_name": "HKR", "config": {"alpha": 5}}})
    one = d.post(binary + "/train_step", labelled(4, [1, 1, 1, 1]))
    check("a batch of one class is a batch", one.status == 200 and math.isfinite(one.json["metrics"]["loss"]), one)
    d.put(binary + "/training", {"optimizer": "sgd", "loss": {"class_name": "KR", "config": {"multi_gpu": True}}})
    check("processed labels are weights", d.post(binary + "/train_step", labelled(4, [2, 2, -2, -2])).status == 200)


def refusals(check, d):
    m = d.create("bad", training={**TRAINING, "loss": {"class_name": "TauSparseCategoricalCrossentropy", "config": {"tau": 2}}})
    d.post(m + "/train_step", batch())
    before = state(d, m)
    nan = batch()
    nan["inputs"][0]["data"][3] = "NaN"
    huge = batch()
    huge["inputs"][0]["data"] = [3e38] * 24
    for name, body, status, code in [
        ("a class that there is not", labelled(3, [0, 1, 3], "INT64"), 422, "bad_labels"),
        ("half a class", labelled(3, [0, 1, 0.5]), 422, "bad_labels"),
        ("a negative class", labelled(3, [0, -1, 1], "INT64"), 422, "bad_labels"),
        ("one-hot rows for class indices", labelled(3, [1, 0, 0] * 3, shape=[3, 3]), 400, "shape_mismatch"),
        ("labels of another batch", labelled(3, [0, 1], "INT64", [2]), 400, "shape_mismatch"),
        ("labels that are not finite", labelled(3, [0, "Infinity", 1]), 422, "nonfinite"),
        ("data that is not finite", nan, 422, "nonfinite"),
        ("an empty batch", {"inputs": [tensor("x", [0, 4], []), tensor("y_true", [0], [], "INT64")]}, 400, "shape_mismatch"),
        ("no labels", {"inputs": batch()["inputs"][:1]}, 400, "missing_input"),
        ("sample weights below zero", {"inputs": batch()["inputs"] + [tensor("sample_weight", [6], [1, 1, 1, -1, 1, 1])]}, 422, "bad_labels"),
        ("too few sample weights", {"inputs": batch()["inputs"] + [tensor("sample_weight", [5], [1] * 5)]}, 400, "shape_mismatch"),
        ("numbers beyond float32 on the way", huge, 422, "nonfinite"),
    ]:
        answer = d.post(m + "/train_step", body)
        check(f"a step with {name}: {status} {code}", (answer.status, answer.code) == (status, code), answer)
        answer = d.post(m + "/evaluate", body)
        if body is not huge:
            check(f"an evaluation too", (answer.status, answer.code) == (status, code), answer)
    check("and the model is as before", state(d, m) == before)
    d.put(m + "/training", {**TRAINING, "loss": {"class_name": "HKR", "config": {"alpha": 2}}})
    for label in ([0.9, 0, 1], [-1, 0, 1], [2, 0, 0]):
        body = labelled(3, [v for v in label for _ in range(3)], shape=[3, 3])
        answer = d.post(m + "/train_step", body)
        check(f"labels {label} are neither 0 and 1 nor -1 and 1", (answer.status, answer.code) == (422, "bad_labels"), answer)
    answer = d.put(m + "/training", {**TRAINING, "metrics": ["BinaryProvableAvgRobustness"]})
    check("a bound that cannot be had is said at once", (answer.status, answer.code) == (422, "unknown_option"), answer)
    one = d.create("one", scalar())
    answer = d.put(one + "/training", TRAINING)
    check("class counts have to fit", answer.status in (400, 422) and "one number" in answer.json["error"], answer)


def several(check, d):
    m = d.create("twins", TWINS)
    x = both()
    answer = d.post(m + "/infer", x)
    check("both outputs are served", answer.status == 200 and [(o["name"], o["shape"]) for o in answer.json["outputs"]]
          == [("y", [6, 3]), ("z", [6, 1])], answer)
    alone = d.post(m + "/infer", {**x, "outputs": [{"name": "z"}]})
    check("or the one that is asked for", outputs(alone) == {"z": outputs(answer)["z"]}, alone)
    check("the document and the configuration list all", [t["name"] for t in d.get(m).json["inputs"]] == ["a", "b"]
          and [t["name"] for t in d.get(m + "/config").json["output"]] == ["y", "z"])
    half = d.post(m + "/infer", {"inputs": x["inputs"][:1]})
    check("one input is not enough", (half.status, half.code) == (400, "missing_input") and "'b'" in half.json["error"], half)
    check("certificates need one of each", d.post(m + "/certify", x).status in (422, 501))
    condensed = d.post(m + "/condense")
    check("condense changes neither", condensed.status == 200 and condensed.json["max_abs_output_change"] < 1e-5, condensed)
    put = d.put(m + "/training", {"optimizer": "adam", "loss": {"y": {"class_name": "TauCategoricalCrossentropy", "config": {"tau": 4}}, "z": "mse"},
                                  "loss_weights": {"z": 0.25}, "metrics": {"y": ["accuracy"]}})
    check("losses by output", put.status == 200 and put.json["loss_weights"] == {"y": 1.0, "z": 0.25}, put)
    body = both(y_true__y=([6], [0, 1, 2, 0, 1, 2], "INT64"), y_true__z=([6, 1], [0, 1, 0, 1, 0, 1]))
    step = d.post(m + "/train_step", body)
    told = step.json["metrics"]
    check("a step with two inputs and two outputs", step.status == 200 and told.keys() == {"loss", "y_loss", "z_loss", "y_accuracy"}
          and abs(told["loss"] - told["y_loss"] - 0.25 * told["z_loss"]) < 1e-6, step)
    check("evaluate tells the same figures", d.post(m + "/evaluate", body).json["metrics"].keys() == told.keys())
    missing = d.post(m + "/train_step", both(y_true__y=([6], [0, 1, 2, 0, 1, 2], "INT64")))
    check("labels of one output are missing", (missing.status, missing.code) == (400, "missing_input") and "y_true:z" in missing.json["error"], missing)
    late = both(y_true__y=([6], [0, 1, 2, 0, 1, 2], "INT64"), y_true__z=([6], [0] * 6))
    late["inputs"][1]["shape"], late["inputs"][1]["data"] = [5, 2], [0] * 10
    check("inputs of different batches", d.post(m + "/train_step", late).code == "shape_mismatch")
    got = d.post(m + "/gradients", {**both(), "parameters": {"of": "output", "output": "y", "index": 1}})
    check("gradients of both inputs", got.status == 200 and set(outputs(got)) == {"value", "a", "b"} and len(outputs(got)["b"]) == 12, got)
    check("which output has to be said", d.post(m + "/gradients", both()).code == "bad_parameter")
    d.put(m + "/training", {"optimizer": "sgd", "loss": {"z": "mse"}, "telemetry_every": 1})
    step = d.post(m + "/train_step", both(y_true__z=([6], [0] * 6)))
    check("an output without a loss needs no labels", step.status == 200 and step.json["metrics"].keys() == {"loss", "z_loss"}, step)
    check("telemetry without a certificate", step.json["telemetry"]["provable_accuracy"] is None
          and step.json["telemetry"]["jacobian"]["max"] > 0, step)


def gradients(check, d):
    m = d.create("g")
    x = {"inputs": batch()["inputs"][:1]}
    data = x["inputs"][0]["data"]

    def infer(values):
        return d.post(m + "/infer", {"inputs": [tensor("x", [6, 4], values)]}).json["outputs"][0]["data"]

    answer = d.post(m + "/gradients", x)
    got, y = outputs(answer), infer(data)
    rows = [sorted(y[3 * i:3 * i + 3]) for i in range(6)]
    check("margins by default", answer.status == 200 and all(abs(v - (r[2] - r[1])) < 1e-6 for v, r in zip(got["value"], rows))
          and answer.json["outputs"][0]["datatype"] == "FP64" and answer.headers["Onelip-Weights-Revision"] == "1", answer)
    moved = infer([v + 1e-3 * g for v, g in zip(data, got["x"])])
    up = [sorted(moved[3 * i:3 * i + 3]) for i in range(6)]
    check("up the gradient the margin grows", all(u[2] - u[1] > r[2] - r[1] for u, r in zip(up, rows)), (up, rows))
    true = outputs(d.post(m + "/gradients", batch()))
    check("of the true class", all(abs(v - (y[3 * i + i % 3] - max(y[3 * i + j] for j in range(3) if j != i % 3))) < 1e-6
                                   for i, v in enumerate(true["value"])), true)
    one = outputs(d.post(m + "/gradients", {**x, "parameters": {"of": "output", "index": 2}}))
    check("of one output", all(abs(v - y[3 * i + 2]) < 1e-6 for i, v in enumerate(one["value"])), one)
    cotangent = tensor("cotangent", [6, 3], [0.0, 0.0, 1.0] * 6)
    product = outputs(d.post(m + "/gradients", {"inputs": x["inputs"] + [cotangent], "parameters": {"of": "product"}}))
    check("a product with a unit vector is the same", product["x"] == one["x"] and product["value"] == one["value"], product)
    before = d.get(m).json["state_revision"]
    for name, body, code in [
        ("an unknown kind", {**x, "parameters": {"of": "everything"}}, "bad_parameter"),
        ("no index", {**x, "parameters": {"of": "output"}}, "bad_parameter"),
        ("an index that there is not", {**x, "parameters": {"of": "output", "index": 3}}, "bad_parameter"),
        ("an index of a margin", {**x, "parameters": {"index": 0}}, "bad_parameter"),
        ("an unknown output", {**x, "parameters": {"output": "z"}}, "unknown_output"),
        ("no cotangent", {**x, "parameters": {"of": "product"}}, "missing_input"),
        ("a cotangent of another shape", {"inputs": x["inputs"] + [tensor("cotangent", [6, 2], [0] * 12)], "parameters": {"of": "product"}}, "shape_mismatch"),
        ("a cotangent of a margin", {"inputs": x["inputs"] + [cotangent]}, "unknown_input"),
        ("a loss without training", {**batch(), "parameters": {"of": "loss"}}, "training_not_configured"),
        ("a class that there is not", labelled(6, [0, 1, 2, 3, 0, 0], "INT64"), "bad_labels"),
        ("an unknown parameter", {**x, "parameters": {"off": "margin"}}, "unknown_member"),
    ]:
        answer = d.post(m + "/gradients", body)
        check(f"gradients: {name}: {code}", answer.code == code, answer)
    d.put(m + "/training", {"optimizer": "sgd", "loss": {"class_name": "TauCategoricalCrossentropy", "config": {"tau": 3}}})
    bare = d.post(m + "/gradients", {**x, "parameters": {"of": "loss"}})
    check("a loss without labels is told like a step without", (bare.status, bare.code) == (400, "missing_input")
          and "['y_true']" in bare.json["error"], bare)
    loss = outputs(d.post(m + "/gradients", {**batch(), "parameters": {"of": "loss"}}))
    told = d.post(m + "/evaluate", batch()).json["metrics"]["loss"]
    check("a loss, sample by sample", abs(sum(loss["value"]) / 6 - told) < 1e-6 and any(loss["x"]), (loss, told))
    check("nothing has changed", d.get(m).json["state_revision"] == before + 1)
    d.post(m + "/versions", {"labels": ["stable"]})
    d.put(m + "/training", TRAINING)
    d.post(m + "/train_step", batch(30, learning_rate=0.1))
    check("frozen weights keep their gradients", outputs(d.post(m + "/versions/1/gradients", x)) == got
          and outputs(d.post(m + "/labels/stable/gradients", x)) == got and outputs(d.post(m + "/gradients", x)) != got)
    wanted = d.post(m + "/gradients", {**x, "outputs": [{"name": "value"}]}).json["outputs"]
    check("only what is asked for", [o["name"] for o in wanted] == ["value"], wanted)


def callbacks(check, d):
    m = d.create("cb", training={**TRAINING, "telemetry_every": 2, "metrics": [
        "accuracy", {"class_name": "CategoricalProvableRobustAccuracy", "config": {"epsilon": 0.1}},
        {"class_name": "CategoricalProvableAvgRobustness", "config": {"lip_const": 1.0}}],
        "callbacks": [{"class_name": "LossParamScheduler", "config": {"param_name": "alpha", "xp": [0, 2], "fp": [0.0, 10.0]}},
                      {"class_name": "MonitorCallback", "config": {"monitored_layers": ["d1"], "on_epoch": False, "on_batch": True}},
                      "CondenseCallback", "EarlyStopping", "ModelCheckpoint"]})
    shown = d.get(m + "/training").json
    check("callbacks show every default", shown["callbacks"][0]["config"]["step"] == 0 and shown["callbacks"][3]["config"]["patience"] == 0
          and shown["metrics"][1]["config"]["lip_const"] is None and shown["telemetry_every"] == 2, shown)
    first = d.post(m + "/train_step", batch(30)).json
    kr = d.post(m + "/evaluate", {**batch(30), "metrics": ["MulticlassKR", "MulticlassHinge", "mse"]}).json["metrics"]
    check("alpha starts at 0", "telemetry" in first and first["telemetry"]["sigmas"]["d1_kernel_sigmas"][0] == first["layers"][0]["sigma"]
          and abs(kr["loss"] + kr["MulticlassKR"]) < 1e-6, (first, kr))
    second = d.post(m + "/train_step", batch(30)).json
    telemetry = second["telemetry"]
    report = d.get(m + "/lipschitz").json["network"]
    check("telemetry is the report's", telemetry["claimed"] == 1 and report["upper"] < telemetry["upper"] + 1e-9
          and [layer["name"] for layer in telemetry["layers"]] == ["d1", "y"]
          and 0 < telemetry["jacobian"]["min"] <= telemetry["jacobian"]["max"] <= telemetry["upper"] * (1 + 1e-6), (telemetry, report))
    d.post(m + "/train_step", batch(30))
    evaluated = d.post(m + "/evaluate", batch(30)).json["metrics"]
    check("and has grown to 10", evaluated.keys() == {"loss", "accuracy", "CategoricalProvableRobustAccuracy", "CategoricalProvableAvgRobustness"}
          and 0 <= evaluated["CategoricalProvableRobustAccuracy"] <= 1, evaluated)
    parts = d.post(m + "/evaluate", {**batch(30), "metrics": ["MulticlassKR", {"class_name": "MulticlassHinge", "config": {"min_margin": 0.5}}]}).json["metrics"]
    check("in evaluations as well", abs(parts["loss"] - 10 * parts["MulticlassHinge"] + parts["MulticlassKR"]) < 1e-5, parts)
    d.post(m + "/versions", {})
    frozen = d.post(m + "/versions/1/evaluate", batch(30)).json["metrics"]
    d.call("PATCH", m + "/training", {"publish": "never"})
    d.call("PATCH", m + "/training", {"publish": "step"})
    again = d.post(m + "/evaluate", batch(30)).json["metrics"]
    check("a patch of something else leaves callbacks where they are", again == evaluated, (again, evaluated))
    other = [{"class_name": "LossParamScheduler", "config": {"param_name": "alpha", "xp": [0], "fp": [3.0]}}]
    d.call("PATCH", m + "/training", {"callbacks": other + shown["callbacks"][1:]})
    d.post(m + "/train_step", batch(30))
    check("a frozen version judges as it did", frozen == evaluated and d.post(m + "/versions/1/evaluate", batch(30)).json["metrics"] == frozen
          and d.post(m + "/evaluate", batch(30)).json["metrics"] != frozen, frozen)
    evaluated = d.post(m + "/evaluate", batch(30)).json["metrics"]
    saved, meta = tensors(d.get(m + "/training?state=true").body)
    check("the optimizer's state can be read", meta == {"steps": "4"} and {"d1/kernel/m", "d1/kernel/v", "training/memory"} <= saved.keys()
          and any(saved["d1/kernel/v"]), (meta, list(saved)))
    d.stop()
    d.start()
    again = d.post(m + "/evaluate", batch(30))
    again = again.json.get("metrics", again)
    check("after a restart evaluations judge as before", again == evaluated, (again, evaluated))
    check("frozen versions too", d.post(m + "/versions/1/evaluate", batch(30)).json["metrics"] == frozen)
    check("and the optimizer is where it was", tensors(d.get(m + "/training?state=true").body)[0] == saved)
    for optimizer in ({"class_name": "RMSprop", "config": {"momentum": 0.5, "centered": True}}, "adamw",
                      {"class_name": "SGD", "config": {"learning_rate": {"class_name": "CosineDecay", "config": {
                          "initial_learning_rate": 0.1, "decay_steps": 2}}, "global_clipnorm": 1.0, "use_ema": True}}):
        put = d.put(m + "/training", {**TRAINING, "optimizer": optimizer, "durability": "sync"})
        steps = [d.post(m + "/train_step", batch(12)) for _ in range(3)]
        check(f"{put.json['optimizer']['class_name']} trains", put.status == 200 and all(s.status == 200 for s in steps), f"{put} {steps[-1]}")
    check("the schedule's rate is told", [s.json["parameters"]["learning_rate"] for s in steps[:2]] == [0.1, 0.05]
          and abs(steps[2].json["parameters"]["learning_rate"]) < 1e-12, [s.json["parameters"]["learning_rate"] for s in steps])


def patches(check, d):
    m = d.create("patched", training={**TRAINING, "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.5, "beta_1": 0.25}}, "publish": "never"})
    t = m + "/training"

    def patch(body, **headers):
        return d.call("PATCH", t, body, headers and {k.replace("_", "-"): v for k, v in headers.items()})

    a = patch({"optimizer": {"config": {"learning_rate": 0.125}}})
    check("a patch reaches into objects (RFC 7396)", a.status == 200 and a.json["optimizer"]["config"]["learning_rate"] == 0.125
          and a.json["optimizer"]["config"]["beta_1"] == 0.25 and a.json["optimizer"]["class_name"] == "Adam", a)
    a = patch({"optimizer": {"class_name": "Adam", "config": {"beta_1": None}}})
    check("null brings the default back", a.status == 200 and a.json["optimizer"]["config"]["beta_1"] == 0.9
          and a.json["optimizer"]["config"]["learning_rate"] == 0.125, a)
    a = patch({"optimizer": {"class_name": "SGD", "config": {"momentum": 0.5}}})
    check("another class replaces the object", a.status == 200 and a.json["optimizer"]["class_name"] == "SGD"
          and a.json["optimizer"]["config"]["momentum"] == 0.5 and a.json["optimizer"]["config"]["learning_rate"] == 0.01, a)
    a = patch({"loss": {"class_name": "MulticlassHKR", "config": {"alpha": 3.0}}})
    check("deel-lip's prefix makes no other class", a.status == 200 and a.json["loss"]["config"]["alpha"] == 3.0
          and a.json["loss"]["config"]["min_margin"] == 0.5, a)
    a = patch({"loss": {"y": {"class_name": "MulticlassHinge", "config": {"min_margin": 0.25}}}})
    check("losses by output replace one loss", a.status == 200 and a.json["loss"]["class_name"] == "deel-lip>MulticlassHinge"
          and a.json["loss"]["config"]["min_margin"] == 0.25, a)
    d.post(m + "/train_step", batch())
    shown, state = d.get(t).headers["ETag"], d.get(m).headers["ETag"]
    check("GET's own tag is not that of the model", shown != state)
    check("a write may be conditional on what GET gave", patch({"metrics": []}, If_Match=shown).status == 200)
    stale = patch({"metrics": ["accuracy"]}, If_Match=shown)
    check("which is another tag then", stale.status == 412 and stale.json["current_revision"] == d.get(m).json["state_revision"], stale)
    check("and on the model's", patch({"metrics": ["accuracy"]}, If_Match=d.get(m).headers["ETag"]).status == 200)
    check("neither may be excluded", patch({}, If_None_Match=d.get(t).headers["ETag"]).status == 412
          == patch({}, If_None_Match=d.get(m).headers["ETag"]).status)
    layer = m + "/layers/d1"
    tags = d.get(layer).headers["ETag"], d.get(m).headers["ETag"]
    check("so it is with a layer whose weights are not published",
          tags[0] != tags[1] and d.call("PATCH", layer, {"trainable": True}, {"If-Match": tags[0]}).status == 200
          and d.call("PATCH", layer, {"trainable": False}, {"If-Match": '"0"'}).status == 412, tags)
    a = d.call("PATCH", t, "[]", {"Content-Type": "application/json-patch+json"})
    check("another kind of patch is told which is taken", a.status == 415 and a.headers["Accept"] == "application/merge-patch+json, application/json", a)


def plan(check):
    with Daemon() as d:
        losses(check, d)
        refusals(check, d)
        several(check, d)
        gradients(check, d)
        callbacks(check, d)
        patches(check, d)


run(plan)
