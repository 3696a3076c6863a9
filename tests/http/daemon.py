"""A real onelipd on a free port of loopback, with a state folder of its own; requests to it; TAP.

    def plan(check):              # one function a script
        with Daemon() as d:
            answer = d.get("/v2/health/ready")
            check("is ready", answer.status == 200, answer)

    run(plan)
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ONELIPD = os.environ.get("ONELIPD", "onelipd")
SOURCE = pathlib.Path(os.environ.get("srcdir", "."))

MLP = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "SpectralDense", "config": {"units": 16, "name": "d1"}},
    {"class_name": "GroupSort2", "config": {"name": "sort"}},
    {"class_name": "FrobeniusDense", "config": {"units": 3, "name": "y"}}]}}
TRAINING = {"optimizer": "adam", "loss": {"class_name": "MulticlassHKR", "config": {"alpha": 10.0, "min_margin": 0.5}},
            "metrics": ["accuracy"]}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The error's stable code, or None."""
        try:
            return self.json.get("code")
        except (ValueError, AttributeError):
            return None

    def __str__(self):
        return f"{self.status} {dict(self.headers)}\n{self.body[:1500]!r}"


class Daemon:
    def __init__(self, *options, state=None, environment=None, prefix=""):
        self.folder = tempfile.mkdtemp(prefix="onelip-")
        self.state = state or os.path.join(self.folder, "state")
        self.options, self.environment = (*options, "--api-prefix", prefix) if prefix else options, environment
        self.prefix = prefix  # of all paths
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        ports = pathlib.Path(self.folder, "ports")
        ports.unlink(missing_ok=True)
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            [ONELIPD, "--listen", "127.0.0.1:0", "--port-file", ports, "--state-dir", self.state, *self.options],
            stdout=subprocess.DEVNULL, stderr=self.log, env={**os.environ, **(self.environment or {})})
        self.wait(ports.exists, "the port file")
        address = ports.read_text().split()[0].split("//")[-1]
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.wait(lambda: self.get("/v2/health/ready").status == 200, "readiness")

    def wait(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {what}: exit status {self.process.poll()}, log: {self.said()[-2000:]}")
            time.sleep(0.01)

    def said(self):
        return pathlib.Path(self.folder, "log").read_text(errors="replace")

    @property
    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """A drain; the exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def kill(self):
        """No drain, no chance to write anything."""
        if self.process and self.alive:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def call(self, method, path, body=None, headers=None, timeout=120):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        try:
            connection.request(method, self.prefix + path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.call("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path, body=b"", **headers):
        return self.call("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    def put(self, path, body=b"", **headers):
        return self.call("PUT", path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    def delete(self, path):
        return self.call("DELETE", path)

    def metric(self, name, missing=0.0):
        """Of /metrics, one without labels."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.M)
        return float(found[1]) if found else missing

    def raw(self, data, seconds=10):
        """Bytes as they are; what comes back until the server closes or falls silent."""
        got = b""
        with socket.create_connection((self.host, self.port), timeout=seconds) as s:
            s.sendall(data)
            s.settimeout(2)
            try:
                while piece := s.recv(65536):
                    got += piece
            except TimeoutError:
                pass
        return got

    def create(self, name="m", definition=MLP, training=None):
        answer = self.put(f"/v2/models/{name}", {"definition": definition, "seed": 1})
        if answer.status == 201 and training:
            answer = self.put(f"/v2/models/{name}/training", training)
        if answer.status not in (200, 201):
            raise RuntimeError(f"cannot create {name}: {answer}")
        return f"/v2/models/{name}"


def tensor(name, shape, data, datatype="FP32"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def batch(n=6, **parameters):
    """A training request of n samples for MLP."""
    x = [((7 * i + 3 * j) % 11 - 5) / 5 for i in range(n) for j in range(4)]
    body = {"inputs": [tensor("x", [n, 4], x), tensor("y_true", [n], [i % 3 for i in range(n)], "INT64")]}
    return {**body, "parameters": parameters} if parameters else body


def floats(body):
    return list(struct.unpack(f"<{len(body) // 4}f", body))


def run(plan):
    """Calls plan(check) and prints TAP; check(name, good, notes) is one test."""
    count = 0

    def check(name, good, notes=""):
        nonlocal count
        count += 1
        print("ok" if good else "not ok", count, "-", name, flush=True)
        for line in str(notes).splitlines() if not good else []:
            print("#", line, flush=True)

    try:
        plan(check)
    except Exception:
        check("the script runs to its end", False, traceback.format_exc())
    print(f"1..{count}", flush=True)
    sys.exit(0)


SIGTERM, SIGHUP = signal.SIGTERM, signal.SIGHUP
