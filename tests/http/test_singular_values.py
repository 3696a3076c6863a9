"""Spectra of layers: against the kernel's own sums, proven norms, what has no operator, revisions."""

import math

from daemon import MLP, TRAINING, Daemon, batch, run
from stage import NESTED

CNN = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 6, 6, 1], "name": "x"}},
    {"class_name": "SpectralConv2D", "config": {"filters": 16, "kernel_size": [3, 3], "name": "c1"}},
    {"class_name": "ScaledAveragePooling2D", "config": {"pool_size": [2, 2], "name": "p"}},
    {"class_name": "Flatten", "config": {"name": "flat"}},
    {"class_name": "SpectralDense", "config": {"units": 2, "name": "y"}}]}}


DEEP = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Sequential", "config": {"name": "outer", "layers": [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x1"}},
        {"class_name": "Sequential", "config": {"name": "middle", "layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x2"}},
            {"class_name": "SpectralDense", "config": {"units": 3, "name": "d"}}]}},
        {"class_name": "SpectralDense", "config": {"units": 2, "name": "s", "activation": {
            "class_name": "PReLU", "config": {"name": "act"}}}}]}}]}}


def plan(check):
    with Daemon() as d:
        m = d.create(training=TRAINING)
        d.post(m + "/train_step", batch(9, learning_rate=0.05))
        answer = d.get(m + "/layers/d1/singular_values")
        body = answer.json
        kernel = d.get(m + "/weights/d1/wbar").json["data"]
        check("the whole spectrum", answer.status == 200 and body["count"] == 4 and body["shape"] == [4, 16] and body["method"] == "svd"
              and body["operator"] == "dense" and body["of"] == "layer" and body["layer"] == "d1"
              and body["effective_kernel"] == "computed" and body["largest"] == body["smallest"][::-1]
              and body["largest"] == sorted(body["largest"], reverse=True), answer)
        # The squares of all singular values add up to those of the entries, of which JSON has the shortest decimals: off by
        # half a unit of float32, 6e-8, each.
        check("is that of the served kernel", math.isclose(sum(s * s for s in body["largest"]), sum(v * v for v in kernel), rel_tol=1.3e-7))
        check("its largest is enclosed", body["enclosure"]["lower"] * (1 - 1e-12) <= body["largest"][0] <= body["enclosure"]["upper"] * (1 + 1e-12)
              and body["enclosure"]["upper"] < body["enclosure"]["lower"] * (1 + 1e-9), body["enclosure"])
        check("its tag follows the weights and the options", answer.headers["Onelip-Weights-Revision"] == "3"
              and answer.headers["ETag"].startswith(f'"{d.get(m).json["epoch"]}-1-3-')
              and d.get(m + "/layers/d1/singular_values?k=2").headers["ETag"] != answer.headers["ETag"], answer.headers)
        check("304 to who has it", d.get(m + "/layers/d1/singular_values", If_None_Match=answer.headers["ETag"]).status == 304)
        few = d.get("/v2/models/m/versions/1/layers/d1/singular_values?k=2").json
        check("k at each end, of a version", few["largest"] == body["largest"][:2] and few["smallest"] == body["smallest"][:2]
              and few["count"] == 4, few)
        check("k beyond the count is the count", d.get(m + "/layers/d1/singular_values?k=99").json["largest"] == body["largest"])

        c = d.create("c", CNN)
        layer, reshaped = (d.get(f"{c}/layers/c1/singular_values?of={of}").json for of in ("layer", "kernel"))
        check("a convolution's operator has its padding in it", layer["operator"] == "zero_padded" and layer["shape"] == [36, 576]
              and layer["count"] == 36 and reshaped["shape"] == [9, 16] and reshaped["operator"] == "dense", (layer, reshaped))
        # certify.md C2: filters >= 9 channels and an orthogonal kernel attain 3, deel-lip's factor is that of the average patch.
        check("deel-lip's factor is exceeded, as proven", layer["largest"][0] > 1.05 and layer["enclosure"]["lower"] > 1.05
              and layer["largest"][0] <= layer["enclosure"]["upper"] * (1 + 1e-12)
              and layer["enclosure"]["upper"] <= 3 * reshaped["enclosure"]["upper"] * (1 + 1e-12), (layer["enclosure"], reshaped["enclosure"]))
        pool = d.get(c + "/layers/p/singular_values?k=1").json
        check("average pooling", pool["operator"] == "pooling" and pool["largest"] == [1] and pool["effective_kernel"] is None
              and pool["enclosure"] == {"lower": 1, "upper": 1}, pool)

        for path, status, code in (("m/layers/sort/singular_values", 404, "not_found"),
                                   ("c/layers/flat/singular_values", 404, "not_found"),
                                   ("m/layers/x/singular_values", 404, "not_found"),
                                   ("m/layers/nobody/singular_values", 404, "unknown_layer"),
                                   ("nobody/layers/d1/singular_values", 404, "unknown_model"),
                                   ("m/versions/7/layers/d1/singular_values", 404, "unknown_version"),
                                   ("m/layers/d1/singular_values?k=0", 400, "bad_parameter"),
                                   ("m/layers/d1/singular_values?k=2.5", 400, "bad_parameter"),
                                   ("m/layers/d1/singular_values?of=slot", 400, "bad_parameter"),
                                   ("m/layers/d1/singular_values?top=3", 400, "bad_parameter")):
            got = d.get("/v2/models/" + path)
            check(f"{path} is {status} {code}", got.status == status and got.code == code, got)
        check("squares of the operator add up too",
              math.isclose(sum(s * s for s in layer["largest"]), sum(s * s for s in layer["smallest"]), rel_tol=1e-12))

        # a layer inside a nested model goes by its path, as its tensors do
        nested = d.create("nested", NESTED)
        inside = nested + "/layers/net/d1"
        row = d.get(inside)
        check("GET of a layer inside a model", row.status == 200 and row.json["name"] == "net/d1" and row.json["config"]["units"] == 2
              and row.json["weights"][0] == "net/d1/kernel", row)
        top = d.get(inside + "/singular_values?k=1")
        check("its spectrum", top.status == 200 and top.json["layer"] == "net/d1" and abs(top.json["largest"][0] - 1) < 1e-5, top)
        patched = d.call("PATCH", inside, {"k_coef_lip": 0.5})
        check("PATCH of it is served at once", patched.status == 200 and patched.json["k_coef_lip"] == 0.5 and patched.json["name"] == "net/d1"
              and abs(d.get(inside + "/singular_values?k=1").json["largest"][0] - 0.5) < 1e-5, patched)
        report = d.get(nested + "/lipschitz").json
        check("a report has it by that name", [r["name"] for r in report["layers"]] == ["net/d1"]
              and abs(report["network"]["upper"] - 0.5) < 1e-5, report)
        # and so does one in a model inside that, or in a slot of a layer
        deep = d.create("deep", DEEP)
        names = [t["name"] for t in d.get(deep + "/weights?list=true").json["tensors"]]
        check("tensors of layers far inside", "outer/middle/d/kernel" in names and "outer/s/act/alpha" in names, names)
        for name in names:
            one = d.get(f"{deep}/weights/{name}")
            check(f"GET of {name}", one.status == 200 and one.json["name"] == name, one)
            check(f"PUT of {name}", d.put(f"{deep}/weights/{name}", one.body, Content_Type="application/json").status == 200)
        far = deep + "/layers/outer/middle/d"
        row, spectrum = d.get(far), d.get(far + "/singular_values")
        check("GET of a layer far inside", row.status == 200 and row.json["name"] == "outer/middle/d", row)
        check("its spectrum, too", spectrum.status == 200 and spectrum.json["layer"] == "outer/middle/d", spectrum)
        patched = d.call("PATCH", far, {"trainable": False})
        check("PATCH of it", patched.status == 200 and patched.json["trainable"] is False, patched)
        d.post(deep + "/versions")
        check("and below a version", d.get(deep + "/versions/1/layers/outer/middle/d").status == 200
              and d.get(deep + "/versions/1/weights/outer/middle/d/bias").status == 200)
        for path in ("/layers/net", "/layers/net/d2", "/layers/net/d2/singular_values", "/layers/net/d1/d1", "/layers/net/d1/d1/singular_values"):
            answer = d.get(nested + path)
            check(f"nothing at {path}", answer.status == 404 and answer.code == "unknown_layer", answer)
        check("PATCH of none", d.call("PATCH", nested + "/layers/net/d2", {"k_coef_lip": 0.5}).code == "unknown_layer")


run(plan)
