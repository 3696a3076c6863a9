"""The state directory: full, torn, killed at any moment."""

import glob
import json
import os
import pathlib
import random
import resource
import shutil
import threading

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

PROBE = {"inputs": [tensor("x", [1, 4], [1, -2, 3, 0.5])]}


def full(daemon, limit):
    """No file may grow beyond this many bytes: what a full disk does to a write."""
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def plan(check):
    with Daemon("--checkpoint-seconds", "600", "--log-level", "error") as d:
        m = d.create(training=TRAINING)

        def photograph():
            return d.get(m).headers["ETag"], d.get(m + "/weights").body, d.get(m + "/training").body, d.post(m + "/infer", PROBE).body

        def files():
            return sorted(p for p in glob.glob(f"{d.state}/models/**", recursive=True) if os.path.isfile(p))

        # a full disk
        d.put(m + "/training", {**TRAINING, "durability": "sync"})
        d.post(m + "/train_step", batch())
        before, on_disk = photograph(), files()
        weights = d.get(m + "/weights").body
        full(d, 100)
        for name, call in [
            ("creating", lambda: d.put("/v2/models/new", MLP)), ("replacing", lambda: d.put(m, MLP)),
            ("condense", lambda: d.post(m + "/condense")), ("refresh", lambda: d.post(m + "/refresh")),
            ("weights", lambda: d.put(m + "/weights", weights)), ("training", lambda: d.put(m + "/training", TRAINING)),
            ("freezing", lambda: d.post(m + "/versions", {"labels": ["a"]})), ("a checkpoint", lambda: d.post(m + "/checkpoints")),
            ("a synchronous step", lambda: d.post(m + "/train_step", batch())),
        ]:
            answer = call()
            check(f"{name} on a full disk is 507", answer.status == 507 and answer.code == "disk_full", answer)
            check(f"{name}: what was served is served", photograph() == before, "")
        check("no file was left behind", files() == on_disk and not os.path.exists(f"{d.state}/models/new"), files())
        check("the new model is not there", d.get("/v2/models/new").status == 404)
        full(d, resource.RLIM_INFINITY)
        step = d.post(m + "/train_step", batch())
        check("with room again a step is on disk", step.status == 200
              and step.json["parameters"]["checkpointed_revision"] == step.json["parameters"]["state_revision"], step)
        after = photograph()
        d.kill()
        d.start()
        check("and survives", photograph() == after)

        # steps that only memory holds: a crash is known to have lost them
        d.put(m + "/training", TRAINING)
        saved = d.call("HEAD", m).headers["ETag"]
        refused = d.post(m + "/train_step", {**batch(), "parameters": {"learning_rate": -1}})
        d.kill()
        d.start()
        check("a refused step loses nothing", refused.status == 400 and d.call("HEAD", m).headers["ETag"] == saved, refused)
        for _ in range(3):
            d.post(m + "/train_step", batch())
        d.kill()
        d.start()
        now = d.call("HEAD", m).headers["ETag"]
        check("a lost step changes the epoch", now[:9] != saved[:9] and now[9:] == saved[9:], (saved, now))
        d.kill()
        d.start()
        check("once", d.call("HEAD", m).headers["ETag"] == now)

        # publish never: what was served before the crash is served after the drain
        d.put(m + "/training", {**TRAINING, "publish": "never"})
        served = d.post(m + "/infer", PROBE).json
        for _ in range(4):
            d.post(m + "/train_step", batch(learning_rate=0.1))
        head = d.get(m + "/weights").body
        document = d.get(m).json
        check("unpublished steps are counted", d.get(m + "/training").json["state"]["unpublished_steps"] == 4
              and document["weights_revision"] < document["state_revision"], document)
        d.stop()
        d.start()
        check("published weights and head come back apart", d.post(m + "/infer", PROBE).json == served
              and d.get(m + "/weights").body == head and d.get(m + "/training").json["state"]["unpublished_steps"] == 4
              and d.get(m).json["weights_revision"] == document["weights_revision"], d.get(m))

        # every file of a model, torn in every way
        d.post(m + "/condense")
        d.stop()
        whole = f"{d.folder}/whole"
        shutil.copytree(f"{d.state}/models/m", whole)
        names = [os.path.relpath(p, whole) for p in glob.glob(f"{whole}/**", recursive=True) if os.path.isfile(p)]
        check("the folder is what the design says", {n.split(".")[0] for n in names} == {
            "definition", "head/weights", "head/optimizer", "head/training", "head/state"}, names)
        cases = []
        for name in names:
            for kind, damage in (("cut", lambda b: b[:len(b) // 2]), ("empty", lambda b: b""), ("gone", None),
                                 ("flipped", lambda b: b[:len(b) // 2] + bytes([b[len(b) // 2] ^ 64]) + b[len(b) // 2 + 1:])):
                copy = f"t{len(cases)}"
                shutil.copytree(whole, f"{d.state}/models/{copy}")
                path = pathlib.Path(d.state, "models", copy, name)
                if damage:
                    path.write_bytes(damage(path.read_bytes()))
                else:
                    path.unlink()
                cases.append((copy, f"{name} {kind}"))
        os.mkdir(f"{d.state}/models/hollow")
        cases.append(("hollow", "an empty folder"))
        pathlib.Path(d.state, "models", "a-file").write_text("x")
        os.mkdir(f"{d.state}/models/.new.half")
        d.start()
        check("the whole model and its name are fine", d.post(m + "/infer", PROBE).status == 200
              and d.get("/v2/health/ready").status == 200)
        bad = []
        for copy, what in cases:
            path = f"/v2/models/{copy}"
            document, infer, ready = d.get(path), d.post(path + "/infer", PROBE), d.get(path + "/ready")
            if what.startswith("head/state.json flipped") and document.json.get("state") == "READY":
                continue  # a bit of the description or of a date may flip and leave a state that holds together
            if not (document.status == 200 and document.json["state"] == "UNAVAILABLE" and document.json["reason"]
                    and infer.status == 503 and infer.code == "unavailable" and "Retry-After" not in infer.headers
                    and ready.status == 503 and d.post(path + "/train_step", batch()).code == "unavailable"
                    and d.get(path + "/weights").code == "unavailable"):
                bad.append(f"{what}: {document} {infer}")
        check(f"{len(cases)} damaged models are unavailable and say why", not bad, "\n".join(bad))
        for copy, what in cases[::2]:
            put = d.put(f"/v2/models/{copy}", {"definition": MLP, "training": TRAINING})
            if put.status != 200 or d.post(f"/v2/models/{copy}/train_step", batch()).status != 200:
                bad.append(f"PUT {what}: {put}")
        for copy, what in cases[1::2]:
            gone = d.delete(f"/v2/models/{copy}")
            if gone.status != 204 or os.path.exists(f"{d.state}/models/{copy}"):
                bad.append(f"DELETE {what}: {gone}")
        check("PUT repairs and DELETE removes them", not bad, "\n".join(bad))
        check("interrupted work is swept away", not os.path.exists(f"{d.state}/models/.new.half"))
        check("a drain", d.stop() == 0, d.said())
        d.start()
        left = [c for c, _ in cases[::2] if d.get(f"/v2/models/{c}").json["state"] != "READY"]
        check("the repaired ones come back", not left, left)

    # killed at any moment, while everything is being changed
    with Daemon("--checkpoint-seconds", "0.1", "--log-level", "error") as d:
        rng = random.Random(1)
        trouble = []
        for turn in range(8):
            m = d.create("m", training={**TRAINING, "durability": rng.choice(["sync", "checkpoint"])}) if turn == 0 else "/v2/models/m"
            known = {}
            stop = threading.Event()

            def train():
                while not stop.is_set():
                    try:
                        answer = d.post(m + "/train_step", batch(learning_rate=0.01))
                    except (OSError, Exception):
                        return
                    if answer.status == 200:
                        known["step"] = (answer.headers["ETag"], answer.json["parameters"]["checkpointed_revision"])

            def change():
                while not stop.is_set():
                    try:
                        choice = rng.random()
                        if choice < 0.3:
                            answer = d.post(m + "/condense")
                        elif choice < 0.5:
                            answer = d.put(m, {"definition": MLP, "training": TRAINING})
                        elif choice < 0.8:
                            answer = d.put(m + "/training", {**TRAINING, "durability": rng.choice(["sync", "checkpoint"])})
                        else:
                            answer = d.put("/v2/models/n", MLP) if rng.random() < 0.5 else d.delete("/v2/models/n")
                            continue
                    except (OSError, Exception):
                        return
                    if answer.status == 200:
                        known["change"] = answer.headers["ETag"]

            threads = [threading.Thread(target=train), threading.Thread(target=train), threading.Thread(target=change)]
            for t in threads:
                t.start()
            stop.wait(0.15 + rng.random() / 3)
            d.process.kill()
            d.process.wait()
            stop.set()
            for t in threads:
                t.join()
            d.start()
            document = d.get(m).json
            if document["state"] != "READY" or d.post(m + "/infer", PROBE).status != 200:
                trouble.append(f"turn {turn}: {document}")
                continue
            epoch, revision = document["epoch"], document["state_revision"]
            for tag in (known.get("change"), known.get("step", (None,))[0]):
                if tag and tag[1:9] == epoch and int(tag.strip('"').split("-")[2]) > revision:
                    trouble.append(f"turn {turn}: {tag} was given out, now {epoch} {revision}")
            if known.get("change"):
                acknowledged = int(known["change"].strip('"').split("-")[2])
                if revision < acknowledged:
                    trouble.append(f"turn {turn}: change {acknowledged} is lost, now {revision}")
        check("eight kills in the middle of changes lose nothing that was acknowledged", not trouble, "\n".join(trouble))
        check("and the last state drains", d.stop() == 0 and json.loads(pathlib.Path(
            d.state, "models/m/head/state.json").read_text())["format"] == 1, d.said())


run(plan)
