"""How many requests a second: onelipd beside node, FastAPI and MLServer on onnxruntime, on the same machine in the same minutes.

    bench_serving.py [ROUNDS [SECONDS]]         ONELIPD=build/server/onelipd, wrk in $PATH

An MLP 784-256-128-10 with GroupSort2, condensed, batch 1; wrk with 16 keep-alive connections, and with one, shares the
cores with the servers. Rounds go through all servers in turn; medians and ratios are printed, and each figure that is to be reached
with whether it is: the exit status is 1 when one is not.
The daemon's CPU time over the compute is that of a request among 16 connections less a forward pass of one sample, which the
daemon's statistics have from one connection: nothing else runs then. A peer takes part when it is told where
it is installed, else it says that it is skipped (peers/requirements.txt, peers/package.json):
    NODE_MODULES=DIR   onnxruntime-node             PYTHON=FILE   FastAPI, MLServer     PEER_MODEL=FILE   the model as ONNX,
                                                                                       else peers/mlp_onnx.py makes it with PYTHON
"""

import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / "peers"
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3  # wrk knows whole ones
TARGETS = {"node": {"binary": 2, "json": 1.7}, "fastapi": {"binary": 4, "json": 4}, "mlserver": {"json": 14}}
P50, CPU_US, IDLE_MB = 0.5, 20, 30
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="onelip-bench-"))
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
DEFINITION = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 784], "name": "x"}},
    {"class_name": "SpectralDense", "config": {"units": 256, "name": "d1"}},
    {"class_name": "GroupSort2", "config": {"name": "s1"}},
    {"class_name": "SpectralDense", "config": {"units": 128, "name": "d2"}},
    {"class_name": "GroupSort2", "config": {"name": "s2"}},
    {"class_name": "SpectralDense", "config": {"units": 10, "name": "y"}}]}}
X = [struct.unpack("<f", struct.pack("<f", ((i * 7919) % 10007) / 10007))[0] for i in range(784)]
HEADER = json.dumps({"inputs": [{"name": "x", "shape": [1, 784], "datatype": "FP32", "parameters": {"binary_data_size": 3136}}],
                     "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}, separators=(",", ":")).encode()
BODIES = {"binary": HEADER + struct.pack("<784f", *X),
          "json": ('{"inputs":[{"name":"x","shape":[1,784],"datatype":"FP32","data":[' + ",".join("%.9g" % v for v in X) + "]}]}").encode()}
SCRIPT = '''local f = io.open("{file}", "rb"); wrk.body = f:read("*a"); f:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = "{type}"{more}'''


class Server:
    formats = ("binary", "json")

    def __init__(self, name, command, port, setup=None, environment=None, cwd=None):
        self.name, self.figures, self.rss, self.computed = name, {}, 0, []
        self.log = open(FOLDER / f"{name}.log", "wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE if port is None else self.log, stderr=self.log, cwd=cwd,
                                        env={**ENVIRONMENT, **(environment or {})}, start_new_session=True)
        self.port = int(self.process.stdout.readline()) if port is None else port() if callable(port) else port
        self.url = f"http://127.0.0.1:{self.port}"
        if setup:
            setup(self)
        self.wait_for_answer()

    def wait_for_answer(self):
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                self.ask("json")
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"{self.name} does not answer: {(FOLDER / (self.name + '.log')).read_text()[-1000:]}")

    def ask(self, form):
        headers = {"Content-Type": "application/json"} if form == "json" else {"Inference-Header-Content-Length": str(len(HEADER))}
        request = urllib.request.Request(self.url + "/v2/models/mlp/infer", BODIES[form], headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def cpu(self):
        """Seconds of the whole session."""
        total = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def statistics(self):
        """Of the daemon: requests that were computed, and nanoseconds."""
        with urllib.request.urlopen(self.url + "/v2/models/mlp/stats", timeout=10) as answer:
            times = json.load(answer)["model_stats"][0]["inference_stats"]["compute_infer"]
        return times["count"], times["ns"]

    def measure(self, form, connections):
        alone = self.name == "onelipd" and connections == 1
        begun = self.statistics() if alone else None
        before = self.cpu()
        said = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", FOLDER / f"{form}.lua",
                               self.url + "/v2/models/mlp/infer"], capture_output=True, text=True).stdout
        if "Non-2xx" in said or "Socket errors" in said or "Requests/sec" not in said:
            raise RuntimeError(f"{self.name} {form}: {said}")
        count = int(re.search(r"(\d+) requests in", said)[1])
        p50, p99 = (float(v) * {"us": 1, "ms": 1e3, "s": 1e6}[u] for v, u in
                    (re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", said).groups() for p in (50, 99)))
        self.figures.setdefault((form, connections), []).append(
            (float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), p50, p99, (self.cpu() - before) / count * 1e6))
        if alone:
            n, ns = (after - at for after, at in zip(self.statistics(), begun))
            self.computed.append(ns / n * 1e-3)

    def median(self, form, connections, which=0):
        return statistics.median(f[which] for f in self.figures[form, connections])

    def stop(self):
        os.killpg(self.process.pid, 15)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def onelipd():
    ports = FOLDER / "port"

    def port():
        for _ in range(200):
            if ports.exists():
                return int(ports.read_text().split()[0].rsplit(":", 1)[1])
            time.sleep(0.05)
        raise RuntimeError("onelipd does not start")

    def setup(server):
        def call(method, path, body):
            request = urllib.request.Request(server.url + path, body, method=method)
            return urllib.request.urlopen(request, timeout=60).read()
        time.sleep(0.3)
        call("PUT", "/v2/models/mlp", json.dumps({"definition": DEFINITION, "seed": 1}).encode())
        call("POST", "/v2/models/mlp/condense", b"")
        time.sleep(3)
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        server.rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1.024e-3

    return Server("onelipd", [os.environ.get("ONELIPD", "onelipd"), "--listen", "127.0.0.1:0", "--port-file", ports, "--state-dir",
                              FOLDER / "state"], port, setup)


def peers():
    modules, python, model = (os.environ.get(k) for k in ("NODE_MODULES", "PYTHON", "PEER_MODEL"))
    if not model and python:
        model = str(FOLDER / "mlp.onnx")
        subprocess.run([python, PEERS / "mlp_onnx.py", model], check=True)
    if not (modules and model):
        print("node: skipped (NODE_MODULES, and PEER_MODEL or PYTHON)")
    else:
        yield lambda: Server("node", ["node", PEERS / "node_server.js", model, "2"], None, environment={"NODE_PATH": modules})
    if not (python and model):
        print("fastapi, mlserver: skipped (PYTHON)")
        return
    port = free_port()
    yield lambda: Server("fastapi", [python, PEERS / "fastapi_server.py", model, "2", str(port)], port)
    folder = FOLDER / "mlserver"
    folder.mkdir()
    rest, grpc, metrics = free_port(), free_port(), free_port()
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "http_port": rest, "grpc_port": grpc, "metrics_port": metrics,
                                                      "parallel_workers": 0, "debug": False}))
    (folder / "model-settings.json").write_text(json.dumps({"name": "mlp", "implementation": "mlserver_runtime.Mlp",
                                                            "parameters": {"uri": model}}))

    def mlserver():
        server = Server("mlserver", [pathlib.Path(python).parent / "mlserver", "start", folder], rest,
                        environment={"PYTHONPATH": str(PEERS)})
        server.formats = ("json",)
        return server

    yield mlserver


def say(servers):
    """The medians."""
    for form in ("binary", "json"):
        for connections in (16, 1):
            for server in servers:
                if form in server.formats:
                    rps, p50, p99, cpu = (server.median(form, connections, k) for k in range(4))
                    print(f"{form:6} {connections:2} connections {server.name:9} {rps:8.0f} req/s  p50 {p50:6.0f}  p99 {p99:6.0f}  "
                          f"server CPU {cpu:5.1f} us")


def judge(servers):
    """Each figure beside what is asked for. Whether all are reached."""
    ours, good = servers[0], True

    def figure(what, value, most=None, least=None):
        nonlocal good
        met = value <= most if least is None else value >= least
        good &= met
        print(f"{'met   ' if met else 'MISSED'} {what:58} {value:7.2f}  ({f'{most:g} at most' if least is None else f'{least:g} at least'})")

    compute = statistics.median(ours.computed)
    figure("memory of the idle daemon with the model, MB", ours.rss, most=IDLE_MB)
    for form in ("binary", "json"):
        figure(f"server CPU of a {form} request over a forward pass ({compute:.1f} us), us", ours.median(form, 16, 3) - compute, most=CPU_US)
    for peer in servers[1:]:
        for form in peer.formats:
            figure(f"{form} requests a second, 16 connections, over {peer.name}'s", ours.median(form, 16) / peer.median(form, 16),
                   least=TARGETS[peer.name][form])
            if peer.name == "node":
                figure(f"{form} p50, one connection, of {peer.name}'s", ours.median(form, 1, 1) / peer.median(form, 1, 1), most=P50)
    return good


def main():
    if not shutil.which("wrk"):
        print("skipped: there is no wrk")
        return
    for form, body in BODIES.items():
        (FOLDER / f"{form}.body").write_bytes(body)
        more = f'; wrk.headers["Inference-Header-Content-Length"] = "{len(HEADER)}"' if form == "binary" else ""
        kind = "application/octet-stream" if form == "binary" else "application/json"
        (FOLDER / f"{form}.lua").write_text(SCRIPT.format(file=FOLDER / f"{form}.body", type=kind, more=more))
    servers = [onelipd()]
    try:
        for start in peers():
            try:
                servers.append(start())
            except (OSError, RuntimeError, ValueError) as error:
                print("skipped:", error)
        for round_ in range(ROUNDS):
            for form in ("binary", "json"):
                for connections in (16, 1):
                    for server in servers:
                        if form in server.formats:
                            server.measure(form, connections)
        say(servers)
        good = judge(servers)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
    sys.exit(not good)


main()
