"""Training steps, revisions, publishing, weights, condense, export."""

import json
import struct

from daemon import MLP, TRAINING, Daemon, batch, floats, run, tensor


def tensors(file):
    """name -> (shape, floats) of a safetensors file."""
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:8 + length])
    return {name: (t["shape"], floats(file[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]]))
            for name, t in header.items() if name != "__metadata__"}, header.get("__metadata__", {})


def plan(check):
    with Daemon() as d:
        m = d.create()
        probe = {"inputs": [tensor("x", [2, 4], [1, -2, 3, 0.5, -1, 0, 2, 2])]}

        def outputs():
            return d.post(m + "/infer", probe).json["outputs"][0]["data"]

        check("no training yet", d.get(m + "/training").code == "training_not_configured")
        answer = d.put(m + "/training", TRAINING)
        check("training shows every default", answer.status == 200 and answer.json["optimizer"]["config"]["learning_rate"] == 0.001
              and answer.json["publish"] == "step" and answer.json["state"]["step"] == 0 and answer.json["state_revision"] == 2, answer)
        check("and GET shows it again", d.get(m + "/training").json["loss"] == answer.json["loss"])

        first = d.post(m + "/train_step", batch())
        body = first.json
        check("a step", first.status == 200 and body["parameters"]["step"] == 1 and body["parameters"]["state_revision"] == 3
              and body["parameters"]["weights_revision"] == 3 and {"loss", "accuracy"} <= body["metrics"].keys()
              and [layer["name"] for layer in body["layers"]] == ["d1", "y"], first)
        check("its revision is in the headers", first.headers["Onelip-Weights-Revision"] == "3"
              and first.headers["ETag"].endswith('-1-3"'), first)
        losses = [d.post(m + "/train_step", batch(30, learning_rate=0.05)).json["metrics"]["loss"] for _ in range(60)]
        check("the loss falls", losses[-1] < losses[0] - 0.1, f"{losses[0]} {losses[-1]}")

        tag = d.call("HEAD", m).headers["ETag"]
        check("If-Match of the present state", d.post(m + "/train_step", batch(), If_Match=tag).status == 200)
        late = d.post(m + "/train_step", batch(), If_Match=tag)
        check("and again is 412, with the present revision", late.status == 412 and late.json["current_revision"] == 64, late)

        before = outputs()
        skipped = d.put(m + "/training", {**TRAINING, "on_nonfinite": "skip", "publish": "never"})
        check("the optimizer's state is kept", skipped.json["state"]["optimizer_state"] == "kept"
              and skipped.json["state"]["step"] == 62, skipped)
        bad = batch()
        bad["inputs"][0]["data"][0] = "NaN"
        answer = d.post(m + "/train_step", bad)
        check("a non-finite batch is skipped on request", answer.status == 200 and answer.json["parameters"]["skipped"] is True, answer)
        step = d.post(m + "/train_step", batch(learning_rate=0.05)).json["parameters"]
        check("publish never: weights stay", step["weights_revision"] < step["state_revision"] and outputs() == before, step)
        refreshed = d.post(m + "/refresh")
        check("refresh publishes", refreshed.status == 200 and refreshed.json["weights_revision"] == refreshed.json["state_revision"]
              and outputs() != before, refreshed)

        steps = d.get(m + "/stats").json["model_stats"][0]["training_stats"]
        check("statistics time the steps", steps["steps"]["count"] == steps["publish"]["count"] > 60
              and steps["steps"]["ns"] >= steps["forward"]["ns"] > 0, steps)
        evaluated = d.post(m + "/evaluate", batch(12))
        check("evaluate", evaluated.status == 200 and evaluated.json["parameters"]["samples"] == 12
              and 0 <= evaluated.json["metrics"]["accuracy"] <= 1, evaluated)

        # condense and export
        before = outputs()
        condensed = d.post(m + "/condense")
        check("condense changes no answer", condensed.status == 200 and condensed.json["max_abs_output_change"] < 1e-5
              and max(abs(a - b) for a, b in zip(outputs(), before)) < 1e-5, condensed)
        weights, meta = tensors(d.get(m + "/weights").body)
        check("and makes the kernel its own effective kernel", weights["d1/kernel"] == weights["d1/wbar"])
        check("weights hold every variable", list(weights) == ["d1/kernel", "d1/bias", "d1/u", "d1/sigma", "d1/wbar", "y/kernel",
                                                               "y/bias", "y/wbar"], list(weights))
        check("and the definition", json.loads(meta["definition"]) == d.get(m + "/definition").json)
        export = d.get(m + "/export?format=keras_json&vanilla=true")
        classes = [layer["class_name"] for layer in export.json["config"]["layers"]]
        check("vanilla definition", classes == ["InputLayer", "Dense", "GroupSort2", "Dense"]
              and "k_coef_lip" not in export.json["config"], export)
        plain, _ = tensors(d.get(m + "/export?format=safetensors&vanilla=true").body)
        check("vanilla weights are the effective kernels", plain["d1/kernel"] == weights["d1/wbar"]
              and list(plain) == ["d1/kernel", "d1/bias", "y/kernel", "y/bias"], list(plain))
        twin = d.put("/v2/models/plain", export.body)
        head = json.loads(export.body)
        check("the export is a model of its own", twin.status == 201, twin)
        file = d.get(m + "/export?format=safetensors&vanilla=true").body
        check("that takes the exported weights", d.put("/v2/models/plain/weights", file).status == 200, head)
        check("and answers the same", d.post("/v2/models/plain/infer", probe).json["outputs"][0]["data"] == outputs())

        # weights: a stored effective kernel is served as it is
        file = d.get(m + "/weights").body
        d.post(m + "/train_step", batch(learning_rate=0.1))
        put = d.put(m + "/weights", file)
        check("weights come back", put.status == 200 and put.json["effective_kernel"] == {"d1": "stored", "y": "stored"}, put)
        check("bit for bit", tensors(d.get(m + "/weights").body)[0] == weights)
        layer = d.get(m + "/layers/d1").json
        check("the layer says that its kernel is stored", layer["effective_kernel"] == "stored" and layer["stored_distance"] < 1e-5
              and layer["weights"] == ["d1/kernel", "d1/bias", "d1/u", "d1/sigma", "d1/wbar"] and layer["parameters"] == 80, layer)
        report = d.get(m + "/lipschitz")
        body = report.json
        rows = {row["name"]: row for row in body["layers"]}
        check("the report encloses", rows["d1"]["lower"] <= rows["d1"]["upper"] <= rows["d1"]["lower"] * (1 + 1e-6)
              and body["network"]["lower"] <= body["network"]["upper"] and rows["sort"]["upper"] == 1
              and rows["y"]["per_output"] is True, report)
        check("and is cached under its revision", d.get(m + "/lipschitz", If_None_Match=report.headers["ETag"]).status == 304)

        # definitions, lists, replacement
        check("the definition loads as a model", d.put("/v2/models/again", d.get(m + "/definition").body).status == 201)
        check("models are listed", set(d.get("/v2/models").json["models"]) == {"m", "plain", "again"})
        old = d.call("HEAD", m).headers["ETag"]
        replaced = d.put(m, {"definition": MLP, "seed": 2})
        check("PUT replaces under a new epoch", replaced.status == 200 and replaced.headers["ETag"][:9] != old[:9], replaced)
        check("the training is gone with the old model", d.get(m + "/training").code == "training_not_configured")
        dry = d.call("POST", "/v2/models?dry_run=true", {"name": "ghost", "definition": MLP})
        check("a dry run stores nothing", dry.status == 200 and d.get("/v2/models/ghost").status == 404, dry)
        check("delete", d.delete(m).status == 204 and d.get(m).status == 404)
        same = [d.put(f"/v2/models/seed{i}", {"definition": MLP, "seed": 5}) and d.get(f"/v2/models/seed{i}/weights").body for i in range(2)]
        check("one seed, one model", tensors(same[0])[0] == tensors(same[1])[0])


run(plan)
