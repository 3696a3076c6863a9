"""PATCH of models and layers: k, trainable, description, tags; what stays and what is recomputed."""

import json

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

# One output channel for each pixel of a window: deel-lip's factor is exceeded by as much as can be.
CNN = {"class_name": "Sequential", "config": {"name": "cnn", "k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 6, 5, 1], "name": "x"}},
    {"class_name": "SpectralConv2D", "config": {"filters": 9, "kernel_size": 3, "name": "c"}},
    {"class_name": "Flatten", "config": {"name": "y"}}]}}
PROBE = {"inputs": [tensor("x", [2, 4], [1, -2, 3, 0.5, 5, 4, 3, 2])]}


def plan(check):
    with Daemon("--checkpoint-seconds", "600") as d:
        m = d.create(training=TRAINING)

        def patch(path, body, **headers):
            return d.call("PATCH", path, body, {k.replace("_", "-"): v for k, v in headers.items()})

        def outputs():
            return d.post(m + "/infer", PROBE).json["outputs"][0]["data"]

        def weights(name):
            return d.get(f"{m}/weights/{name}").json["data"]

        for _ in range(3):
            d.post(m + "/train_step", batch(learning_rate=0.02))
        before, kernel, document = outputs(), weights("d1/kernel"), d.get(m).json
        zero = d.get(m + "/weights/y/bias").json["data"]

        # words only
        first = patch(m, {"description": "words", "tags": {"a": 1, "b": {"c": 2}}})
        check("description and tags", first.status == 200 and first.json["description"] == "words" and first.json["tags"]["b"] == {"c": 2}
              and first.json["state_revision"] == document["state_revision"], first)
        second = patch(m, {"tags": {"a": None, "b": {"d": 3}}})
        check("tags are merged, null removes", second.json["tags"] == {"b": {"c": 2, "d": 3}}
              and second.json["description"] == "words", second)
        check("they move no answer", outputs() == before)
        d.kill()
        d.start()
        check("they survive kill -9, and the steps that were saved with them", d.get(m).json["tags"] == {"b": {"c": 2, "d": 3}}
              and outputs() == before and d.get(m).json["state_revision"] == document["state_revision"], d.get(m))

        # k of the model
        revision = d.get(m).json["state_revision"]
        four = patch(m, {"k_coef_lip": 4.0})
        check("a new k", four.status == 200 and four.json["k_coef_lip"] == 4 and four.json["state_revision"] == revision + 1
              and four.json["weights_revision"] == revision + 1 and four.headers["ETag"].endswith(f'-{revision + 1}"'), four)
        layers = {x["name"]: x for x in d.get(m + "/layers").json["data"]}
        check("is shared as at creation", abs(layers["d1"]["k_coef_lip"] - 4 ** (1 / 3)) < 1e-6
              and abs(layers["y"]["k_coef_lip"] - 4 ** (1 / 3)) < 1e-6 and layers["d1"]["effective_kernel"] == "computed", layers)
        check("kernels stay, answers do not", weights("d1/kernel") == kernel and weights("y/bias") == zero and outputs() != before)
        report = d.get(m + "/lipschitz").json
        check("the bound follows", report["network"]["claimed"] - 4 < 1e-6 and abs(report["layers"][0]["upper"] - 4 ** (1 / 3)) < 0.02, report)
        check("the definition says it", d.get(m + "/definition").json["config"]["k_coef_lip"] == 4)
        check("training goes on where it was", d.get(m + "/training").json["state"]["step"] == 3
              and d.get(m + "/training").json["state"]["optimizer_state"] == "kept"
              and d.post(m + "/train_step", batch()).json["parameters"]["step"] == 4)
        back = patch(m, {"k_coef_lip": 1.0})
        check("and back", back.status == 200 and d.get(m + "/layers/d1").json["k_coef_lip"] == 1, back)

        # the coefficient of convolutions
        d.create("cnn", CNN)
        c, image = "/v2/models/cnn", {"inputs": [tensor("x", [1, 6, 5, 1], [i % 7 - 3 for i in range(30)])]}

        def of_cnn():
            report = d.get(c + "/lipschitz").json["layers"][0]
            return report["upper"], report["sound_claim"], d.post(c + "/infer", image).json["outputs"][0]["data"]

        upper, sound, y = of_cnn()
        check("deel-lip's factor is no bound", d.get(c).json["coefficient"] == "deel_lip" and upper > 1.05 and sound is False, (upper, sound))
        other = patch(c, {"coefficient": "sound"})
        now = of_cnn()
        check("the sound one is", other.status == 200 and other.json["coefficient"] == "sound" and now[0] <= 1.00001 and now[1] is True
              and now[2] != y, (other, now))
        check("the definition says so", d.get(c + "/definition").json["config"]["coefficient"] == "sound")
        d.kill()
        d.start()
        check("after kill -9 too", of_cnn() == now and d.get(c).json["coefficient"] == "sound")
        check("and back", patch(c, {"coefficient": "deel_lip"}).json["coefficient"] == "deel_lip" and of_cnn()[2] == y)
        check("as a member of PUT", d.put("/v2/models/s1", {"definition": CNN, "coefficient": "sound"}).json["coefficient"] == "sound"
              and d.get("/v2/models/s1/lipschitz").json["layers"][0]["sound_claim"] is True)
        check("as a query, with the definition alone", d.put("/v2/models/s2?coefficient=sound&dry_run=true", CNN).json["coefficient"] == "sound"
              and d.put("/v2/models/s2?coefficient=sound", CNN).json["coefficient"] == "sound")
        check("back by PUT of the definition given", d.put("/v2/models/s3", d.get("/v2/models/s2/definition").json).json["coefficient"] == "sound")

        # one layer
        one = patch(m + "/layers/d1", {"k_coef_lip": 0.5})
        check("k of one layer", one.status == 200 and one.json["k_coef_lip"] == 0.5 and one.json["config"]["k_coef_lip"] == 0.5
              and one.json["name"] == "d1", one)
        definition = d.get(m + "/definition").json
        check("the Sequential's own k is left out", "k_coef_lip" not in definition["config"]
              and d.get(m).json["k_coef_lip"] is None, definition)
        served = outputs()
        check("the definition still means what is served", d.put("/v2/models/copy", definition).status == 201
              and d.put("/v2/models/copy/weights", d.get(m + "/weights").body).status == 200
              and d.post("/v2/models/copy/infer", PROBE).json["outputs"][0]["data"] == served
              and abs(d.get("/v2/models/copy/lipschitz").json["layers"][0]["claimed"] - 0.5) < 1e-9)
        frozen = patch(m + "/layers/d1", {"trainable": False})
        check("a layer is frozen, and serves the same", frozen.status == 200 and frozen.json["trainable"] is False
              and frozen.json["parameters"] == 0 and outputs() == served, frozen)
        kernel, other = weights("d1/kernel"), weights("y/kernel")
        step = d.post(m + "/train_step", batch(learning_rate=0.05))
        check("a step leaves its kernel alone", step.status == 200 and weights("d1/kernel") == kernel and weights("y/kernel") != other, step)
        d.kill()
        d.start()
        check("what was patched survives kill -9", d.get(m + "/layers/d1").json["trainable"] is False
              and d.get(m + "/layers/d1").json["k_coef_lip"] == 0.5 and outputs() == served)
        free = patch(m + "/layers/d1", {"trainable": True})
        check("and free again", free.json["trainable"] is True and d.post(m + "/train_step", batch(learning_rate=0.05)).status == 200
              and weights("d1/kernel") != kernel, free)
        # a stored kernel stays with a flag, not with a k
        d.put(m + "/weights/d1/wbar", {"data": weights("d1/wbar")})
        check("a flag keeps a stored kernel", patch(m + "/layers/y", {"trainable": False}).status == 200
              and d.get(m + "/layers/d1").json["effective_kernel"] == "stored")
        check("a k computes it", patch(m + "/layers/d1", {"k_coef_lip": 2}).json["effective_kernel"] == "computed")

        # refusals
        tag, answer = d.call("HEAD", m).headers["ETag"], outputs()
        for path, body, status, code in [
                (m, {"k_coef_lip": 0}, 422, "bad_definition"), (m, {"k_coef_lip": "2"}, 422, "bad_definition"),
                (m, {"k": 2}, 400, "unknown_member"), (m, {"description": 3}, 400, "bad_parameter"),
                (m, {"tags": [1]}, 400, "bad_parameter"), (m, {"coefficient": "true"}, 400, "bad_parameter"), (m, {"coefficient": None}, 400, "bad_parameter"),
                (m, b"[1]", 400, "bad_request"), (m, b"{", 400, "bad_json"), ("/v2/models/none", {}, 404, "unknown_model"),
                (m + "/layers/d1", {"trainable": 1}, 422, "bad_definition"), (m + "/layers/d1", {"k_coef_lip": -1}, 422, "bad_definition"),
                (m + "/layers/d1", {"units": 3}, 400, "unknown_member"), (m + "/layers/d9", {"trainable": True}, 404, "unknown_layer"),
                (m + "/layers/x", {"k_coef_lip": 2}, 422, "bad_definition")]:
            refused = patch(path, body)
            check(f"PATCH {path.removeprefix(m)} {body} is {status} {code}", refused.status == status and refused.code == code, refused)
        late = patch(m, {"k_coef_lip": 3}, If_Match='"00000000-1-1"')
        check("If-Match", late.status == 412 and late.json["current_revision"] == int(tag.strip('"').split("-")[2]), late)
        check("which changed nothing", d.call("HEAD", m).headers["ETag"] == tag and outputs() == answer)
        check("an empty patch too", patch(m, {}).status == 200 and patch(m + "/layers/d1", {}).status == 200
              and d.call("HEAD", m).headers["ETag"] == tag)
        check("the daemon is alive", d.stop() == 0, d.said())


run(plan)
