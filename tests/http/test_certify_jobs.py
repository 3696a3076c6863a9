"""Certificates of a dataset: at once and as a job, which tells how far it is, pauses, goes on, survives a crash and a drain."""

import json
import os

from daemon import Daemon, run, tensor

ENDS = ("succeeded", "failed", "cancelled")
EPSILONS = [0.01, 0.1, 0.5]
N = 4000


def rows(n):
    return [([(7 * i % 11 - 5) / 5, (7 * i + 3) % 13 / 6 - 1, (5 * i + 6) % 17 / 8 - 1, (3 * i + 9) % 19 / 9 - 1], i % 3) for i in range(n)]


def csv(n):
    return "a,b,c,d,label\n" + "".join(",".join(map(repr, x)) + f",{y}\n" for x, y in rows(n))


def outputs(answer):
    return {o["name"]: o["data"] for o in answer["outputs"]}


def same(ours, theirs):
    """The same certificate of the same samples. Alone and beside others a product's last bits differ, and with them where an
    attack ends: it only has to end beyond the radius."""
    a, b = outputs(ours), outputs(theirs)
    close = all(abs(x - y) <= 1e-9 * abs(y) for k in ("margin", "radius") for x, y in zip(a[k], b[k]))
    beyond = all(x == "Infinity" or x >= r for x, r in zip(a["attack_radius"], a["radius"]))
    return (close and beyond and all(len(a[k]) == len(b[k]) for k in b) and (a["label"], a["method"]) == (b["label"], b["method"])
            and ours["parameters"] == theirs["parameters"]
            and ours["certificate"]["provable_accuracy"] == theirs["certificate"]["provable_accuracy"])


def plan(check):
    with Daemon("--threads", "1", "--log-level", "error", "--max-body-bytes", "250000") as d:
        def make(**members):
            return d.post("/v2/jobs", {"type": "certify", "model": "m", "dataset": "big", "epsilons": EPSILONS, **members})

        def state(job):
            return d.get(f"/v2/jobs/{job}").json

        def wait(job, *states):
            d.wait(lambda: state(job)["status"] in (states or ENDS), f"end of {job}: {state(job)}")
            return state(job)

        m = d.create("m")
        d.put("/v2/datasets/toy?label=label", csv(50))
        d.put("/v2/datasets/big?label=label", csv(N))
        d.put("/v2/datasets/bare", "\n".join(line.rsplit(",", 1)[0] for line in csv(10).split("\n") if line))

        # at once: what the same samples in the body get
        x, y = zip(*rows(50))
        inputs = [tensor("x", [50, 4], sum(x, [])), tensor("y_true", [50], list(y), "INT64")]
        wanted = d.post(m + "/certify", {"inputs": inputs, "epsilons": EPSILONS, "parameters": {"curve": True}}).json
        plain = d.post(m + "/certify", {"dataset": "toy", "batch_size": 7, "epsilons": EPSILONS, "parameters": {"curve": True}})
        check("a dataset gets the certificate of its samples", plain.status == 200 and plain.json["certificate"] == wanted["certificate"]
              and plain.json["parameters"] == {"weights_revision": 1, "samples": 50} and plain.headers["ETag"].endswith('-1-1"'), plain)
        check("and the outputs of each, but answers and points", outputs(plain.json) == {k: v for k, v in outputs(wanted).items() if k != "y"},
              plain)
        named = d.post(m + "/certify", {"dataset": "toy", "parameters": {"attack": True}, "outputs": [
            {"name": "y"}, {"name": "attack"}, {"name": "radius", "parameters": {"binary_data": True}}]})
        head = json.loads(named.body[:int(named.headers["Inference-Header-Content-Length"])])
        check("unless they are named", [(o["name"], o["shape"]) for o in head["outputs"]] == [("y", [50, 3]), ("radius", [50]), ("attack", [50, 4])]
              and head["outputs"][0]["data"] == outputs(wanted)["y"], named)
        large = d.post(m + "/certify", {"dataset": "big", "outputs": [{"name": "y"}]})
        check("no more than a body may have", large.status == 413 and large.code == "too_large", large)
        bare = d.post(m + "/certify", {"dataset": "bare"})
        check("without labels the prediction counts as true", bare.status == 200 and min(outputs(bare.json)["margin"]) > 0, bare)

        # as a job
        made = d.post("/v2/jobs", {"type": "certify", "model": "m", "dataset": "toy", "batch_size": 7, "epsilons": EPSILONS,
                                   "parameters": {"curve": True}, "metadata": {"owner": "ci"}})
        job = made.json["id"]
        check("a job is made", made.status == 202 and made.json["type"] == "certify" and made.json["progress"]["total_steps"] == 8, made)
        document = wait(job)
        check("it says how far it came and what holds", document["status"] == "succeeded" and document["progress"]["step"] == 8
              and document["weights_revision"] == 1 and document["metrics"] == {
                  "mean_radius": document["metrics"]["mean_radius"], "accuracy": sum(a == b for a, b in zip(outputs(wanted)["label"], y)) / 50,
                  **{f"provable_accuracy_{e}": p for e, p in zip(EPSILONS, wanted["certificate"]["provable_accuracy"])}}, document)
        result = d.get(document["result"])
        check("its result is the plain answer", result.json == plain.json and result.headers["ETag"] == plain.headers["ETag"], result)
        told = [e for e in d.get(f"/v2/jobs/{job}/events").json["data"] if e["type"] == "metrics"]
        check("its events have the same figures", told[-1]["step"] == 8 and told[-1]["metrics"] == document["metrics"], told)
        later = d.post(m + "/certify", {"dataset": "toy"}, Prefer="respond-async")
        check("Prefer: respond-async", later.status == 202 and wait(later.json["id"])["status"] == "succeeded"
              and d.get(f"/v2/jobs/{later.json['id']}/result").json["parameters"]["samples"] == 50, later)

        # what is wrong is said at once
        d.put("/v2/datasets/wide?label=label", "a,label\n1,0\n2,1\n")
        d.put("/v2/datasets/many?label=label", csv(70).rsplit("\n", 2)[0] + "\n1,2,3,4,3\n")
        before = d.get("/v2/jobs").json
        d.create("free", {"class_name": "Sequential", "config": {"layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
            {"class_name": "Dense", "config": {"units": 3, "name": "y"}}, {"class_name": "Activation", "config": {"activation": "exponential"}}]}})
        for name, body, status, code, pointer in [
            ("no dataset", {"dataset": None}, 400, "bad_parameter", "/dataset"), ("an unknown dataset", {"dataset": "x"}, 404, "unknown_dataset", "/dataset"),
            ("an unknown model", {"model": "x"}, 404, "unknown_model", "/model"), ("a model without a bound", {"model": "free"}, 422, "no_bound", None),
            ("rows of another size", {"dataset": "wide"}, 400, "shape_mismatch", "/dataset"), ("classes beyond the output", {"dataset": "many"}, 422, "bad_labels", "/dataset"),
            ("no batch", {"batch_size": 0}, 400, "bad_parameter", "/batch_size"), ("a misspelt member", {"epsilon": 1}, 400, "unknown_member", "/epsilon"),
            ("a misspelt parameter", {"parameters": {"atack": True}}, 400, "unknown_member", "/parameters/atack"),
            ("a negative epsilon", {"epsilons": [-1]}, 400, "bad_parameter", "/epsilons/0"),
            ("an unknown output", {"outputs": [{"name": "attack_radius"}]}, 400, "unknown_output", "/outputs/0/name"),
        ]:
            answer = make(**body)
            check(f"{name}: {status} {code}", answer.status == status and answer.code == code
                  and answer.json.get("errors", [{}])[0].get("pointer") == pointer, answer)
        check("and makes no job", d.get("/v2/jobs").json == before)
        for name, body, code, pointer in [("samples and a dataset", {"dataset": "toy", "inputs": inputs}, "bad_request", "/dataset"),
                                          ("a batch size of a body's samples", {"inputs": inputs, "batch_size": 3}, "bad_parameter", "/batch_size"),
                                          ("neither", {"epsilons": []}, "bad_request", "")]:
            answer = d.post(m + "/certify", body)
            check(f"{name}: {code}", answer.code == code and answer.json["errors"][0]["pointer"] == pointer, answer)

        # paused, it goes on where it was, with the weights that it began with
        whole = d.post(m + "/certify", {"dataset": "big", "epsilons": EPSILONS, "parameters": {"attack": True}}).json
        slow = {"batch_size": 4, "parameters": {"attack": True}}
        long = make(**slow).json["id"]
        d.wait(lambda: state(long)["progress"]["step"] > 2, "some steps")
        check("while it runs its dataset is in use", d.delete("/v2/datasets/big").code == "in_use")
        asked = d.post(f"/v2/jobs/{long}/pause")
        paused = wait(long, "paused")
        check("pause", asked.status == 200 and paused["status"] == "paused" and 2 < paused["progress"]["step"] < N // 4, paused)
        d.put(m + "/weights/d1/bias", tensor("d1/bias", [16], [1] * 16))
        d.post(f"/v2/jobs/{long}/resume")
        done = wait(long)
        result = d.get(f"/v2/jobs/{long}/result").json
        check("resume", done["status"] == "succeeded" and done["progress"]["step"] == N // 4 and done["weights_revision"] == 1, done)
        check("it is as if it had not been paused", same(result, whole) and d.get(m).json["weights_revision"] == 2)
        long = make(**slow).json["id"]
        d.wait(lambda: state(long)["progress"]["step"] > 2, "some steps")
        d.post(f"/v2/jobs/{long}/cancel")
        check("cancel", wait(long)["status"] == "cancelled" and state(long)["progress"]["step"] < N // 4
              and d.get(f"/v2/jobs/{long}/result").status == 404, state(long))

        if os.environ.get("WITH_SQLITE") == "0":
            return  # without a history jobs end with the daemon: test_jobs.py

        # after a crash or a drain it begins again
        crashed, never = make(**slow).json["id"], make(resume="never", **slow).json["id"]
        d.wait(lambda: min(state(j)["progress"]["step"] for j in (crashed, never)) > 2, "some steps")
        d.process.kill()
        d.process.wait()
        d.start()
        check("a crash: not those that never resume", wait(never)["error"]["code"] == "interrupted", state(never))
        d.wait(lambda: state(crashed)["progress"]["step"] > 2, "some steps")
        check("a drain in the middle", d.stop() == 0, d.said())
        d.start()
        done = wait(crashed)
        fresh = d.post(m + "/certify", {"dataset": "big", "epsilons": EPSILONS, "parameters": {"attack": True}}).json
        check("the others begin again", done["status"] == "succeeded" and same(d.get(f"/v2/jobs/{crashed}/result").json, fresh), done)


run(plan)
