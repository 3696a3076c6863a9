"""Stable codes of failures: none without a test, and here those that take some arranging: full queues, too many streams, no
memory, no file descriptors, models that still load."""

import http.client
import json
import pathlib
import re
import resource
import socket
import subprocess
import threading

from daemon import MLP, ONELIPD, SOURCE, Daemon, run, tensor

ONE = {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}
STREAMS = 256  # at once, says the wire contract


def all_tested(check):
    codes = re.findall(r'^PROBLEM\((\w+), "([0-9 ]+)"', pathlib.Path(SOURCE, "server/errors.def").read_text(), re.M)
    tests = "".join(p.read_text() for p in sorted(pathlib.Path(SOURCE, "tests/http").glob("test_*.py")))
    without = [code for code, _ in codes if not re.search(rf"\b{code}\b", tests)]
    check("no code is without a test", len(codes) > 60 and not without, without)


def told(check, name, answer, status, code, *headers):
    check(name, answer.status == status and answer.code == code and answer.json["status"] == status and answer.json["error"]
          and answer.json["type"] == f"/v2/problems/{code}" and all(answer.headers[h] for h in headers), answer)


def queues(check, d):
    m = d.create("m")
    d.call("PATCH", m + "/config", {"dynamic_batching": {"max_queue_delay_microseconds": 2000000, "preferred_batch_size": [64],
                                                         "default_queue_policy": {"max_queue_size": 1}}})
    first = []
    waiting = threading.Thread(target=lambda: first.append(d.post(m + "/infer", ONE, Idempotency_Key="k")))
    waiting.start()
    d.wait(lambda: b'nv_inference_pending_request_count{model="m",version="1"} 1\n' in d.get("/metrics").body, "a request that waits")
    full = d.post(m + "/infer", ONE)
    told(check, "a queue has an end", full, 429, "queue_full", "Retry-After")
    check("in Triton's words", full.json["error"] == "Exceeds maximum queue size", full)
    told(check, "the key of a request that still runs", d.post(m + "/infer", ONE, Idempotency_Key="k"), 409, "idempotency_in_flight")
    told(check, "a full queue is no answer to keep", d.post(m + "/infer", ONE, Idempotency_Key="other"), 429, "queue_full")
    waiting.join()
    check("that key's request is run when there is room", "Idempotency-Replayed" not in d.post(m + "/infer", ONE, Idempotency_Key="other").headers)
    again = d.post(m + "/infer", ONE, Idempotency_Key="k")
    told(check, "another request under it", d.post(m + "/infer", {**ONE, "id": "2"}, Idempotency_Key="k"), 422, "idempotency_mismatch")
    check("the first one is answered, once", first[0].status == again.status == 200 and again.body == first[0].body
          and again.headers["Idempotency-Replayed"] == "true", (first[0], again))


def formats(check, d):
    for path in ("weights", "weights/d1/kernel", "export"):
        a = d.get(f"/v2/models/m/{path}?format=png")
        told(check, f"{path} is no picture", a, 406, "not_acceptable")
        check("what there is is listed", isinstance(a.json.get("formats"), list) and a.json["formats"], a)


def streams(check, d):
    opened = []
    try:
        for i in range(STREAMS + 1):  # of addresses that have not too many each
            s = socket.create_connection((d.host, d.port), timeout=30, source_address=(f"127.0.0.{2 + i // 100}", 0))
            s.sendall(b"GET /v2/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            opened.append(s)
            if i < STREAMS:
                s.recv(12)
        with opened[-1].makefile("rb") as file:
            head = file.readline() + b"".join(iter(file.readline, b"\r\n"))
        check("a stream too many", head.startswith(b"HTTP/1.1 429") and b"Retry-After" in head, head)
        told(check, "and another one", d.get("/v2/events", Accept="text/event-stream"), 429, "rate_limited", "Retry-After")
        check("others are served", d.post("/v2/models/m/infer", ONE).status == 200)
    finally:
        for s in opened:
            s.close()


def size_of(d):
    return int(re.search(r"VmSize:\s+(\d+)", pathlib.Path(f"/proc/{d.process.pid}/status").read_text())[1]) * 1024


def memory(check, d):
    if size_of(d) > 1 << 42:  # the address sanitizer has it all, and ends the process instead
        return
    wide = d.create("wide", {"class_name": "Sequential", "config": {"layers": [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 1], "name": "x"}},
        {"class_name": "Dense", "config": {"units": 8192, "name": "y"}}]}})
    d.post(wide + "/infer", {"inputs": [tensor("x", [1, 1], [1])]})
    resource.prlimit(d.process.pid, resource.RLIMIT_AS, (size_of(d) + (256 << 20), resource.RLIM_INFINITY))
    many = {"inputs": [tensor("x", [60000, 1], [1] * 60000)], "parameters": {"binary_data_output": True}}  # 2 GB of outputs
    told(check, "no memory for an answer", d.post(wide + "/infer", many), 503, "out_of_memory", "Retry-After")
    check("smaller ones are answered", d.post(wide + "/infer", {"inputs": [tensor("x", [1, 1], [1])]}).status == 200)
    resource.prlimit(d.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def descriptors(check, d):
    connection = http.client.HTTPConnection(d.host, d.port, timeout=60)

    def put(name):
        connection.request("PUT", f"/v2/models/{name}", json.dumps({"definition": MLP}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    first = put("before")
    resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE, (3, 8192))
    status, body = put("without")
    connection.request("GET", "/v2/models/before")
    other = connection.getresponse()
    other.read()
    resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE, (8192, 8192))
    check("no file can be opened: the server's fault", first[0] == 201 and status == 500 and body["code"] == "internal", (first, status, body))
    check("what needs none is served", other.status == 200, other.status)
    check("nothing is left of it, and the name is free", d.get("/v2/models/without").code == "unknown_model" and put("without")[0] == 201)
    connection.close()


def begin(d):
    """Starts it and asks as soon as it listens: the answers of the model, of its readiness and of the server's."""
    ports = pathlib.Path(d.folder, "ports")
    ports.unlink(missing_ok=True)
    d.process = subprocess.Popen([ONELIPD, "--listen", "127.0.0.1:0", "--port-file", ports, "--state-dir", d.state],
                                 stdout=subprocess.DEVNULL, stderr=d.log)
    d.wait(ports.exists, "the port file")
    d.host, port = ports.read_text().split()[0].split("//")[-1].rsplit(":", 1)
    d.port = int(port)
    return d.post("/v2/models/z/infer", ONE), d.get("/v2/models/z/ready"), d.get("/v2/health/ready"), d.get("/v2/health/live")


def loading(check):
    """Behind 64 MB of another model's weights a small one has to wait."""
    with Daemon() as d:
        d.create("a", {"class_name": "Sequential", "config": {"layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4096], "name": "x"}},
            {"class_name": "Dense", "config": {"units": 4096, "name": "y"}}]}})
        d.create("z")
        for _ in range(10):  # it may be faster than the question
            d.stop()
            asked, ready, server, live = begin(d)
            if asked.status == server.status == 503:
                break
        told(check, "a model that still loads", asked, 503, "loading", "Retry-After")
        check("is not ready, and says why", ready.status == 200 or ready.json["reason"] == "loading", ready)
        check("nor is the server, which is alive", server.json == {"live": True, "ready": False, "reason": "loading"} and live.status == 200, server)
        d.wait(lambda: d.get("/v2/models/z/ready").status == 200, "the model")
        check("then it answers", d.post("/v2/models/z/infer", ONE).status == 200)


def as_triton(check):
    """--triton-status: where clients know other statuses."""
    with Daemon("--triton-status") as d:
        m = d.create("m")
        d.call("PATCH", m + "/config", {"dynamic_batching": {"max_queue_delay_microseconds": 3000000, "preferred_batch_size": [64],
                                                             "default_queue_policy": {"max_queue_size": 1}}})
        waiting = threading.Thread(target=lambda: d.post(m + "/infer", ONE))
        waiting.start()
        d.wait(lambda: b'nv_inference_pending_request_count{model="m",version="1"} 1\n' in d.get("/metrics").body, "a request that waits")
        full = d.post(m + "/infer", ONE)
        waiting.join()
        late = d.post(m + "/infer", {**ONE, "parameters": {"timeout": 1000}})
        for a, code, text in ((full, "queue_full", "Exceeds maximum queue size"), (late, "deadline_exceeded", "Request timeout expired")):
            check(f"--triton-status: {code} is 503", a.status == a.json["status"] == 503 and (a.code, a.json["error"]) == (code, text), a)
        check("native paths keep theirs", d.post(m + "/gradients", {**ONE, "parameters": {"timeout": 1}}).status == 504)


def plan(check):
    all_tested(check)
    as_triton(check)
    with Daemon() as d:
        queues(check, d)
        formats(check, d)
        streams(check, d)
        memory(check, d)
        descriptors(check, d)
        check("and it ends with 0", d.stop() == 0, d.said())
    loading(check)


run(plan)
