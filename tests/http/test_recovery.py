"""What was acknowledged is there after kill -9 and after a drain; damaged files are never served."""

import glob
import os
import signal
import time

from daemon import TRAINING, Daemon, batch, run, tensor

PROBE = {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}


def plan(check):
    with Daemon("--checkpoint-seconds", "1") as d:
        m = d.create(training=TRAINING)
        for _ in range(5):
            d.post(m + "/train_step", batch(learning_rate=0.05))
        condensed = d.post(m + "/condense").json["state_revision"]
        answer = d.post(m + "/infer", PROBE).json
        d.kill()
        d.start()
        again = d.post(m + "/infer", PROBE).json
        check("an acknowledged condense survives kill -9", again == answer, f"{answer} {again}")
        check("with its revision and training", d.get(m).json["state_revision"] == condensed
              and d.get(m + "/training").json["state"]["step"] == 5, d.get(m))

        steps = [d.post(m + "/train_step", batch(learning_rate=0.05)).json["parameters"] for _ in range(50)]
        d.wait(lambda: d.get(m).json["checkpointed_revision"] >= steps[-1]["state_revision"], "checkpoint", 20)
        answer = d.post(m + "/infer", PROBE).json
        etag = d.call("HEAD", m).headers["ETag"]
        d.kill()
        d.start()
        check("a checkpoint survives kill -9", d.post(m + "/infer", PROBE).json == answer and d.call("HEAD", m).headers["ETag"] == etag)

        # in the middle of training: back to a checkpointed revision, under a new epoch if one was lost
        last = [d.post(m + "/train_step", batch(learning_rate=0.05)).json["parameters"] for _ in range(200)][-1]
        etag = d.call("HEAD", m).headers["ETag"]
        d.kill()
        d.start()
        back = d.get(m).json
        check("recovery is at a revision that was on disk", last["checkpointed_revision"] <= back["state_revision"] <= last["state_revision"], back)
        now = d.call("HEAD", m).headers["ETag"]
        check("no tag names two states", back["state_revision"] == last["state_revision"] or now[:9] != etag[:9], f"{etag} {now}")
        check("training goes on", d.post(m + "/train_step", batch()).status == 200)

        d.put(m + "/training", {**TRAINING, "durability": "sync"})
        sure = d.post(m + "/train_step", batch()).json["parameters"]
        d.kill()
        d.start()
        check("durability sync loses nothing", sure["checkpointed_revision"] == sure["state_revision"]
              and d.get(m).json["state_revision"] == sure["state_revision"], d.get(m))

        d.put(m + "/training", TRAINING)
        step = d.post(m + "/train_step", batch(learning_rate=0.05)).json["parameters"]
        answer = d.post(m + "/infer", PROBE).json
        check("a drain ends with 0", d.stop() == 0, d.said())
        d.start()
        check("and writes every step", d.get(m).json["state_revision"] == step["state_revision"]
              and d.post(m + "/infer", PROBE).json == answer, d.get(m))

        # damage
        d.create("other")
        d.create("short")
        d.stop()
        for name, damage in (("m", lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:]), ("short", lambda b: b[:-7])):
            for path in glob.glob(f"{d.state}/models/{name}/head/**/weights*.safetensors", recursive=True) or \
                    glob.glob(f"{d.state}/models/{name}/**/weights*.safetensors", recursive=True):
                data = open(path, "rb").read()
                open(path, "wb").write(damage(data))
        d.start()
        for name in ("m", "short"):
            document = d.get(f"/v2/models/{name}")
            served = d.post(f"/v2/models/{name}/infer", PROBE)
            check(f"{name}: a damaged model is unavailable", served.status == 503 and served.code == "unavailable"
                  and (document.status == 503 or document.json["state"] == "UNAVAILABLE"), f"{document}\n{served}")
        check("others are served", d.post("/v2/models/other/infer", PROBE).status == 200)
        check("PUT repairs it", d.put(m, d.get("/v2/models/other/definition").body).status == 200 and d.post(m + "/infer", PROBE).status == 200)
        check("DELETE removes it", d.delete("/v2/models/short").status == 204 and d.get("/v2/models/short").status == 404)
        d.kill()
        d.start()
        check("a deleted model stays deleted", sorted(d.get("/v2/models").json["models"]) == ["m", "other"])
        leftovers = [p for p in glob.glob(f"{d.state}/models/**/*", recursive=True) if ".tmp" in p or "short" in p]
        check("and leaves no file", not leftovers, leftovers)


run(plan)
