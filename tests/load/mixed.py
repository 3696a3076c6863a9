"""Everything at once: infer, train, condense, replace, delete, unload, load, jobs, event streams, reports, statistics, clients that
leave. For make check a moment; `mixed.py SECONDS` for longer, and under the thread sanitizer (CONTRIBUTING.md). Every answer must
be one that can happen, and memory, descriptors and threads are as many at the end as after the first third."""

import json
import os
import pathlib
import random
import re
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "http"))
from daemon import MLP, TRAINING, Daemon, batch, run, tensor  # noqa: E402

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
MODELS = ("a", "b", "c")
# What may become of a request when its model is replaced or deleted meanwhile, or the queue is full.
POSSIBLE = {200, 201, 202, 204, 404, 409, 412, 429, 503}
HEADER_SECONDS = 10  # http.c waits so long for a request's headers
HAPPENS = {"infer", "train", "create", "delete", "condense", "read", "weights", "unload", "job"}  # and succeeds at least once


class Worker(threading.Thread):
    """Does one of its actions after the other: for SECONDS, and on a busy machine until all has happened, within a minute more."""

    happened = set()

    def __init__(self, d, seed, actions):
        super().__init__()
        self.d, self.random, self.actions = d, random.Random(seed), actions
        self.statuses, self.strange, self.error, self.late = {}, [], None, 0

    def run(self):
        end = time.monotonic() + SECONDS
        try:
            while time.monotonic() < end or (not self.happened >= HAPPENS and time.monotonic() < end + 60):
                action, begun = self.random.choice(self.actions), time.monotonic()
                try:
                    answer = action(self.d, "/v2/models/" + self.random.choice(MODELS), self.random)
                except ConnectionError as error:
                    if time.monotonic() - begun < HEADER_SECONDS:
                        raise RuntimeError(action.__name__) from error
                    self.late += 1  # on a starved machine: connected, and no processor to ask with before the deadline
                    continue
                if answer is None:
                    continue
                key = (action.__name__, answer.status)
                self.statuses[key] = self.statuses.get(key, 0) + 1
                if answer.status < 300:
                    self.happened.add(action.__name__)
                if answer.status not in POSSIBLE:
                    self.strange.append((action.__name__, str(answer)[:300]))
        except Exception as error:  # shown by the check
            self.error = f"{error!r} {error.__cause__!r}"


def infer(d, m, rnd):
    n = rnd.choice((1, 1, 1, 3, 40, 2000))
    x = [rnd.uniform(-1, 1) for _ in range(4 * n)]
    answer = d.post(m + "/infer", {"inputs": [tensor("x", [n, 4], x)], "parameters": {"priority": rnd.choice((0, 1))}})
    if answer.status == 200:
        assert len(answer.json["outputs"][0]["data"]) == 3 * n
    return answer


def wait_for_revision(d, m, rnd):
    answer = d.post(m + "/infer", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])],
                                   "parameters": {"min_revision": rnd.randrange(1, 60), "timeout": 200000}})
    return None if answer.status == 504 else answer


def leave(d, m, rnd):
    with socket.create_connection((d.host, d.port)) as s:
        body = json.dumps({"inputs": [tensor("x", [500, 4], [0.5] * 2000)]})
        s.sendall(f"POST {m}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()[:rnd.randrange(10, 6000)])


def train(d, m, rnd):
    return d.post(m + "/train_step", batch(rnd.choice((6, 12))))


def evaluate(d, m, rnd):
    return d.post(m + "/evaluate", batch(6))


def create(d, m, rnd):
    return d.put(m, {"definition": MLP, "seed": rnd.randrange(100), "training": TRAINING})


def delete(d, m, rnd):
    return d.delete(m + rnd.choice(("", "?force=true")))


def condense(d, m, rnd):
    return d.post(m + "/condense")


def read(d, m, rnd):
    return d.get(rnd.choice((m, m + "/stats", m + "/weights", m + "/layers", m + "/training", "/metrics", "/v2/models",
                             "/v2/models/stats", m + "/lipschitz", m + "/definition")))


def weights(d, m, rnd):
    got = d.get(m + "/weights")
    return d.put(m + "/weights", got.body) if got.status == 200 else got


def unload(d, m, rnd):
    name = m.rsplit("/", 1)[1]
    answer = d.post(f"/v2/repository/models/{name}/unload")
    if answer.status == 200:
        answer = d.post(f"/v2/repository/models/{name}/load")
    return None if answer.status == 400 else answer  # Triton's word for a model that was deleted


def job(d, m, rnd):
    made = d.post("/v2/jobs", {"type": rnd.choice(("train", "evaluate")), "model": m.rsplit("/", 1)[1], "dataset": "toy"})
    if made.status == 202 and rnd.random() < 0.3:
        d.post(f"/v2/jobs/{made.json['id']}/cancel")
    time.sleep(0.2)  # a model with jobs cannot be deleted
    return made


def follow(d, m, rnd):
    """A stream that is read for a moment and then left."""
    with socket.create_connection((d.host, d.port), timeout=10) as s:
        s.sendall(b"GET /v2/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        if not s.recv(100).startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")):
            raise RuntimeError("no stream")
        time.sleep(rnd.uniform(0, 0.3))


def figures(d):
    """Allocated KiB (with a sanitizer: 0), open descriptors, threads."""
    status = pathlib.Path(f"/proc/{d.process.pid}/status").read_text()
    return (d.metric("onelip_heap_bytes") // 1024, len(os.listdir(f"/proc/{d.process.pid}/fd")),
            int(re.search(r"Threads:\s+(\d+)", status)[1]))


def settled(d):
    """Figures once those that left are noticed."""
    best = figures(d)
    for _ in range(40):
        if best[1] < 64:
            break
        time.sleep(0.1)
        best = min(best, figures(d), key=lambda f: f[1])
    return best


def ends(check, d):
    check("it ends in peace", d.stop() == 0, d.said())
    check("and has nothing to complain of", "WARNING: ThreadSanitizer" not in d.said() and "ERROR:" not in d.said(), d.said()[-3000:])


def polled(check):
    """--model-dir under the mode poll: files are exchanged, come and go while their models answer."""
    ask = {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}
    files, outputs, wrong, answered = [], [], [], [0]
    with Daemon() as d:
        for seed in (1, 2):
            create(d, "/v2/models/a", random.Random(seed))
            files.append(d.get("/v2/models/a/weights").body)
            outputs.append(d.post("/v2/models/a/infer", ask).json["outputs"][0]["data"])
    with tempfile.TemporaryDirectory() as folder:
        models, over = pathlib.Path(folder, "models"), threading.Event()

        def put(name, content):
            pathlib.Path(folder, "next").write_bytes(content)
            (models / name).mkdir(parents=True, exist_ok=True)
            os.replace(f"{folder}/next", models / name / "model.safetensors")

        def asks(name, possible):
            while not over.is_set():
                a = d.post(f"/v2/models/{name}/infer", ask)
                if a.status not in possible or a.status == 200 and not any(near(a.json["outputs"][0]["data"], y) for y in outputs):
                    wrong.append(str(a))
                answered[0] += a.status == 200

        put("a", files[0])
        with Daemon("--model-dir", str(models), "--model-control-mode", "poll", "--poll-seconds", "0.05", "--threads", "2") as d:
            threads = [threading.Thread(target=asks, args=("a", {200})) for _ in range(3)]
            threads += [threading.Thread(target=asks, args=("b", {200, 404, 503})), threading.Thread(target=asks, args=("b", {200, 404, 503}))]
            for t in threads:
                t.start()
            end, seen = time.monotonic() + SECONDS / 2, set()
            for i in range(1, 1000000):
                put("a", files[i % 2])
                put("b", files[i % 2])
                time.sleep(0.1)
                if i % 3 == 0:
                    (models / "b" / "model.safetensors").unlink()
                    (models / "b").rmdir()
                seen.add(tuple(d.post("/v2/models/a/infer", ask).json["outputs"][0]["data"]))
                if time.monotonic() > end and len(seen) > 1:
                    break
                if time.monotonic() > end + 60:
                    break
            over.set()
            for t in threads:
                t.join()
            check("polled: the model answers by one file or the other, always", not wrong and answered[0] > 20, (answered, wrong[:3]))
            check("polled: and by both", len(seen) > 1, seen)
            ends(check, d)


def near(a, b):
    return all(abs(x - y) <= 1e-5 * max(1, abs(y)) for x, y in zip(a, b))


def plan(check):
    with Daemon("--threads", "2", "--checkpoint-seconds", "0.2") as d:
        d.put("/v2/datasets/toy?label=label", "a,b,c,d,label\n" + "1,2,3,4,0\n4,3,2,1,1\n0,1,0,1,2\n" * 20)
        for m in MODELS:
            create(d, "/v2/models/" + m, random.Random(1))
        actions = [[infer]] * 4 + [[infer, wait_for_revision, leave], [train, train, evaluate, condense], [train, create],
                                   [create, delete, weights, read], [read], [job], [follow],
                                   [unload, read]]
        workers = [Worker(d, k, a) for k, a in enumerate(actions)]
        for w in workers:
            w.start()
        time.sleep(SECONDS / 3)
        begun = figures(d)
        for w in workers:
            w.join()
        ended = settled(d)
        print(f"# after a third {begun}, at the end {ended}: KiB allocated, descriptors, threads")
        # Histories and pools fill for minutes; a leak of a request or a model would be more than this in an hour.
        check("memory has not grown much", ended[0] < 1.25 * begun[0] + 8192, (begun, ended))
        check("no descriptor and no thread is left over", ended[1] <= max(begun[1], 64) and ended[2] <= begun[2] + 2, (begun, ended))
        total = {}
        for w in workers:
            for key, n in w.statuses.items():
                total[key] = total.get(key, 0) + n
        check("the daemon lives", d.alive, d.said())
        check("every answer is a possible one", not any(w.strange for w in workers), [w.strange[:2] for w in workers if w.strange])
        late, slow = sum(w.late for w in workers), d.metric('onelip_rejected_total{reason="slow"}')
        check("who was too late to ask was counted as slow", late <= slow, (late, slow))
        check("nobody else was cut off", not any(w.error for w in workers), [w.error for w in workers if w.error])
        check("all of it happened", Worker.happened >= HAPPENS, total)
        ends(check, d)
    polled(check)


run(plan)
