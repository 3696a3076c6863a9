"""Starting, stopping, framing, limits: what does not depend on models."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time

from daemon import ONELIPD, TRAINING, Daemon, batch, run, tensor


def command(*options, environment=None, folder=None):
    """onelipd with these options and what it says: for starts that end by themselves."""
    done = subprocess.run([ONELIPD, *options], capture_output=True, text=True, timeout=60, cwd=folder,
                          env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


def status(reply):
    return int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/") else 0


def settings(check):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "c.json")
        state = ("--state-dir", f"{folder}/state")
        code, out, _ = command("--version")
        check("--version", code == 0 and "onelip" in out, out)
        code, out, _ = command("--help")
        check("--help names the options", code == 0 and "--max-body-bytes" in out, out)
        code, _, err = command("--bogus")
        check("an unknown option is wrong usage", code == 64 and err.count("\n") <= 2, (code, err))
        file.write_text('{"threads": 1}')
        code, out, err = command("--config", file, "--check-config", *state)
        check("--check-config says ok", code == 0 and "ok" in out + err, (code, out, err))
        for text, words in (('{"thread": 1}', "thread"), ('{"threads": "many"}', "threads"), ('{"threads": -1}', "threads"), ("{", "")):
            file.write_text(text)
            code, _, err = command("--config", file, "--check-config", *state)
            check(f"configuration {text} is refused in one line", code == 78 and str(file) in err and words in err
                  and err.strip().count("\n") == 0, (code, err))
        file.write_text('{"threads": 1, "log_level": "warning"}')
        code, out, _ = command("--config", file, "--print-config", *state, environment={"ONELIP_THREADS": "2"})
        got = json.loads(out)
        check("environment wins over the file", code == 0 and "2" in json.dumps(got.get("threads", got.get("settings", {}).get("threads"))), out)
        code, _, err = command("--listen", "0.0.0.0:0", *state)
        check("no address beyond loopback without keys", code == 78 and err.strip().count("\n") == 0, (code, err))
        code, _, err = command("--metrics-listen", "0.0.0.0:0", *state)
        check("nor one for metrics", code == 78 and "metrics_listen: found 0.0.0.0:0" in err and err.strip().count("\n") == 0, (code, err))
        code, _, err = command("--api-prefix", "/base/", "--check-config", *state)
        check("a prefix has no slash behind it", code == 64 and "does not end with it" in err, (code, err))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            code, out, err = command("--listen", f"127.0.0.1:{taken.getsockname()[1]}", *state)
            check("a taken address is one line and 1", code == 1 and "in use" in err and err.strip().count("\n") == 0 and not out,
                  (code, out, err))


def framing(check, d):
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
    post = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n"
    for name, request in (
            ("two different lengths", post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            ("a length and chunks", post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("a coding that is not chunked", post + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")):
        reply = d.raw(request)
        check(f"framing: {name} is 400 and closed", status(reply) == 400 and reply.count(b"HTTP/1.1") == 1, reply)
    check("framing: a negative length is 400", status(d.raw(post + b"Content-Length: -5\r\n\r\n")) == 400)  # libmicrohttpd's own page
    check("a foreign Host is refused", d.get("/v2", Host="evil.example").code == "host_refused")
    check("localhost is not", status(d.raw(get + b"Connection: close\r\n\r\n")) == 200)
    refused = d.post("/v2/models/m/train_step", b"{}", Origin="https://evil.example")
    check("a foreign Origin may not change anything", refused.status == 403 and refused.code == "origin_refused", refused)
    for path in ("/v2/models/a%2Fb", "/v2/models/%00", "/v2/models/../x", "/v2/models/a%0Ab"):
        answer = d.get(path)
        check(f"{path} is refused", answer.status in (400, 404) and answer.code, answer)
    answer = d.call("PATCH", "/v2/health/live")
    check("405 says what is allowed", answer.status == 405 and "GET" in answer.headers["Allow"], answer)
    answer = d.get("/v2/none", Accept="application/problem+json", X_Request_Id="my-id")
    check("problem+json on request, with the id that came", answer.headers["Content-Type"] == "application/problem+json"
          and answer.json["request_id"] == "my-id" and answer.headers["X-Request-Id"] == "my-id", answer)
    chunked = d.raw(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n")
    check("a chunked body over the limit is 413", status(chunked) == 413 or not chunked, chunked[:300])
    small = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    chunked = d.raw(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + b"%x\r\n" % len(small) + small + b"\r\n0\r\n\r\n")
    check("a chunked body within it is fine", status(chunked) == 200, chunked[:500])
    keep = http.client.HTTPConnection(d.host, d.port, timeout=30)
    for i in range(5):
        keep.request("POST", "/v2/models/m/infer", body=small)
        answer = keep.getresponse()
        answer.read()
        check(f"keep-alive {i}", answer.status == 200)
    keep.close()


def together(check, d):
    """Inference, training, replacement and deletion at once: every answer is whole, and of one revision."""
    trouble, stop = [], threading.Event()
    probe = {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}
    seen = {}

    def infer():
        while not stop.is_set():
            answer = d.post("/v2/models/m/infer", probe)
            if answer.status != 200:
                trouble.append(str(answer))
                continue
            revision = (answer.headers["ETag"], answer.json["parameters"]["weights_revision"])
            data = answer.json["outputs"][0]["data"]
            # Alone and beside others the last bits differ; a step moves these numbers by a thousand times as much.
            if any(abs(a - b) > 2e-6 * max(1, abs(b)) for a, b in zip(data, seen.setdefault(revision, data))):
                trouble.append(f"{revision}: {seen[revision]} and {data}")

    def churn():
        while not stop.is_set():
            answer = d.put("/v2/models/churn", json.dumps({"definition": {"class_name": "Sequential", "config": {"layers": [
                {"class_name": "SpectralDense", "config": {"units": 3, "batch_input_shape": [None, 4], "name": "y"}}]}}}))
            if answer.status not in (200, 201) or d.delete("/v2/models/churn").status != 204:
                trouble.append(str(answer))

    threads = [threading.Thread(target=f) for f in (infer, infer, churn)]
    for t in threads:
        t.start()
    for _ in range(150):
        answer = d.post("/v2/models/m/train_step", batch(12, learning_rate=0.01))
        if answer.status != 200:
            trouble.append(str(answer))
    stop.set()
    for t in threads:
        t.join()
    check("inference, training and replacement at once", not trouble and len(seen) > 5, "\n".join(trouble[:3]) + f" {len(seen)}")


def slow(check, d):
    """Connections that say nothing must not shut out others."""
    held = [socket.create_connection((d.host, d.port)) for _ in range(60)]
    for s in held:
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    start = time.monotonic()
    check("sixty slow clients hold up nobody", d.get("/v2/health/live").status == 200 and time.monotonic() - start < 2)
    for s in held:
        s.close()


def draining(check, d):
    done = []
    big = {"inputs": [tensor("x", [20000, 4], [0.5] * 80000), tensor("y_true", [20000], [1] * 20000, "INT64")]}
    thread = threading.Thread(target=lambda: done.append(d.post("/v2/models/m/train_step", big)))
    thread.start()
    time.sleep(0.1)
    d.signal(signal.SIGTERM)
    thread.join()
    check("a request in flight is answered", done[0].status in (200, 503), done[0])
    check("a drain ends with 0", d.process.wait(60) == 0, d.said())
    check("the port file is gone", not pathlib.Path(d.folder, "ports").exists())


def plan(check):
    settings(check)
    with Daemon("--max-body-bytes", "200000", "--threads", "2") as d:
        d.create(training=TRAINING)
        second = subprocess.run([ONELIPD, "--listen", "127.0.0.1:0", "--state-dir", d.state], capture_output=True, text=True, timeout=60)
        check("one daemon at a time on one state", second.returncode == 1 and second.stderr.strip().count("\n") == 0, second)
        framing(check, d)
        slow(check, d)
        together(check, d)
        d.signal(signal.SIGHUP)
        check("SIGHUP changes nothing that works", d.get("/v2/models/m").status == 200 and d.alive)
    with Daemon() as d:
        d.create(training=TRAINING)
        draining(check, d)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(f"{folder}/notify")
        notify.settimeout(20)
        daemon = subprocess.Popen([ONELIPD, "--listen", f"unix:{path}", "--state-dir", f"{folder}/state"], stdout=subprocess.PIPE,
                                  text=True, env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"})
        check("stdout says where it listens", daemon.stdout.readline() == f"listening unix:{path}\n")
        said = ""
        try:
            while "READY=1" not in said:
                said += notify.recv(4096).decode()
        except TimeoutError:
            pass
        with_systemd = bool(said)
        check("systemd is told when it is ready", "READY=1" in said, said)
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
        check("a unix socket answers, whatever the Host", status(client.recv(4096)) == 200)
        client.close()
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(60)
        try:
            while with_systemd and "STOPPING=1" not in said:
                said += notify.recv(4096).decode()
        except TimeoutError:
            pass
        check("and when it stops", code == 0 and "STOPPING=1" in said, (code, said))
        check("the socket is gone", not os.path.exists(path))


run(plan)
