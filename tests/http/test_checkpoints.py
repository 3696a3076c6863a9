"""Checkpoints: named states of the head, and back to them."""

import os
import pathlib

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

PROBE = {"inputs": [tensor("x", [1, 4], [1, -2, 3, 0.5])]}


def plan(check):
    with Daemon("--log-level", "error") as d:
        m = d.create(training=TRAINING)
        c = m + "/checkpoints"
        check("none at first", d.get(c).json == {"object": "list", "data": [], "has_more": False, "next": None}, d.get(c))
        for _ in range(3):
            d.post(m + "/train_step", batch(learning_rate=0.05))
        made = d.post(c, {"name": "before-lr-change"})
        revision = d.get(m).json["state_revision"]
        check("POST is 201 with its document", made.status == 201 and made.headers["Location"] == c + "/before-lr-change"
              and made.json == {"name": "before-lr-change", "step": 3, "state_revision": revision, "job": None,
                                "bytes": made.json["bytes"], "created_at": made.json["created_at"]}
              and made.json["bytes"] > 1000 and made.json["created_at"].endswith("Z"), made)
        check("it is no change of the head", d.get(m).json["state_revision"] == revision)
        shown = d.get(c + "/before-lr-change")
        check("GET shows the same, with a tag", shown.json == made.json
              and d.get(c + "/before-lr-change", If_None_Match=shown.headers["ETag"]).status == 304, shown)
        again = d.post(c, {"name": "before-lr-change"})
        check("a name is taken once", again.status == 409 and again.code == "already_exists", again)
        plain = d.post(c)
        check("without a name it is called after its revision", plain.json["name"] == f"r{revision}", plain)

        def photograph():
            training = d.get(m + "/training").json
            return (d.get(m + "/weights").body, training["optimizer"], training["state"]["step"], d.post(m + "/infer", PROBE).json["outputs"])

        then = photograph()
        d.put(m + "/training", {**TRAINING, "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.5}}})
        after = [d.post(m + "/train_step", batch(learning_rate=0.05)).json["metrics"]["loss"] for _ in range(4)]
        d.post(m + "/condense")
        tag = d.call("HEAD", m).headers["ETag"]
        stale = d.post(c + "/before-lr-change/restore", If_Match='"00000000-1-1"')
        check("If-Match guards a restore", stale.status == 412 and d.call("HEAD", m).headers["ETag"] == tag, stale)
        back = d.post(c + "/before-lr-change/restore", {})
        check("restore is a new revision", back.status == 200 and back.json == {
            "model_name": "m", "model_version": "1", "restored": "before-lr-change", "step": 3,
            "state_revision": int(tag.split("-")[-1][:-1]) + 1, "weights_revision": int(tag.split("-")[-1][:-1]) + 1}
            and back.headers["ETag"] == d.call("HEAD", m).headers["ETag"], back)
        check("weights, optimizer and training are back", photograph() == then, (photograph()[1:], then[1:]))
        d.put(m + "/training", {**TRAINING, "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.5}}})
        check("and the same steps follow", [d.post(m + "/train_step", batch(learning_rate=0.05)).json["metrics"]["loss"]
                                           for _ in range(4)] == after)

        # after kill -9
        d.kill()
        d.start()
        check("they survive kill -9", {x["name"] for x in d.get(c).json["data"]} == {"before-lr-change", f"r{revision}"}, d.get(c))
        check("and restore", d.post(c + f"/r{revision}/restore").status == 200 and photograph() == then)
        d.post(m + "/train_step", batch())
        third = d.post(c, {"name": "third"}).json
        page = d.get(c + "?limit=2").json
        check("pages, the newest first", page["data"][0] == third and page["has_more"]
              and len(page["data"]) == 2, page)
        names = [x["name"] for x in page["data"]] + [x["name"] for x in d.get(page["next"]).json["data"]]
        check("each once", sorted(names) == sorted(["third", "before-lr-change", f"r{revision}"]), names)

        # what is refused
        for name, answer, status, code in [
            ("a bad name", d.post(c, {"name": "a/b"}), 400, "bad_name"), ("an unknown member", d.post(c, {"nam": "a"}), 400, "unknown_member"),
            ("an unknown one", d.get(c + "/no"), 404, "unknown_checkpoint"), ("restoring that", d.post(c + "/no/restore"), 404, "unknown_checkpoint"),
            ("deleting that", d.delete(c + "/no"), 404, "unknown_checkpoint"), ("a bad limit", d.get(c + "?limit=0"), 400, "bad_parameter"),
            ("an unknown cursor", d.get(c + "?after=no"), 400, "bad_parameter"), ("a bad query", d.get(c + "?x=1"), 400, "bad_parameter"),
            ("an unknown model", d.post("/v2/models/no/checkpoints"), 404, "unknown_model"),
        ]:
            check(f"{name} is {status}", answer.status == status and answer.code == code, answer)

        # another definition: with other variables it does not fit, with another k it comes along
        d.call("PATCH", m, {"k_coef_lip": 2.0})
        check("k is another", d.get(m).json["k_coef_lip"] == 2.0)
        d.post(c + "/third/restore")
        check("and comes back", d.get(m).json["k_coef_lip"] == 1.0)
        other = {"class_name": "Sequential", "config": {"layers": [{"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
                                                                   {"class_name": "Dense", "config": {"units": 3, "name": "y"}}]}}
        d.put(m, other)
        tag = d.call("HEAD", m).headers["ETag"]
        answer = d.post(c + "/third/restore")
        check("of another definition is 422", answer.status == 422 and answer.code == "bad_weights" and d.call("HEAD", m).headers["ETag"] == tag, answer)
        d.put(m, MLP)

        # a checkpoint from before training was configured
        n = d.create("n")
        d.post(n + "/checkpoints", {"name": "fresh"})
        weights = d.get(n + "/weights").body
        d.put(n + "/training", TRAINING)
        d.post(n + "/train_step", batch())
        fresh = d.post(n + "/checkpoints/fresh/restore")
        check("a checkpoint without training keeps the resource, anew", fresh.status == 200 and fresh.json["step"] == 0
              and d.get(n + "/weights").body == weights and d.get(n + "/training").json["state"]["optimizer_state"] == "reset", fresh)

        # damaged and deleted
        folder = pathlib.Path(d.state, "models", "m", "checkpoints")
        file = folder / "third" / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-8])
        tag = d.call("HEAD", m).headers["ETag"]
        answer = d.post(c + "/third/restore")
        check("a torn one is 503 and changes nothing", answer.status == 503 and answer.code == "unavailable"
              and d.call("HEAD", m).headers["ETag"] == tag, answer)
        check("DELETE under another tag is 412", d.call("DELETE", c + "/third", headers={"If-Match": '"0"'}).status == 412)
        tag = d.get(c + "/third").headers["ETag"]
        check("DELETE under its own is 204", d.call("DELETE", c + "/third", headers={"If-Match": tag}).status == 204 and d.get(c + "/third").status == 404
              and not (folder / "third").exists())
        (folder / ".gone.left").mkdir()
        os.mkdir(folder / ".new.half")
        check("what a crash left is no checkpoint", len(d.get(c).json["data"]) == 2 and not (folder / ".gone.left").exists()
              and d.post(c, {"name": "half"}).status == 201 and not (folder / ".new.half").exists())


run(plan)
