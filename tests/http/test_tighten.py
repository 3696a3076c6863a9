"""Every layer scaled to its proven norm: bounds equal claims, answers scale, training and restarts go on with the factors."""

import json
import struct

from daemon import TRAINING, Daemon, floats, run, tensor

CNN = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 1], "name": "x"}},
    {"class_name": "SpectralConv2D", "config": {"filters": 16, "kernel_size": [3, 3], "name": "c1"}},
    {"class_name": "GroupSort2", "config": {"name": "sort"}},
    {"class_name": "ScaledL2NormPooling2D", "config": {"pool_size": [2, 2], "name": "pool"}},
    {"class_name": "SpectralConv2D", "config": {"filters": 4, "kernel_size": [3, 3], "name": "c2"}},
    {"class_name": "Flatten", "config": {"name": "flat"}},
    {"class_name": "FrobeniusDense", "config": {"units": 3, "disjoint_neurons": True, "name": "y"}}]}}
X = [((7 * i) % 23 - 11) / 11 for i in range(2 * 64)]


def plan(check):
    with Daemon() as d:
        m = d.create(definition=CNN, training=TRAINING)
        step = {"inputs": [tensor("x", [2, 8, 8, 1], X), tensor("y_true", [2], [0, 2], "INT64")]}
        d.post(m + "/train_step", step)

        def outputs():
            return d.post(m + "/infer", {"inputs": [tensor("x", [2, 8, 8, 1], X)]}).json["outputs"][0]["data"]

        def report():
            body = d.get(m + "/lipschitz?method=product").json
            return {r["name"]: r for r in body["layers"]}, body

        rows, body = report()
        check("deel-lip's factor exceeds the claim", rows["c1"]["sound_claim"] is False and rows["c1"]["lower"] > 1.08
              and body["network"]["claimed"] == 1, rows["c1"])
        before, document = outputs(), d.get(m)
        check("a stale If-Match changes nothing", d.post(m + "/tighten", "{}", If_Match='"0-1-1"').status == 412 and outputs() == before)
        check("nor does a member that is not known", d.post(m + "/tighten", {"layers": ["c1"]}).code == "unknown_member" and outputs() == before)
        answer = d.post(m + "/tighten", b"", If_Match=document.headers["ETag"])
        layers = {x["name"]: x for x in answer.json["layers"]}
        revision = document.json["state_revision"] + 1
        check("one revision on, published", answer.status == 200 and answer.json["state_revision"] == answer.json["weights_revision"] == revision
              and answer.headers["ETag"].endswith(f'-1-{revision}"') and answer.json["model_version"] == "1", answer)
        check("layers with kernels, each with its factors", list(layers) == ["c1", "c2", "y"]
              and all(abs(x["coef_lip_after"] / x["coef_lip_before"] * x["upper_before"] - x["upper_after"]) < 1e-6 for x in layers.values()), layers)
        check("every proven bound is the claim, from above", all(1 - 2e-6 < x["upper_after"] <= 1 for x in layers.values()), layers)
        check("what exceeded its claim shrank, what fell short of it grew", layers["c1"]["coef_lip_after"] < layers["c1"]["coef_lip_before"]
              and layers["c2"]["upper_before"] < 1 and layers["c2"]["coef_lip_after"] > layers["c2"]["coef_lip_before"], layers)
        rows, body = report()
        check("the report agrees", all(rows[n]["sound_claim"] is True for n in layers) and rows["c1"]["upper"] == layers["c1"]["upper_after"]
              and not any(w["code"] == "claim_exceeded" for w in body["warnings"]), body)
        scaled = outputs()
        check("answers scale", scaled != before and len(scaled) == 6)
        shown = d.get(m + "/layers/c1").json
        check("the layer says its factor", shown["coef_lip"] == layers["c1"]["coef_lip_after"] and shown["k_coef_lip"] == 1
              and shown["effective_kernel"] == "computed", shown)

        after = d.post(m + "/train_step", step)
        check("training goes on, the optimizer's state with it", after.status == 200 and after.json["parameters"]["step"] == 2, after)
        check("with the new factors", d.get(m + "/layers/c1").json["coef_lip"] == layers["c1"]["coef_lip_after"])
        d.post(m + "/tighten")
        d.post(m + "/condense")  # on disk
        kept, served = d.get(m + "/layers/c1").json["coef_lip"], outputs()
        d.kill()
        d.start()
        check("kill -9 loses no factor", d.get(m + "/layers/c1").json["coef_lip"] == kept and outputs() == served)
        copy = d.put("/v2/models/copy", d.get(m + "/definition").json)
        d.put("/v2/models/copy/weights", d.get(m + "/weights").body)
        check("the definition holds them", copy.status == 201 and d.get("/v2/models/copy/layers/c1").json["coef_lip"] == kept
              and d.post("/v2/models/copy/infer", {"inputs": [tensor("x", [2, 8, 8, 1], X)]}).json["outputs"][0]["data"] == served)
        twice = {x["name"]: x for x in d.post("/v2/models/copy/tighten").json["layers"]}
        check("tightening twice changes next to nothing", all(abs(x["coef_lip_after"] / x["coef_lip_before"] - 1) < 2e-6 for x in twice.values()), twice)
        check("another coefficient forgets them", d.call("PATCH", m, {"coefficient": "sound"}).status == 200
              and abs(d.get(m + "/layers/c1").json["coef_lip"] - 1 / 3) < 1e-6, d.get(m + "/layers/c1"))

        # a stored kernel three times too large: what is scaled is the one that is computed
        file = d.get("/v2/models/copy/weights").body
        length = struct.unpack("<Q", file[:8])[0]
        at = json.loads(file[8:8 + length])["y/wbar"]["data_offsets"]
        start, end = 8 + length + at[0], 8 + length + at[1]
        big = struct.pack(f"<{(end - start) // 4}f", *[3 * v for v in floats(file[start:end])])
        d.put("/v2/models/copy/weights", file[:start] + big + file[end:])
        y = {x["name"]: x for x in d.post("/v2/models/copy/tighten").json["layers"]}["y"]
        check("a stored kernel gives way to a computed one", 2.9 < y["upper_before"] < 3.1 and 1 - 2e-6 < y["upper_after"] <= 1
              and d.get("/v2/models/copy/layers/y").json["effective_kernel"] == "computed", y)

        d.post(m + "/versions", {})
        check("a frozen version is not changed", d.post(m + "/versions/1/tighten").code == "version_frozen"
              and d.post("/v2/models/none/tighten").code == "unknown_model")
        bad = json.loads(json.dumps(CNN))
        bad["config"]["layers"][1]["config"]["coef_lip"] = -1
        check("a factor below 0 is no definition", d.put("/v2/models/bad", bad).code == "bad_definition")


run(plan)
