"""Triton's ModelConfig: at creation, by PATCH, over versions and restarts."""

import os
import pathlib

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

KNOBS = {"max_batch_size": "16", "dynamic_batching": {"preferred_batch_size": ["4", 8], "max_queue_delay_microseconds": "100",
         "default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 500000, "max_queue_size": 64}},
         "instance_group": [{"kind": "KIND_CPU", "count": 2}], "response_cache": {"enable": False},
         "parameters": {"cast_inputs": {"string_value": "true"}, "note": {"string_value": "kept"}}}
TOLD = {"max_batch_size": 16, "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 100,
        "default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 500000, "max_queue_size": 64}},
        "instance_group": KNOBS["instance_group"], "response_cache": {"enable": False}, "parameters": KNOBS["parameters"]}


def plan(check):
    with Daemon("--log-level", "error") as d:
        made = d.post("/v2/models", {"name": "m", "definition": MLP, "training": TRAINING, "config": KNOBS})
        m, c = "/v2/models/m", "/v2/models/m/config"
        check("a model is made with a configuration", made.status == 201, made)
        check("what onelipd does not act on earns a warning", [w["code"] for w in made.json["warnings"]] == ["config"]
              and "instance_group" in made.json["warnings"][0]["text"], made)
        shown = d.get(c)
        check("strings come back as integers", all(shown.json[k] == v for k, v in TOLD.items()), shown)
        check("with what the model says itself", shown.json["name"] == "m" and shown.json["input"][0]["dims"] == [4]
              and shown.json["output"][0] == {"name": "y", "data_type": "TYPE_FP32", "dims": [3]} and shown.json["backend"] == "onelip", shown)
        check("a batch beyond it is refused", d.post(m + "/infer", {"inputs": [tensor("x", [17, 4], [1] * 68)]}).code == "batch_too_large")

        # PATCH
        tag = shown.headers["ETag"]
        revision = d.get(m).json["state_revision"]
        patched = d.call("PATCH", c, {"dynamic_batching": {"default_queue_policy": {"max_queue_size": 7}}, "instance_group": None})
        want = {**TOLD, "dynamic_batching": {**TOLD["dynamic_batching"], "default_queue_policy": {
            **TOLD["dynamic_batching"]["default_queue_policy"], "max_queue_size": 7}}}
        del want["instance_group"]
        check("PATCH merges and answers the whole", patched.status == 200 and all(patched.json[k] == v for k, v in want.items())
              and "instance_group" not in patched.json and patched.json == d.get(c).json, patched)
        check("the warning is gone, the head unchanged", d.get(m).json["warnings"] == [] and d.get(m).json["state_revision"] == revision)
        stale = d.call("PATCH", c, {"max_batch_size": 3}, {"If-Match": tag})
        check("If-Match guards it", stale.status == 412 and stale.headers["ETag"] == d.get(c).headers["ETag"] != tag, stale)
        check("and it is in force at once", d.call("PATCH", c, {"max_batch_size": 20}, {"If-Match": stale.headers["ETag"]}).status == 200
              and d.post(m + "/infer", {"inputs": [tensor("x", [17, 4], [1] * 68)]}).status == 200)
        whole = d.get(c).json
        check("a whole configuration may come back", d.call("PATCH", c, whole).json == whole)
        for name, patch, status, code, pointer in [
            ("an unknown member", {"max_batch": 1}, 400, "unknown_member", "/max_batch"),
            ("an unknown one inside", {"dynamic_batching": {"delay": 1}}, 400, "unknown_member", "/dynamic_batching/delay"),
            ("a batch of nothing", {"max_batch_size": 0}, 400, "bad_parameter", "/max_batch_size"),
            ("no integer", {"max_batch_size": "1.5"}, 400, "bad_parameter", "/max_batch_size"),
            ("no integer inside", {"dynamic_batching": {"preferred_batch_size": [4, True]}}, 400, "bad_parameter", "/dynamic_batching/preferred_batch_size/1"),
            ("an unknown action", {"dynamic_batching": {"default_queue_policy": {"timeout_action": "WAIT"}}}, 400, "bad_parameter",
             "/dynamic_batching/default_queue_policy/timeout_action"),
            ("a response cache", {"response_cache": {"enable": True}}, 501, "unsupported", "/response_cache/enable"),
            ("no flag", {"parameters": {"cast_inputs": {"string_value": "yes"}}}, 400, "bad_parameter", "/parameters/cast_inputs"),
            ("a bare parameter", {"parameters": {"deterministic": True}}, 400, "bad_parameter", "/parameters/deterministic"),
            ("a budget of words", {"parameters": {"latency_budget_us": {"string_value": "much"}}}, 400, "bad_parameter", "/parameters/latency_budget_us"),
        ]:
            answer = d.call("PATCH", c, patch)
            check(f"{name} is {status}", answer.status == status and answer.code == code and answer.json["errors"][0]["pointer"] == pointer, answer)
            made = d.put("/v2/models/bad", {"definition": MLP, "config": patch})
            check(f"{name} at creation", made.status == status and made.code == code and made.json["errors"][0]["pointer"] == "/config" + pointer
                  and d.get("/v2/models/bad").status == 404, made)
        check("nothing has changed", d.get(c).json == whole)

        # A large document, in a coding: its tag is as good as the plain one.
        notes = {f"note{i}": {"string_value": "x" * 100} for i in range(200)}
        big = d.call("PATCH", c, {"parameters": notes}, {"Accept-Encoding": "gzip"})
        got = d.get(c, Accept_Encoding="gzip")
        head = d.call("HEAD", c, headers={"Accept-Encoding": "gzip"})
        tag, plain = got.headers["ETag"], d.get(c).headers["ETag"]
        check("a coded document has a tag of its own", got.headers["Content-Encoding"] == "gzip" and tag == plain[:-1] + '-gzip"'
              and [head.headers[h] for h in ("ETag", "Content-Length", "Content-Encoding")] == [tag, str(len(got.body)), "gzip"]
              and big.headers["ETag"] == tag, (got.headers, head.headers))
        same = d.get(c, Accept_Encoding="gzip", If_None_Match=tag)
        check("by which it is known again", same.status == 304 and same.headers["ETag"] == tag, same)
        check("a coding that there is not makes it another", d.get(c, If_None_Match=plain[:-1] + '-br"').status == 200)
        check("a weak tag is none to change by", d.call("PATCH", c, {}, {"If-Match": "W/" + tag}).code == "precondition_failed")
        check("and it may be changed by it", d.call("PATCH", c, {"parameters": dict.fromkeys(notes)}, {"If-Match": tag}).status == 200
              and d.get(c).json == whole, d.get(c))

        # require_if_match
        d.call("PATCH", c, {"parameters": {"require_if_match": {"string_value": "true"}}})
        for name, call in [("a step", lambda **h: d.post(m + "/train_step", batch(), **h)), ("condense", lambda **h: d.post(m + "/condense", **h)),
                           ("replacing", lambda **h: d.put(m, MLP, **h)), ("deleting", lambda **h: d.call("DELETE", m, headers={k.replace("_", "-"): v for k, v in h.items()}))]:
            refused = call()
            check(f"{name} without If-Match is 428", refused.status == 428 and refused.code == "precondition_required", refused)
            if name != "deleting":
                check(f"{name} with it", call(If_Match=d.call("HEAD", m).headers["ETag"]).status == 200)
        check("replacing kept the configuration", d.get(c).json["parameters"]["require_if_match"] == {"string_value": "true"})

        # versions, kill -9, damage
        d.post(m + "/versions", {}, If_Match=d.call("HEAD", m).headers["ETag"])
        check("a version has its model's configuration", d.get(m + "/versions/1/config").json == d.get(c).json)
        d.call("PATCH", c, {"max_batch_size": 2})
        check("also a later one", d.post(m + "/versions/1/infer", {"inputs": [tensor("x", [3, 4], [1] * 12)]}).code == "batch_too_large")
        check("below a version it is 409", d.call("PATCH", m + "/versions/1/config", {}).code == "version_frozen")
        before = d.get(c).json
        d.kill()
        d.start()
        check("it survives kill -9", d.get(c).json == before == d.get(m + "/versions/1/config").json, d.get(c))
        fresh = d.put(m, {"definition": MLP, "config": {"max_batch_size": 9}}, If_Match=d.call("HEAD", m).headers["ETag"])
        check("PUT with a configuration replaces it", fresh.status == 200 and d.get(c).json["max_batch_size"] == 9
              and d.get(c).json["parameters"] == {}, fresh)
        d.stop()
        pathlib.Path(d.state, "models", "m", "config.json").write_text("{")
        d.start()
        check("a torn one is not guessed at", d.get(m).json["state"] == "UNAVAILABLE" and "config.json" in d.get(m).json["reason"], d.get(m))
        check("PUT repairs it", d.put(m, {"definition": MLP, "config": {}}).status == 200 and os.path.getsize(f"{d.state}/models/m/config.json") < 4)


run(plan)
