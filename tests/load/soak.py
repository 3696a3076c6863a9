"""`make soak`: memory over a million requests, a thousand models made and deleted and a thousand times loaded and unloaded,
a hundred reloads under load, and half an hour of everything.

    soak.py [MINUTES [REQUESTS [CYCLES]]]       30 1000000 1000

Bounded in time and count; not part of make check. Prints TAP. Everything stays on loopback.
"""

import json
import math
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "http"))
from daemon import MLP, Daemon, run, tensor  # noqa: E402
import lifecycle  # noqa: E402

MINUTES, REQUESTS, CYCLES = (float(sys.argv[i]) if len(sys.argv) > i else v for i, v in ((1, 30), (2, 1e6), (3, 1000)))
IDLE_MB = 30
SETTLED_SECONDS = 3        # the daemon tidies up when it had no work for one
LEAK_BYTES = 0.5           # of a request, at most: an average, so nothing
HISTORY_BYTES = 128 << 10  # what fills slowly: the last minutes' figures, the allocator's small change
DEFINITION = {"class_name": "Sequential", "config": {"k_coef_lip": 1.0, "layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 784], "name": "x"}},
    {"class_name": "SpectralDense", "config": {"units": 256, "name": "d1"}},
    {"class_name": "GroupSort2", "config": {"name": "s1"}},
    {"class_name": "SpectralDense", "config": {"units": 128, "name": "d2"}},
    {"class_name": "GroupSort2", "config": {"name": "s2"}},
    {"class_name": "SpectralDense", "config": {"units": 10, "name": "y"}}]}}


def resident(d):
    """KiB, once the daemon has given back what work left behind."""
    time.sleep(SETTLED_SECONDS)
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{d.process.pid}/status").read_text())[1])


def memory(d):
    """Bytes that are allocated, KiB that are resident."""
    return d.metric("onelip_heap_bytes", math.nan), resident(d)


def stays(check, what, before, after, n):
    """A leak makes what is allocated grow, whatever the machine does meanwhile; pieces that lie badly make what is resident grow."""
    print(f"# {what}: {(after[0] - before[0]) / n:.1f} bytes each, {before[1]} -> {after[1]} KiB resident")
    check(f"{what}: nothing is kept of them", after[0] - before[0] < LEAK_BYTES * n + HISTORY_BYTES, (before, after))
    check(f"{what}: what is resident does not grow", after[1] < 1.05 * before[1] + 1024, (before, after))


def requests(d, n):
    done = 0
    while done < n:
        said = subprocess.run([os.environ["ONELIP_BENCH"], "-u", f"{d.host}:{d.port}", "-m", "mlp", "--concurrency-range", "16",
                               "--input-tensor-format", ("binary", "json")[done // 50000 % 2], "-p", "2000", "-r", "3", "-s", "0",
                               "--warmup-interval", "0", "--json"], capture_output=True, text=True, check=True)
        answers = json.loads(said.stdout)["experiments"][0]["answers"]
        if sum(answers.values()) != answers["200"]:
            raise RuntimeError(f"not answered: {answers}")
        done += answers["200"]
    return done


def cycle(d, i):
    name = f"/v2/models/m{i % 10}"
    d.put(name, {"definition": MLP, "seed": i})
    answer = d.post(name + "/infer", {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]})
    d.delete(name)
    return answer.status


def load_again(d):
    """A model of the state directory."""
    d.post("/v2/repository/models/mlp/unload")
    return d.post("/v2/repository/models/mlp/load").status


def idle(check):
    """A connection that asks nothing more is closed; http.c gives it a minute."""
    with Daemon() as d, socket.create_connection((d.host, d.port), timeout=100) as s:
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer, begun = s.recv(4096), time.monotonic()
        rest, seconds = s.recv(4096), time.monotonic() - begun
        check("an idle connection is closed after a minute", answer.startswith(b"HTTP/1.1 200") and not rest and 55 < seconds < 75, seconds)


def repository(check):
    """Load and unload of a model of --model-dir."""
    def definition(k):
        return {"class_name": "Sequential", "config": {"layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 2], "name": "x"}},
            {"class_name": "Dense", "config": {"units": 1, "name": "y", "use_bias": False,
                                               "kernel_initializer": {"class_name": "Constant", "config": {"value": k}}}}]}}

    def put(k):
        new = models / "m" / ".new"
        new.write_text(json.dumps(definition(k)))
        new.rename(models / "m" / "model.json")

    body = {"inputs": [tensor("x", [1, 2], [1, 2])]}
    with Daemon() as d:
        models = pathlib.Path(d.folder, "models")
        (models / "m").mkdir(parents=True)
        put(0)
        d.stop()
        d.options = ("--model-dir", models)
        d.start()
        growth = lifecycle.cycles(d, int(CYCLES), body)
        print(f"# --model-dir: {growth:.0f} bytes for each of {CYCLES:.0f} times")
        check("memory stays when a model of --model-dir is unloaded and loaded", growth < HISTORY_BYTES / CYCLES + LEAK_BYTES, growth)
        faults, answered = lifecycle.reloads(d, 101, put, body, lambda k: [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [3 * k]}])
        print(f"# {answered} requests were answered meanwhile")
        check("100 reloads under load, no request failed or was answered by another model", not faults and answered > 100, faults[:3])


def plan(check):
    with Daemon("--threads", "2") as d:
        d.create("mlp", DEFINITION)
        d.post("/v2/models/mlp/condense")
        idle = resident(d)
        check(f"an idle daemon with the MLP takes less than {IDLE_MB} MB", idle * 1024 < IDLE_MB * 1e6, f"{idle} KiB")
        requests(d, min(REQUESTS, 100000))  # pools and arenas have their size
        begun = memory(d)
        n = requests(d, REQUESTS)
        stays(check, f"{n} requests", begun, memory(d), n)
        statuses = [cycle(d, i) for i in range(int(min(CYCLES, 500)))]  # each tells three events, of which a thousand are kept
        begun = memory(d)
        statuses += [cycle(d, i) for i in range(int(CYCLES))]
        check("models that come are served", set(statuses) == {200}, set(statuses))
        stays(check, f"{CYCLES:.0f} models that come and go", begun, memory(d), CYCLES)
        statuses = [load_again(d) for i in range(int(min(CYCLES, 500)))]
        begun = memory(d)
        statuses += [load_again(d) for i in range(int(CYCLES))]
        check("loads succeed", set(statuses) == {200}, set(statuses))
        stays(check, f"{CYCLES:.0f} times unloaded and loaded", begun, memory(d), CYCLES)
        check("and no descriptor stays open", len(os.listdir(f"/proc/{d.process.pid}/fd")) < 100)
    repository(check)
    idle(check)
    end = time.monotonic() + MINUTES * 60
    rounds = failed = 0
    while time.monotonic() < end:
        said = subprocess.run([sys.executable, HERE / "mixed.py", str(min(300.0, max(2.0, end - time.monotonic())))],
                              capture_output=True, text=True).stdout
        rounds += 1
        print("\n".join(line for line in said.splitlines() if line.startswith("# after")), flush=True)
        if "not ok" in said or "1.." not in said:
            failed += 1
            print("# " + said[-3000:].replace("\n", "\n# "), flush=True)
    check(f"everything at once, {rounds} times", failed == 0)


run(plan)
