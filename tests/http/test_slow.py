"""Slow clients, as slowhttptest plays them (headers, body, read), beside one whose answers are timed; clients that leave; deadlines."""

import http.client
import json
import socket
import threading
import time

from daemon import TRAINING, Daemon, batch, run, tensor

INFER = json.dumps({"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]})
WIDE = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 2000, "name": "a"}},
    {"class_name": "Dense", "config": {"units": 2000, "name": "b"}},
    {"class_name": "Dense", "config": {"units": 3, "name": "y"}}]}}
DEEP = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 24], "name": "x"}},
    *({"class_name": name, "config": config} for i in range(6) for name, config in
      (("SpectralDense", {"units": 256, "name": f"d{i}"}), ("GroupSort2", {"name": f"s{i}"}))),
    {"class_name": "Dense", "config": {"units": 3, "name": "y"}}]}}
CONNECTIONS = 100  # an address may have 128


class Timed(threading.Thread):
    """One inference after the other; their times, and whether all were answered."""

    def __init__(self, d):
        super().__init__()
        self.d, self.going, self.times, self.bad = d, True, [], []
        self.start()

    def run(self):
        connection = http.client.HTTPConnection(self.d.host, self.d.port, timeout=60)
        while self.going:
            begun = time.monotonic()
            connection.request("POST", "/v2/models/m/infer", INFER)
            answer = connection.getresponse()
            answer.read()
            self.times.append(time.monotonic() - begun)
            if answer.status != 200:
                self.bad.append(answer.status)
            time.sleep(0.002)
        connection.close()

    def p99(self):
        self.going = False
        self.join()
        return sorted(self.times)[int(len(self.times) * 0.99)]


def open_many(d):
    sockets = []
    for i in range(CONNECTIONS):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.bind(("127.0.0.7", 0))
        s.connect((d.host, d.port))
        sockets.append(s)
    return sockets


def drip(sockets, piece, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for s in sockets:
            try:
                s.send(piece)
            except OSError:
                pass  # it was closed
        time.sleep(0.1)


def closed(s):
    """The server has closed: nothing but an answer that was under way comes."""
    s.settimeout(0.05)
    try:
        while s.recv(65536):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def slow(check, d):
    def others(name, timed):
        p99 = timed.p99()
        # The attackers' own work is on the same cores; ten times the latency and a turn or two of the scheduler would be starving.
        check(f"{name}: others are served as before", not timed.bad and len(timed.times) > 20 and p99 <= 10 * calm + 0.05,
              (calm, p99, len(timed.times), timed.bad[:5]))

    timed = Timed(d)
    time.sleep(1)
    calm = timed.p99()
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(INFER)}\r\n".encode()
    for name, first, piece in (("slow bodies", head + b"\r\n" + INFER[:5].encode(), b" "),
                               ("answers that are not read", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20, b""),
                               ("slow headers", head, b"X-A: b\r\n")):
        timed, sockets, begun = Timed(d), open_many(d), time.monotonic()
        for s in sockets:
            s.sendall(first)
        drip(sockets, piece, 1.5)
        others(name, timed)
        if name == "slow headers":
            d.wait(lambda: all(closed(s) for s in sockets), "end of slow headers", 60)
            check("headers have ten seconds", time.monotonic() - begun > 8 and d.metric('onelip_rejected_total{reason="slow"}') >= CONNECTIONS,
                  time.monotonic() - begun)
        for s in sockets:
            s.close()
        d.wait(lambda: d.metric("onelip_connections") < 10, "end of the connections", 60)  # an address may not have both lots
    begun = time.monotonic()
    for _ in range(3):
        for s in open_many(d)[:40]:
            s.sendall(head + b"\r\n" + INFER[:5].encode())
            s.close()
        d.wait(lambda: d.metric("onelip_connections") < 10, "end of those that left", 60)
    check("who leaves amid a body is noticed before the body's deadline", time.monotonic() - begun < 28, time.monotonic() - begun)
    check("the daemon lives", d.alive and d.post("/v2/models/m/infer", INFER).status == 200)


def heavy(**parameters):
    return json.dumps({"inputs": [tensor("x", [1000, 4], [0.5] * 4000)], "parameters": parameters})


def queue(check, d):
    """What waits behind long work: clients that leave, deadlines, priorities. One worker computes."""
    d.create("w", WIDE)
    begun = time.monotonic()
    check("a long pass", d.post("/v2/models/w/infer", heavy()).status == 200)
    one = time.monotonic() - begun
    n = max(30, int(3 / one))
    text = heavy().encode()
    before = d.metric('onelip_rejected_total{reason="gone"}')
    for _ in range(n):
        with socket.create_connection((d.host, d.port)) as s:
            s.sendall(b"POST /v2/models/w/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
    late = d.post("/v2/models/w/infer", heavy(timeout=20000))
    check("a deadline ends the wait", late.status == 504 and late.code == "deadline_exceeded", late)
    check("who stays is answered", d.post("/v2/models/w/infer", heavy()).status == 200)
    dropped = d.metric('onelip_rejected_total{reason="gone"}') - before
    check("nothing is computed for clients that left and had to wait", dropped > 0, (dropped, n, one))
    d.call("PATCH", "/v2/models/w/config", {"dynamic_batching": {"priority_levels": 2, "default_priority_level": 2}})
    ended, threads = [], []

    def send(name, **parameters):
        if d.post("/v2/models/w/infer", heavy(**parameters)).status == 200:
            ended.append(name)

    for i in range(10):
        threads.append(threading.Thread(target=send, args=("later",)))
        threads[-1].start()
    d.wait(lambda: d.metric('nv_inference_pending_request_count{model="w",version="1"}') >= 4, "a queue")
    send("first", priority=1)
    for thread in threads:
        thread.join()
    check("priority 1 goes before those that wait", len(ended) == 11 and "later" in ended[ended.index("first") + 1:][1:], ended)


def leave(check, d, method, path, body=None):
    """Asks, and leaves when there is no answer yet."""
    text = json.dumps(body).encode() if body else b""
    gone, begun = d.metric('onelip_rejected_total{reason="gone"}'), time.monotonic()
    with socket.create_connection((d.host, d.port)) as s:
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        s.settimeout(1.5)
        try:
            early = s.recv(100)
        except TimeoutError:
            early = b""
    d.wait(lambda: d.metric('onelip_rejected_total{reason="gone"}') > gone, f"end of {path}, for which nobody waits", 60)
    d.wait(lambda: d.metric("onelip_requests_in_flight") == 1, "end of that request")
    check(f"{path} ends when its client has left", not early and time.monotonic() - begun < 40, (early, time.monotonic() - begun))


def cloud(n, seed):
    return [((i * 7919 + seed * 104729) % 10007) / 10007 for i in range(n)]


def abandoned(check, d):
    """Long work whose client leaves in the middle ends, long before it would have been done."""
    m = d.create("w2", WIDE, TRAINING)
    x = [0.5, -0.25, 1, 0] * 2000
    d.put("/v2/datasets/many?label=label", "a,b,c,d,label\n" + "1,2,3,4,0\n4,3,2,1,1\n0,1,0,1,2\n" * 100000)
    long = {"inputs": [tensor("x", [2000, 4], x)], "parameters": {"attack": True}}
    deep = d.create("deep", DEEP)
    leave(check, d, "GET", deep + "/lipschitz?max_seconds=55")
    leave(check, d, "POST", deep + "/wasserstein", {"inputs": [tensor("p", [3000, 24], cloud(3000 * 24, 1)), tensor("q", [3000, 24], cloud(3000 * 24, 2))],
                                                    "parameters": {"index": 0, "max_seconds": 55}})
    for path, body in (("/certify", long), ("/evaluate", {"dataset": "many"})):
        leave(check, d, "POST", m + path, body)
        late = d.post(m + path, {**body, "parameters": {"timeout": 300000}})
        check(f"{path} has a deadline", late.status == 504 and late.code == "deadline_exceeded", late)
    for path in ("/train_step", "/evaluate", "/gradients"):
        before = d.get(m).json["state_revision"]
        late = d.post(m + path, batch(6, timeout=1))
        check(f"{path} has one, too, and nothing is changed behind it", late.status == 504 and late.code == "deadline_exceeded"
              and late.json["error"] == "Request timeout expired" and d.get(m).json["state_revision"] == before, late)
    odd = d.post(m + "/evaluate", {"dataset": "many", "parameters": {"time_out": 1}})
    check("what is not known of a dataset's evaluation is refused", odd.code == "unknown_member", odd)


def plan(check):
    with Daemon("--threads", "1", "--log-level", "error") as d:
        d.create("m")
        slow(check, d)
        queue(check, d)
        abandoned(check, d)
        check("a drain", d.stop() == 0, d.said())


run(plan)
