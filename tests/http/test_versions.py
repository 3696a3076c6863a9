"""Versions: the head is frozen, the frozen one never changes, labels name it; all of it survives kill -9."""

import os
import pathlib
import shutil
import threading

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

PROBE = {"inputs": [tensor("x", [1, 4], [1, -2, 3, 0.5])]}


def plan(check):
    with Daemon("--log-level", "error") as d:
        m = d.create(training=TRAINING)
        for _ in range(3):
            d.post(m + "/train_step", batch(learning_rate=0.05))
        head = d.get(m).json
        tag = d.call("HEAD", m).headers["ETag"]
        listed = d.get(m + "/versions").json["data"]
        check("at first there is the head alone", len(listed) == 1 and listed[0]["version"] == "1" and listed[0]["head"] is True
              and listed[0]["frozen_at"] is None and listed[0]["weights_revision"] == head["weights_revision"], listed)

        # freezing
        frozen = d.post(m + "/versions", {"description": "before fine-tuning", "labels": ["stable"]})
        check("POST is 201", frozen.status == 201 and frozen.headers["Location"] == m + "/versions/1", frozen)
        check("with the version", frozen.json == {"version": "1", "state": "READY", "head": False, "weights_revision": head["weights_revision"],
              "labels": ["stable"], "description": "before fine-tuning", "created_at": head["created_at"],
              "frozen_at": frozen.json["frozen_at"]} and frozen.json["frozen_at"], frozen)
        now = d.get(m).json
        check("the head is version 2, with the same weights and revision", now["head"] == "2" and now["versions"] == ["1", "2"]
              and now["labels"] == {"stable": "1"} and now["state_revision"] == head["state_revision"]
              and now["weights_revision"] == head["weights_revision"] and now["epoch"] == head["epoch"]
              and d.get(m + "/weights").body == d.get(m + "/versions/1/weights").body, now)
        check("its tag is another", d.call("HEAD", m).headers["ETag"] == tag.replace("-1-", "-2-"), d.call("HEAD", m))
        listed = d.get(m + "/versions").json["data"]
        check("both are listed, the head first", [(v["version"], v["head"]) for v in listed] == [("2", True), ("1", False)], listed)
        check("version 1 keeps its tag", d.call("HEAD", m + "/versions/1").headers["ETag"] == tag)

        # every read at the version, the head training on
        paths = ["", "/ready", "/config", "/definition", "/weights", "/weights/d1/kernel", "/layers", "/layers/d1", "/lipschitz",
                 "/layers/d1/singular_values?k=2", "/export", "/export?format=keras_json&vanilla=true"]

        def photograph(at):
            gets = [d.get(at + p) for p in paths]
            posts = [d.post(at + "/infer", PROBE), d.post(at + "/evaluate", batch())]
            bodies = [g.body for g in gets]
            bodies[0] = {k: v for k, v in gets[0].json.items() if k not in ("labels", "versions", "head")}
            bodies[8] = {k: v for k, v in gets[8].json.items() if k != "elapsed_ns"}
            return [a.status for a in gets + posts], bodies, [p.body for p in posts]

        then = photograph(m + "/versions/1")
        check("every read answers at a version", set(then[0]) == {200}, then[0])
        check("and says which", all(b'"model_version":"1"' in b for b in then[2]), then[2])
        for _ in range(3):
            d.post(m + "/train_step", batch(learning_rate=0.05))
        d.post(m + "/condense")
        check("training the head does not change it", photograph(m + "/versions/1") == then)
        same = photograph(m + "/labels/stable")
        check("a label reads the same, but for itself", (same[0], same[1][1:], same[2]) == (then[0], then[1][1:], then[2]), same[0])
        other = d.post(m + "/infer", PROBE).json
        check("the head answers otherwise", other["model_version"] == "2" and d.post(m + "/versions/2/infer", PROBE).json == other
              and other["outputs"] != d.post(m + "/labels/stable/infer", PROBE).json["outputs"], other)
        check("leading zeros are the same number", d.post(m + "/versions/002/infer", PROBE).json == other)

        # writes below a frozen version
        weights = d.get(m + "/weights").body
        refused = [("train_step", d.post, batch()), ("training", d.put, TRAINING), ("weights", d.put, weights),
                   ("weights/d1/bias", d.put, {"data": [0.0] * 16}), ("condense", d.post, {}), ("refresh", d.post, {})]
        for place in ("versions/1", "labels/stable"):
            for path, call, body in refused:
                answer = call(f"{m}/{place}/{path}", body)
                check(f"{place}/{path} is 409", answer.status == 409 and answer.code == "version_frozen", answer)
        check("PATCH of its layer too", d.call("PATCH", m + "/versions/1/layers/d1", {"k_coef_lip": 2.0}).code == "version_frozen")
        check("nothing has changed", photograph(m + "/versions/1") == then)
        step = d.post(m + "/versions/2/train_step", batch())
        check("below the head's number they act on the head", step.status == 200 and step.json["model_version"] == "2", step)

        # labels
        put = d.put(m + "/labels/canary", {"version": "2"})
        check("PUT of a label", put.status == 200 and put.json == {"label": "canary", "version": "2"}, put)
        check("GET of it, and of all", d.get(m + "/labels/canary").json == put.json
              and d.get(m + "/labels").json == {"labels": {"stable": "1", "canary": "2"}})
        same = d.put(m + "/labels/canary", {"version": "1"}, If_Match='"0"')
        check("If-Match guards it", same.status == 412 and d.get(m + "/labels/canary").json["version"] == "2", same)
        check("and lets pass", d.put(m + "/labels/canary", {"version": "1"}, If_Match=put.headers["ETag"]).json["version"] == "1")
        check("If-None-Match: * makes only new ones", d.put(m + "/labels/canary", {"version": "2"}, If_None_Match="*").status == 412)
        for name, answer, status, code in [
            ("a label of an unknown version", d.put(m + "/labels/x", {"version": "9"}), 404, "unknown_version"),
            ("a label of no number", d.put(m + "/labels/x", {"version": "one"}), 400, "bad_parameter"),
            ("an unknown label", d.get(m + "/labels/x"), 404, "not_found"),
            ("inference at it", d.post(m + "/labels/x/infer", PROBE), 404, "unknown_version"),
            ("deleting it", d.delete(m + "/labels/x"), 404, "not_found"),
            ("a bad label", d.put(m + "/labels/a%20b", {"version": "1"}), 400, "bad_name"),
            ("a bad label of a freeze", d.post(m + "/versions", {"labels": ["ok", "a b"]}), 400, "bad_name"),
            ("an unknown member", d.post(m + "/versions", {"label": "a"}), 400, "unknown_member"),
            ("an unknown version", d.post(m + "/versions/99/infer", PROBE), 404, "unknown_version"),
            ("version 0", d.get(m + "/versions/0"), 400, "bad_name"),
            ("deleting the head", d.delete(m + "/versions/2"), 409, "in_use"),
            ("deleting a labelled version", d.delete(m + "/versions/1"), 409, "in_use"),
            ("deleting an unknown version", d.delete(m + "/versions/7"), 404, "unknown_version"),
            ("freezing with a stale tag", d.post(m + "/versions", {}, If_Match='"00000000-2-1"'), 412, "precondition_failed"),
        ]:
            check(f"{name} is {status}", answer.status == status and answer.code == code, answer)
        check("Triton's words", d.post(m + "/versions/99/infer", PROBE).json["error"]
              == "Request for unknown model: 'm' version 99 is not found")

        # replacing
        again = d.get(m + "/definition").body
        check("the same definition may replace the head", d.put(m, again).status == 200 and d.get(m).json["head"] == "2"
              and photograph(m + "/versions/1") == then, d.get(m))
        wide = {**MLP, "config": {"k_coef_lip": 2.0, "layers": MLP["config"]["layers"]}}
        has = d.put(m, wide)
        check("another one is 409", has.status == 409 and has.code == "has_versions" and d.get(m).json["k_coef_lip"] == 1.0, has)

        # unpublished steps: the version has the head's weights
        d.put(m + "/training", {**TRAINING, "publish": "never"})
        d.post(m + "/train_step", batch(learning_rate=0.1))
        served = d.post(m + "/infer", PROBE).json["outputs"]
        second = d.post(m + "/versions", {}).json
        document = d.get(m).json
        check("a frozen version has the head's weights, served or not", second["version"] == "2"
              and second["weights_revision"] == document["state_revision"] > document["weights_revision"]
              and d.post(m + "/infer", PROBE).json["outputs"] == served
              and d.post(m + "/versions/2/infer", PROBE).json["outputs"] != served
              and d.get(m + "/versions/2/weights").body == d.get(m + "/weights").body, (second, document))
        stats = d.get(m + "/stats").json["model_stats"]
        check("each version counts for itself", [s["version"] for s in stats] == ["1", "2", "3"]
              and d.get(m + "/versions/1/stats").json["model_stats"] == stats[:1]
              and stats[0]["inference_stats"]["success"]["count"] > 0, stats)
        index = d.post("/v2/repository/index").json
        check("the index has every version", [(i["version"], i["state"]) for i in index] == [("1", "READY"), ("2", "READY"), ("3", "READY")], index)
        metrics = d.get("/metrics").body.decode()
        check("metrics, too", all(f'onelip_weights_revision{{model="m",version="{v}"}}' in metrics for v in (1, 2, 3)))

        # after kill -9
        whole = photograph(m + "/versions/2")
        before = d.get(m).json, d.get(m + "/versions").json, d.get(m + "/labels").json
        d.kill()
        d.start()
        after = d.get(m).json, d.get(m + "/versions").json, d.get(m + "/labels").json
        check("all is there after kill -9", after[1:] == before[1:] and after[0]["versions"] == ["1", "2", "3"], (before, after))
        check("and answers bit by bit as before", photograph(m + "/versions/1") == then and photograph(m + "/versions/2") == whole)

        # what a crash in the middle of a freeze leaves
        d.stop()
        folder = pathlib.Path(d.state, "models", "m", "versions")
        shutil.copytree(folder / "2", folder / "3")
        os.mkdir(folder / ".new.4")
        d.start()
        check("a version that was not acknowledged is gone", d.get(m).json["versions"] == ["1", "2", "3"] and not (folder / "3").exists()
              and d.post(m + "/versions", {}).json["version"] == "3", d.get(m))

        # a damaged version leaves the others alone
        d.stop()
        file = folder / "2" / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:100])
        d.start()
        bad = d.post(m + "/versions/2/infer", PROBE)
        check("a damaged version is unavailable", bad.status == 503 and bad.code == "unavailable"
              and d.get(m + "/versions/2/ready").status == 503 and d.get(m + "/versions").json["data"][2]["state"] == "UNAVAILABLE", bad)
        check("the others answer", photograph(m + "/versions/1") == then and d.post(m + "/infer", PROBE).status == 200)
        check("no label points at it", d.put(m + "/labels/broken", {"version": "2"}).status == 409)
        check("it can be deleted", d.delete(m + "/versions/2").status == 204 and d.get(m).json["versions"] == ["1", "3", "4"])
        d.delete(m + "/labels/stable"), d.delete(m + "/labels/canary")
        tag = d.get(m + "/versions/1").headers["ETag"]
        check("not under another tag", d.call("DELETE", m + "/versions/1", headers={"If-Match": '"00000000-1-1"'}).status == 412)
        check("one that had labels can, as GET gave it", d.call("DELETE", m + "/versions/1", headers={"If-Match": tag}).status == 204 and d.get(m + "/versions/1").status == 404)

        # freezing while others read and train
        trouble, stop = [], threading.Event()

        def read():
            while not stop.is_set():
                answer = d.post(m + "/infer", PROBE)
                if answer.status != 200 or f'-{answer.json["model_version"]}-' not in answer.headers["ETag"]:
                    trouble.append(str(answer))

        def train():
            while not stop.is_set():
                answer = d.post(m + "/train_step", batch(learning_rate=0.001))
                if answer.status != 200:
                    trouble.append(str(answer))

        d.put(m + "/training", TRAINING)
        threads = [threading.Thread(target=f) for f in (read, read, train)]
        for t in threads:
            t.start()
        versions = [d.post(m + "/versions", {}) for _ in range(10)]
        for v in versions[:-1]:
            if d.delete(f'{m}/versions/{v.json["version"]}').status != 204:
                trouble.append(str(v))
        stop.set()
        for t in threads:
            t.join()
        check("freezing goes on under load", not trouble and [int(v.json["version"]) for v in versions] == list(range(4, 14)), trouble[:3])


run(plan)
