"""Queues of inference: batches of what has come, delays, priorities, deadlines, bounds, revisions that are waited for."""

import json
import socket
import threading
import time

from daemon import Daemon, TRAINING, batch, run, tensor

# Wide enough that one sample takes a moment: the queue has something to hold.
WIDE = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 1500, "name": "a"}},
    {"class_name": "Dense", "config": {"units": 1500, "name": "b"}},
    {"class_name": "Dense", "config": {"units": 3, "name": "y"}}]}}


def at_once(d, n, call):
    """call(k) in n threads that begin together; the answers in order."""
    answers, barrier = [None] * n, threading.Barrier(n)

    def one(k):
        barrier.wait()
        answers[k] = call(k)

    threads = [threading.Thread(target=one, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def body(k=0, n=1, **parameters):
    x = [((5 * i + k) % 13 - 6) / 6 for i in range(4 * n)]
    return json.dumps({"inputs": [tensor("x", [n, 4], x)], "parameters": parameters})


def stats(d, m):
    return d.get(m + "/stats").json["model_stats"][0]


def close(a, b):
    # The product of a row alone and in a batch differs in its last bits.
    return len(a) == len(b) and all(abs(x - y) <= 1e-5 * max(1, abs(x)) for x, y in zip(a, b))


def plan(check):
    with Daemon() as d:
        m = d.create("m", training=TRAINING)
        alone = [d.post(m + "/infer", body(k)).json["outputs"][0]["data"] for k in range(48)]
        before = stats(d, m)
        answers = [a for _ in range(6) for a in at_once(d, 48, lambda k: d.post(m + "/infer", body(k)))]
        check("many at a time are answered", all(a.status == 200 for a in answers))
        check("each with its own", all(close(a.json["outputs"][0]["data"], alone[i % 48]) for i, a in enumerate(answers)))
        s = stats(d, m)
        counted = sum(b["batch_size"] * b["compute_infer"]["count"] for b in s["batch_stats"])
        check("every request is one inference", s["inference_count"] - before["inference_count"] == 6 * 48 == counted - 48, s)
        check("executions are those of the batches", s["execution_count"] == sum(b["compute_infer"]["count"] for b in s["batch_stats"])
              and s["execution_count"] <= s["inference_count"] and s["inference_stats"]["success"]["count"] == 7 * 48, s)
        metrics = d.get("/metrics").body.decode()
        check("metrics say the same", f'nv_inference_exec_count{{model="m",version="1"}} {s["execution_count"]}\n' in metrics
              and 'nv_inference_pending_request_count{model="m",version="1"} 0\n' in metrics
              and f'onelip_batch_size_sum{{model="m",version="1"}} {s["inference_count"]}\n' in metrics, metrics)

        # A revision that is not there yet is waited for, up to the deadline.
        r = d.get(m).json["weights_revision"]
        late = d.post(m + "/infer", body(0, min_revision=r + 1, timeout=30000))
        check("min_revision ends with the deadline", late.status == 504 and late.code == "deadline_exceeded", late)
        got = []
        waiting = threading.Thread(target=lambda: got.append(d.post(m + "/infer", body(0, min_revision=r + 1))))
        waiting.start()
        time.sleep(0.1)
        early = list(got)
        step = d.post(m + "/train_step", batch())
        waiting.join()
        check("or with the step that publishes it", not early and step.status == 200 and got[0].status == 200
              and got[0].json["parameters"]["weights_revision"] == step.json["parameters"]["weights_revision"] > r, got[0])
        check("one that is there already is not waited for", d.post(m + "/infer", body(0, min_revision=r)).status == 200)
        expired = d.post(m + "/infer", body(0, timeout=1))
        check("a timeout of a microsecond is over", expired.status == 504, expired)
        s = stats(d, m)
        check("failures are counted", s["inference_stats"]["fail"]["count"] == 2, s)
        check("and said to be refused", 'nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 2\n'
              in d.get("/metrics").body.decode())
        for name, value in (("priority", -1), ("timeout", "5"), ("min_revision", 1.5), ("triton_x", 1)):
            a = d.post(m + "/infer", body(0, **{name: value}))
            check(f"{name} = {value!r} is 400", a.status == 400 and a.code == "bad_parameter"
                  and a.json["errors"][0]["pointer"] == f"/parameters/{name}", a)

    with Daemon("--threads", "2") as d:
        m = d.create("w", WIDE)
        # Larger than what an HTTP thread does itself; more than may wait.
        answers = at_once(d, 100, lambda k: d.post(m + "/infer", body(k, 64)))
        check("large ones are queued for workers", all(a.status == 200 for a in answers), {a.status for a in answers})
        # A client that goes away while its request waits; nobody is harmed.
        text = body(0, 64).encode()
        head = (f"POST {m}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n").encode()
        for _ in range(20):
            with socket.create_connection((d.host, d.port)) as s:
                s.sendall(head + text)
        answers = at_once(d, 20, lambda k: d.post(m + "/infer", body(k, 8)))
        check("others' going away does no harm", all(a.status == 200 for a in answers))
        check("the daemon ends in peace with work under way", d.stop() == 0, d.said())


run(plan)
