"""Jobs: training over datasets, control, events, repeated requests, what a crash leaves."""

import http.client
import json
import os
import pathlib
import resource
import shutil
import socket
import struct
import threading
import time

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

CSV = "a,b,c,d,label\n" + "".join(
    f"{(7 * i % 11 - 5) / 5},{(7 * i + 3) % 11 / 5 - 1},{(7 * i + 6) % 11 / 5 - 1},{(7 * i + 9) % 11 / 5 - 1},{i % 3}\n" for i in range(50))
ENDS = ("succeeded", "failed", "cancelled")
KEPT = os.environ.get("WITH_SQLITE") != "0"  # else jobs and keys last until the daemon stops


def events(d, path, headers=None, seconds=60):
    """Every event of a stream until it ends: (id, event, data)."""
    connection = http.client.HTTPConnection(d.host, d.port, timeout=seconds)
    connection.request("GET", path, headers={"Accept": "text/event-stream", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "event" in fields:
            found.append((int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])))
    return answer, found


def callbacks(check):
    """What the training resource's callbacks do at the end of an epoch."""
    with Daemon("--threads", "1") as d:
        d.put("/v2/datasets/toy?label=label", CSV)
        stopping = {"class_name": "EarlyStopping", "config": {"monitor": "loss", "min_delta": 1000, "patience": 2,
                                                              "restore_best_weights": True}}
        m = d.create("m", training={**TRAINING, "telemetry_every": 5, "callbacks": [
            "CondenseCallback", stopping, {"class_name": "ModelCheckpoint", "config": {"monitor": "loss", "save_best_only": True}},
            {"class_name": "LossParamScheduler", "config": {"param_name": "alpha", "xp": [0, 10], "fp": [0.0, 10.0]}},
            {"class_name": "LossParamLog", "config": {"param_name": "alpha"}},
            {"class_name": "MonitorCallback", "config": {"monitored_layers": ["d1"], "what": "all"}}]})
        made = d.post("/v2/jobs", {"type": "train", "model": "m", "dataset": "toy", "epochs": 20, "batch_size": 10,
                                   "checkpoint_every": "never"})
        job = made.json["id"]
        _, stream = events(d, f"/v2/jobs/{job}/events")
        epochs = [data for _, e, data in stream if e == "epoch"]
        check("EarlyStopping ends a run that stands still", [e["epoch"] for e in epochs] == [1, 2, 3]
              and d.get(f"/v2/jobs/{job}/result").json["parameters"]["stopped_early"] is True, (made, epochs))
        check("LossParamLog tells the parameter", [e["logged"][0]["value"] for e in epochs] == [4, 9, 10], epochs)
        check("MonitorCallback the singular values", len(epochs[0]["telemetry"]["sigmas"]["d1_kernel_sigmas"]) == 4, epochs[0])
        told = [data for _, e, data in stream if e == "metrics" and "telemetry" in data]
        check("steps have their telemetry", [t["step"] for t in told] == [5, 10, 15] and told[0]["telemetry"]["upper"] > 0.9, told)
        kept = {c["name"] for c in d.get(m + "/checkpoints").json["data"]}
        check("the best weights and ModelCheckpoint's are kept", f"{job}-best" in kept and f"{job}-c1" in kept, kept)
        restored = d.get(m + "/weights").body
        d.post(m + f"/checkpoints/{job}-best/restore")
        check("and the run ended with the best", d.get(m + "/weights").body == restored)
        d.put(m + "/training", {**TRAINING, "optimizer": {"class_name": "SGD", "config": {"use_ema": True}}, "metrics": [
            {"class_name": "CategoricalProvableAvgRobustness", "config": {"name": "radius"}}]})
        before = d.get(m).json["state_revision"]
        job = d.post("/v2/jobs", {"type": "train", "model": "m", "dataset": "toy", "epochs": 1, "batch_size": 10,
                                  "checkpoint_every": "never"}).json["id"]
        _, stream = events(d, f"/v2/jobs/{job}/events")
        check("proven constants go with every step", stream[-2][2]["status"] == "succeeded"
              and [data for _, e, data in stream if e == "epoch"][0]["metrics"]["radius"] >= 0, stream)
        check("and a run with moving averages ends with them", d.get(m).json["state_revision"] == before + 6)


def plan(check):
    callbacks(check)
    with Daemon("--threads", "1", "--checkpoint-seconds", "0.3", "--log-level", "error") as d:
        def make(**members):
            return d.post("/v2/jobs", {"type": "train", "model": "m", "dataset": "toy", **members})

        def state(job):
            return d.get(f"/v2/jobs/{job}").json

        def wait(job, *states, seconds=60):
            d.wait(lambda: state(job)["status"] in (states or ENDS), f"end of {job}", seconds)
            return state(job)

        m = d.create("m", training=TRAINING)
        d.put("/v2/datasets/toy?label=label", CSV)
        check("there are none", d.get("/v2/jobs").json["data"] == [])

        # one job from beginning to end
        made = make(epochs=3, batch_size=8, seed=1, validation_split=0.2, metadata={"owner": "ci"}, training={"publish": "epoch"})
        job = made.json["id"]
        check("a job is made", made.status == 202 and made.headers["Location"] == f"/v2/jobs/{job}" and made.json["status"] in ("queued", "running")
              and made.json["progress"] == {"step": 0, "total_steps": 15, "epoch": 0, "epochs": 3} and made.json["metadata"] == {"owner": "ci"}
              and made.json["result"] is None and made.json["error"] is None, made)
        answer, stream = events(d, f"/v2/jobs/{job}/events")
        kinds = [e for _, e, _ in stream]
        check("its stream ends with it", answer.headers["Content-Type"] == "text/event-stream" and answer.headers["Cache-Control"] == "no-store"
              and kinds[0] == "status" and kinds[-1] == "end" and kinds.count("epoch") == 3 and "metrics" in kinds and "checkpoint" in kinds
              and stream[-2][2] == {"type": "status", "status": "succeeded", "weights_revision": stream[-2][2]["weights_revision"]}, stream)
        check("ids go up by one", [i for i, _, _ in stream] == list(range(1, len(stream) + 1)), stream)
        epoch = [data for _, e, data in stream if e == "epoch"][-1]
        check("an epoch has its means and those of validation", {"loss", "accuracy", "val_loss", "val_accuracy"} == epoch["metrics"].keys()
              and epoch["epoch"] == 3 and epoch["step"] == 15, epoch)
        done = state(job)
        check("the document says how it ended", done["status"] == "succeeded" and done["progress"]["step"] == 15 and done["progress"]["epoch"] == 3
              and done["metrics"] == epoch["metrics"] and done["finished_at"] >= done["started_at"] >= done["created_at"]
              and done["weights_revision"] == d.get(m).json["weights_revision"] and done["result"] == f"/v2/jobs/{job}/result", done)
        result = d.get(done["result"])
        check("its result", result.status == 200 and result.json["parameters"]["steps"] == 15 and result.json["metrics"] == epoch["metrics"], result)
        check("the patch was for this job only", d.get(m + "/training").json["publish"] == "step")
        after = stream[3][0]
        check("a stream goes on where it was left", [i for i, _, _ in events(d, f"/v2/jobs/{job}/events", {"Last-Event-ID": str(after)})[1]]
              == list(range(after + 1, len(stream) + 1)))
        check("after the end it is 204", events(d, f"/v2/jobs/{job}/events", {"Last-Event-ID": str(stream[-1][0])})[0].status == 204)
        page = d.get(f"/v2/jobs/{job}/events?limit=4").json
        rest = d.get(page["next"]).json
        check("the same in pages", [e["id"] for e in page["data"]] == [1, 2, 3, 4] and page["has_more"]
              and {**stream[4][2], "id": 5} == rest["data"][0], (page, rest))
        kept = d.get(m + "/checkpoints").json["data"]
        check("a checkpoint after each epoch", [c["name"] for c in kept] == [f"{job}-e{e}" for e in (3, 2, 1)] and kept[0]["job"] == job, kept)

        # evaluation
        plain = d.post(m + "/evaluate", {"dataset": "toy", "batch_size": 7})
        check("evaluate a dataset", plain.status == 200 and plain.json["parameters"]["samples"] == 50 and "accuracy" in plain.json["metrics"], plain)
        evaluated = d.post("/v2/jobs", {"type": "evaluate", "model": "m", "dataset": "toy", "batch_size": 7})
        check("and as a job", evaluated.status == 202 and wait(evaluated.json["id"])["status"] == "succeeded"
              and d.get(f"/v2/jobs/{evaluated.json['id']}/result").json == plain.json, evaluated)
        later = d.post(m + "/evaluate", batch(12), Prefer="respond-async, wait=5")
        now = d.post(m + "/evaluate", batch(12))
        check("Prefer: respond-async", later.status == 202 and later.headers["Preference-Applied"] == "respond-async"
              and later.json["type"] == "evaluate" and wait(later.json["id"])["status"] == "succeeded", later)
        result = d.get(f"/v2/jobs/{later.json['id']}/result")
        check("its result is the plain answer", result.json == now.json and result.headers["ETag"] == now.headers["ETag"], (result, now))
        later = d.get(m + "/lipschitz?layers=false", Prefer="respond-async")
        wait(later.json["id"])
        check("a report, too", later.json["type"] == "lipschitz" and d.get(f"/v2/jobs/{later.json['id']}/result").json["model_name"] == "m", later)
        for name, path, body, code in (("a body without inputs", "/evaluate", batch(2) | {"inputs": []}, "missing_input"),
                                       ("labels that are none", "/evaluate", {"inputs": [batch(2)["inputs"][0], tensor("y_true", [2], [0, 99], "INT64")]}, "bad_labels"),
                                       ("an unknown norm", "/certify", {**batch(2), "parameters": {"norm": "l3"}}, "bad_parameter"),
                                       ("a sample too few", "/wasserstein", {**batch(2), "parameters": {"index": 0}}, "unknown_input"),
                                       ("a member nobody knows", "/tighten", {"x": 1}, "unknown_member")):
            plain, asked = d.post(m + path, body), d.post(m + path, body, Prefer="respond-async")
            check(f"Prefer: respond-async: {name} is said at once", plain.code == asked.code == code and plain.status == asked.status
                  and plain.json["error"] == asked.json["error"], f"{plain}\n{asked}")
        for path, code in (("/lipschitz?method=best", "bad_parameter"), ("/export?format=png", "not_acceptable")):
            asked = d.get(m + path, Prefer="respond-async")
            check(f"of {path}, too", asked.code == code, asked)
        known = d.get(m + "/lipschitz?layers=false").headers["ETag"]
        check("what is known already is 304", d.get(m + "/lipschitz?layers=false", Prefer="respond-async", If_None_Match=known).status == 304)
        check("nothing is 202 unasked", d.post(m + "/train_step", batch(), Prefer="respond-async").status == 200)

        # what is wrong with a request is said at once
        before = d.get("/v2/jobs").json
        d.put("/v2/datasets/wide?label=label", "a,label\n1,0\n2,1\n")
        d.put("/v2/datasets/many?label=label", "a,b,c,d,label\n1,2,3,4,3\n")
        d.put("/v2/datasets/bare", "a,b,c,d\n1,2,3,4\n")
        d.create("fresh")
        for name, body, status, code, pointer in [
            ("no type", {"model": "m"}, 400, "bad_parameter", "/type"), ("an unknown type", {"type": "paint", "model": "m"}, 400, "bad_parameter", "/type"),
            ("no model", {"type": "train"}, 400, "bad_parameter", "/model"), ("an unknown model", {"model": "x"}, 404, "unknown_model", "/model"),
            ("no dataset", {"dataset": None}, 400, "bad_parameter", "/dataset"), ("an unknown dataset", {"dataset": "x"}, 404, "unknown_dataset", "/dataset"),
            ("an unknown validation", {"validation_dataset": "x"}, 404, "unknown_dataset", "/validation_dataset"),
            ("rows of another size", {"dataset": "wide"}, 400, "shape_mismatch", "/dataset"),
            ("classes beyond the output", {"dataset": "many"}, 422, "bad_labels", "/dataset"), ("no labels", {"dataset": "bare"}, 400, "missing_input", "/dataset"),
            ("no training", {"model": "fresh"}, 409, "training_not_configured", "/model"),
            ("a bad patch", {"training": {"loss": "nonsense"}}, 422, "unknown_option", "/training/loss"),
            ("a misspelt member", {"epoch": 3}, 400, "unknown_member", "/epoch"), ("no epochs", {"epochs": 0}, 400, "bad_parameter", "/epochs"),
            ("half a batch", {"batch_size": 1.5}, 400, "bad_parameter", "/batch_size"), ("a split of all", {"validation_split": 1}, 400, "bad_parameter", "/validation_split"),
            ("a split that leaves nothing", {"validation_split": 0.999}, 400, "bad_parameter", "/validation_split"),
            ("a start behind the end", {"epochs": 2, "initial_epoch": 2}, 400, "bad_parameter", "/initial_epoch"),
            ("checkpoints at times", {"checkpoint_every": "week"}, 400, "bad_parameter", "/checkpoint_every"),
            ("a resume that is none", {"resume": "maybe"}, 400, "bad_parameter", "/resume"), ("metadata that is none", {"metadata": 3}, 400, "bad_parameter", "/metadata"),
        ]:
            whole = {"type": "train", "model": "m", "dataset": "toy", **body} if name not in ("no type", "no model") else body
            answer = d.post("/v2/jobs", whole)
            check(f"{name}: {status} {code}", answer.status == status and answer.code == code
                  and answer.json.get("errors", [{}])[0].get("pointer") == pointer, answer)
        check("and makes no job", d.get("/v2/jobs").json == before)
        for name, answer in [("an unknown job", d.get("/v2/jobs/job_0")), ("its events", d.get("/v2/jobs/job_0/events")),
                             ("cancelling it", d.post("/v2/jobs/job_0/cancel"))]:
            check(f"{name}: 404", answer.status == 404 and answer.code == "unknown_job", answer)

        # control
        long = make(epochs=100000, batch_size=8, seed=2, checkpoint_every="never").json["id"]
        wait(long, "running")
        d.wait(lambda: state(long)["progress"]["step"] > 20, "some steps")
        for name, answer in [("train_step", d.post(m + "/train_step", batch())), ("training", d.put(m + "/training", TRAINING)),
                             ("condense", d.post(m + "/condense")), ("replacing", d.put(m, MLP))]:
            check(f"while it runs {name} is 409", answer.status == 409 and answer.code == "job_running", answer)
        check("deleting the model is 409", d.delete(m).code == "in_use" and d.delete("/v2/datasets/toy").code == "in_use"
              and d.put("/v2/datasets/toy", CSV).code == "in_use")
        check("reading goes on", d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}).status == 200
              and d.get(m + "/training").status == 200 and d.delete(f"/v2/jobs/{long}").code == "in_use")
        second = make(epochs=1, batch_size=8)
        check("another job of the model waits", second.status == 202 and state(second.json["id"])["status"] == "queued")
        d.post(f"/v2/jobs/{long}/pause")
        check("a pause lets it through", wait(long, "paused")["status"] == "paused" and wait(second.json["id"])["status"] == "succeeded")
        step = state(long)["progress"]["step"]
        check("and other writes", d.post(m + "/train_step", batch()).status == 200)
        check("pausing again changes nothing", d.post(f"/v2/jobs/{long}/pause").json["status"] == "paused")
        d.post(f"/v2/jobs/{long}/resume")
        d.wait(lambda: state(long)["progress"]["step"] > step, "the resumed job")
        cancelled = d.post(f"/v2/jobs/{long}/cancel")
        check("cancel", cancelled.status == 200 and cancelled.json["status"] in ("cancelling", "cancelled") and wait(long)["status"] == "cancelled", cancelled)
        check("again it changes nothing", d.post(f"/v2/jobs/{long}/cancel").json["status"] == "cancelled")
        check("pausing a finished one is 409", d.post(f"/v2/jobs/{long}/pause").code == "job_finished"
              and d.post(f"/v2/jobs/{long}/resume").code == "job_finished")
        check("a finished one is forgotten", d.delete(f"/v2/jobs/{long}").status == 204 and d.get(f"/v2/jobs/{long}").code == "unknown_job")
        listed = [j["id"] for j in d.get("/v2/jobs?limit=2").json["data"]]
        check("the newest comes first", listed[0] == second.json["id"] and listed == sorted(listed, reverse=True), listed)
        check("and is found by what it is", [j["id"] for j in d.get("/v2/jobs?type=train&model=m&status=succeeded").json["data"]] == [second.json["id"], job])
        other = d.create("other", training=TRAINING)
        d.post("/v2/jobs", {"type": "train", "model": "other", "dataset": "toy", "epochs": 100000})
        gone = d.delete(other + "?force=true")
        check("force cancels the job and deletes the model", gone.status == 204 and d.get(other).status == 404, gone)

        # the server's own events
        types = {e["type"] for e in d.get("/v2/events?limit=1000").json["data"]}
        check("events of the server", {"job", "status", "epoch", "metrics"} <= types, types)
        chosen = d.get("/v2/events?limit=1000&types=epoch,end&model=m").json["data"]
        check("are selected", chosen and all(e["type"] == "epoch" and e["job"] for e in chosen), chosen)

        # repeated requests
        once = {"Idempotency-Key": "k1"}
        first = d.call("POST", m + "/train_step", batch(), once)
        again = d.call("POST", m + "/train_step", batch(), once)
        check("a key runs a step once", first.status == again.status == 200 and first.body == again.body and first.headers["ETag"] == again.headers["ETag"]
              and again.headers["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in first.headers, (first, again))
        check("another body is 422", d.call("POST", m + "/train_step", batch(4), once).code == "idempotency_mismatch")
        check("another path is another key", d.call("POST", m + "/evaluate", batch(), once).status == 200)
        wrong = [d.call("POST", m + "/train_step", {"inputs": []}, {"Idempotency-Key": "k2"}) for _ in range(2)]
        check("a refusal is kept, too", [a.code for a in wrong] == ["missing_input"] * 2 and wrong[1].headers["Idempotency-Replayed"] == "true", wrong[1])
        made = [d.call("POST", "/v2/jobs", {"type": "train", "model": "m", "dataset": "toy"}, {"Idempotency-Key": "k3"}) for _ in range(2)]
        check("a job is made once", made[0].json["id"] == made[1].json["id"], made)
        wait(made[0].json["id"])
        body = json.dumps(batch()).encode()
        with socket.create_connection((d.host, d.port)) as s:  # the first is under way as long as its body is
            s.sendall(b"POST /v2/models/m/evaluate HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k4\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            answer = s.recv(100)
        check("an empty key is refused", d.call("POST", m + "/evaluate", batch(), {"Idempotency-Key": ""}).code == "bad_request" and b"200" in answer)

        # over a restart
        d.wait(lambda: not {"queued", "running", "cancelling"} & {job["status"] for job in d.get("/v2/jobs?limit=1000").json["data"]}, "the end of all jobs")
        kept = d.get("/v2/jobs").json
        check("a drain", d.stop() == 0, d.said())
        d.start()
        check("/v2/config says whether there is a history", d.get("/v2/config").json["history_kept"] is KEPT)
        check("there is, or not", d.get("/v2/jobs").json == kept if KEPT else d.get("/v2/jobs").json["data"] == [], d.get("/v2/jobs"))
        again = d.call("POST", m + "/train_step", batch(), once)
        check("the kept answer, too", (again.body == first.body and again.headers["ETag"] == first.headers["ETag"]) == KEPT
              and again.headers["Idempotency-Replayed"] == ("true" if KEPT else None), again)
        if KEPT:
            check("streams of finished jobs end", events(d, f"/v2/jobs/{job}/events")[1][-1][1] == "end")

        # a full disk
        before = d.get("/v2/jobs").json
        long = make(epochs=100000, batch_size=8, seed=3).json["id"]
        d.wait(lambda: state(long)["progress"]["epoch"] > 1, "some epochs")
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        d.wait(lambda: state(long)["status"] == "failed", "the failure")
        check("a full disk fails the job with a name", state(long)["error"]["code"] == "disk_full", state(long))
        refused = make() if KEPT else None  # what is kept nowhere needs no disk
        check("and no job is made", not KEPT or refused.status == 507 and refused.code == "disk_full", refused)
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        check("the model is as good as before", d.post(m + "/train_step", batch()).status == 200 and d.get(m).json["state"] == "READY")
        check("and drains", d.stop() == 0, d.said())

    crash(check) if KEPT else forgotten(check)


def forgotten(check):
    """Without a history a job ends with the daemon, and leaves the model as it was trained so far, and trained as before."""
    for crash in (True, False):
        with Daemon("--threads", "1", "--checkpoint-seconds", "0.1", "--log-level", "error") as d:
            d.put("/v2/datasets/toy?label=label", CSV)
            m = d.create(training=TRAINING)
            job = d.post("/v2/jobs", {"type": "train", "model": "m", "dataset": "toy", "epochs": 100000, "batch_size": 8,
                                      "training": {"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.002}}}}).json["id"]
            d.wait(lambda: d.get(m).json["checkpointed_revision"] > 40, "some steps")
            least = d.get(m).json["checkpointed_revision"]
            d.kill() if crash else check("a drain in the middle", d.stop() == 0, d.said())
            d.start()
            check("the job is forgotten", d.get(f"/v2/jobs/{job}").code == "unknown_job" and d.get("/v2/jobs").json["data"] == [])
            d.wait(lambda: d.get(m + "/training").json["optimizer"]["config"]["learning_rate"] == 0.001, "the training resource of before")
            a = d.post(m + "/train_step", batch())
            check("its steps are not, and the model is free", a.status == 200 and a.json["parameters"]["step"] > 30 and a.json["parameters"]["state_revision"] > least, a)


def crash(check):
    """Killed at any moment, a job ends with the weights of an undisturbed run."""
    with Daemon("--threads", "1", "--checkpoint-seconds", "0.1", "--log-level", "error") as d:
        d.put("/v2/datasets/toy?label=label", CSV)
        weights, results = [], []
        for name, kills in (("calm", 0), ("killed", 4), ("stopped", 0)):
            m = d.create(name, training=TRAINING)
            job = d.post("/v2/jobs", {"type": "train", "model": name, "dataset": "toy", "epochs": 150, "batch_size": 8, "seed": 7,
                                      "validation_split": 0.1, "checkpoint_every": 50, "keep_checkpoints": 2,
                                      "training": {"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.002}}, "publish": "epoch"}}).json["id"]

            def step():
                return d.get(f"/v2/jobs/{job}").json["progress"]["step"]

            for i in range(kills):
                at = step()
                d.wait(lambda: step() > at + 40 or d.get(f"/v2/jobs/{job}").json["status"] in ENDS, "some steps")
                d.process.kill()
                d.process.wait()
                d.start()
            if name == "stopped":
                d.wait(lambda: step() > 40, "some steps")
                check("a drain in the middle", d.stop() == 0, d.said())
                d.start()
            d.wait(lambda: d.get(f"/v2/jobs/{job}").json["status"] in ENDS, "the end", 120)
            document = d.get(f"/v2/jobs/{job}").json
            check(f"the {name} job succeeds", document["status"] == "succeeded" and document["progress"]["step"] == 150 * 6, document)
            weights.append(d.get(m + "/weights").body)
            results.append(document["metrics"])
            check(f"{name}: two checkpoints are kept", [c["name"] for c in d.get(m + "/checkpoints").json["data"]] == [f"{job}-e150", f"{job}-e100"])
            check(f"{name}: training is as it was before", d.get(m + "/training").json["optimizer"]["config"]["learning_rate"] == 0.001)
        check("killed or not, the weights are the same, bit for bit", weights[0] == weights[1] == weights[2])
        check("and so are the figures", results[0] == results[1] == results[2], results)

        # callbacks change the head at the end of an epoch: epochs of one step, so that a kill comes between their saves
        weights, results = [], []
        for name, kills in (("calm2", 0), ("killed2", 7)):
            m = d.create(name, training={**TRAINING, "optimizer": {"class_name": "Adam", "config": {"use_ema": True}}, "callbacks": [
                "CondenseCallback", {"class_name": "ModelCheckpoint", "config": {"monitor": "loss", "save_best_only": True}},
                {"class_name": "EarlyStopping", "config": {"monitor": "loss", "min_delta": 1000, "patience": 80, "restore_best_weights": True}},
                {"class_name": "LossParamScheduler", "config": {"param_name": "alpha", "xp": [0, 120], "fp": [1.0, 10.0]}}]})
            job = d.post("/v2/jobs", {"type": "train", "model": name, "dataset": "toy", "epochs": 120, "batch_size": 50, "seed": 7,
                                      "checkpoint_every": "never"}).json["id"]
            for i in range(kills):
                d.wait(lambda: d.get(f"/v2/jobs/{job}").json["progress"]["step"] >= 10 * (i + 1) or
                       d.get(f"/v2/jobs/{job}").json["status"] in ENDS, "some steps")
                d.process.kill()
                d.process.wait()
                d.start()
            d.wait(lambda: d.get(f"/v2/jobs/{job}").json["status"] in ENDS, "the end", 120)
            weights.append(d.get(m + "/weights").body)
            results.append({**d.get(f"/v2/jobs/{job}/result").json, "model_name": ""})
        for result in results:  # the last answers before a kill may have made a revision that the next start makes again
            del result["parameters"]["state_revision"], result["parameters"]["weights_revision"]
        check("callbacks were called once for each epoch, too", weights[0] == weights[1] and results[0] == results[1]
              and results[0]["parameters"]["stopped_early"], results)

        # never resumed; a dataset that is gone; a checkpoint that was cut off
        jobs = {}
        for name, more in (("never", {"resume": "never"}), ("nodata", {"dataset": "gone"}), ("torn", {})):
            d.put("/v2/datasets/gone?label=label", CSV) if name == "nodata" else None
            m = d.create(name, training=TRAINING)
            jobs[name] = d.post("/v2/jobs", {"type": "train", "model": name, "dataset": "toy", "epochs": 100000, "batch_size": 8, **more}).json["id"]
            d.wait(lambda: d.get(f"/v2/jobs/{jobs[name]}").json["progress"]["step"] > 10 or name == "torn", "some steps")
        d.process.kill()
        d.process.wait()
        os.unlink(f"{d.state}/datasets/gone.safetensors")
        head = pathlib.Path(d.state, "models/torn/head")
        part = next(head.glob("weights.*.safetensors"))
        part.write_bytes(part.read_bytes()[:-100])
        d.start()
        for name, code in (("never", "interrupted"), ("nodata", "unknown_dataset"), ("torn", "unavailable")):
            d.wait(lambda: d.get(f"/v2/jobs/{jobs[name]}").json["status"] in ENDS, f"the end of {name}")
            document = d.get(f"/v2/jobs/{jobs[name]}").json
            check(f"{name}: the job fails as {code}", document["status"] == "failed" and document["error"]["code"] == code, document)
        check("the others' models are free and serve", d.post("/v2/models/never/train_step", batch()).status == 200
              and d.post("/v2/models/nodata/train_step", batch()).status == 200)

        # a dataset that is cut off under a job that reads it
        d.put("/v2/datasets/short?label=label", CSV)
        m = d.create("short", training=TRAINING)
        job = d.post("/v2/jobs", {"type": "train", "model": "short", "dataset": "short", "epochs": 100000, "batch_size": 8}).json["id"]
        d.wait(lambda: d.get(f"/v2/jobs/{job}").json["progress"]["step"] > 10, "some steps")
        os.truncate(f"{d.state}/datasets/short.safetensors", os.path.getsize(f"{d.state}/datasets/short.safetensors") - 100)
        d.wait(lambda: d.get(f"/v2/jobs/{job}").json["status"] in ENDS, "the end of that")
        document = d.get(f"/v2/jobs/{job}").json
        check("a dataset that is cut off fails its job with a name", document["status"] == "failed" and document["error"]["code"] == "bad_file", document)
        check("and the model is as good as before", d.post(m + "/train_step", batch()).status == 200 and d.get(m).json["state"] == "READY")

        # an answer whose step was lost is not given again
        m = d.create("lossy", training=TRAINING)
        d.stop()
        d.options = ("--threads", "1", "--checkpoint-seconds", "600", "--log-level", "error")
        d.start()
        first = d.call("POST", m + "/train_step", batch(), {"Idempotency-Key": "lost"})
        d.kill()
        d.start()
        again = d.call("POST", m + "/train_step", batch(), {"Idempotency-Key": "lost"})
        check("a step that a crash took back is taken again under its key", first.status == again.status == 200
              and "Idempotency-Replayed" not in again.headers and again.json["metrics"] == first.json["metrics"], (first, again))


run(plan)
