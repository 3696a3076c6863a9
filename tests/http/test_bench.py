"""onelip-bench against a real daemon, and against a server that mixes revisions: it has to notice."""

import csv
import json
import os
import socket
import subprocess
import threading
import time

from daemon import Daemon, run

BENCH = os.environ["ONELIP_BENCH"]
QUICK = ["-p", "100", "-r", "3", "--warmup-interval", "20"]


def bench(url, *options):
    done = subprocess.run([BENCH, "-u", url, "--json", *options], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout)["experiments"] if done.stdout else [], done.stderr


class Liar(threading.Thread):
    """Speaks just enough of the protocol; infer answers what `answer(k)` says: revision and output."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.count = answer, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection.makefile("rwb"),), daemon=True).start()

    def serve(self, file):
        try:
            while self.serve_one(file):
                continue
        except OSError:
            pass  # it went away

    def serve_one(self, file):
        if line := file.readline():
            path, length = line.split()[1], 0
            while (header := file.readline()) != b"\r\n":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            file.read(length)
            if path.endswith(b"/infer"):
                revision, y = self.answer(self.count)
                self.count += 1
                body = {"parameters": {"weights_revision": revision}, "outputs": [{"data": y}]}
            elif path.endswith(b"/stats"):
                body = {"model_stats": [{"inference_count": self.count, "execution_count": self.count, "inference_stats": {}}]}
            else:
                body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
            text = json.dumps(body, separators=(",", ":")).encode()
            file.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            file.flush()
        return line


def plan(check):
    with Daemon() as d:
        m = d.create("m")
        url = f"127.0.0.1:{d.port}"
        status, e, said = bench(url, "-m", "m", "-b", "2", "--concurrency-range", "1:3:2", "--verify", "--health-interval", "10", *QUICK)
        check("the closed loop measures every concurrency", status == 0 and [x["value"] for x in e] == [1, 3], said)
        check("all requests are answered", all(x["answers"]["200"] > 0 and sum(x["answers"].values()) == x["answers"]["200"] for x in e), e)
        check("percentiles ascend", all(x["latency_us"]["p50"] <= x["latency_us"]["p99"] <= x["latency_us"]["max"] for x in e), e)
        check("samples are counted", all(abs(x["inferences_per_second"] - 2 * x["requests_per_second"]) < 1e-6 * x["inferences_per_second"]
                                         for x in e), e)
        check("the server's statistics are of the same time", all(
            abs(x["server_us"]["inference_count"] - 2 * x["answers"]["200"]) <= 4 * x["value"]  # those under way at its ends
            and x["server_us"]["execution_count"] > 0 and x["server_us"]["compute_infer"] > 0 for x in e), e)
        check("one revision, never mixed", all(x["verify"] == {"revisions": 1, "regressions": 0, "mixed": 0} for x in e), e)
        check("health was asked for", all(x["health_us"]["count"] > 0 for x in e), e)
        for formats in ("binary", "json"), ("json", "binary"), ("json", "json"):
            status, e, said = bench(url, "-m", "m", "--request-rate-range", "300", "--verify", "--input-tensor-format", formats[0],
                                    "--output-tensor-format", formats[1], *QUICK)
            check(f"open loop, {formats[0]} in, {formats[1]} out", status == 0 and e[0]["answers"]["200"] > 0
                  and e[0]["verify"]["mixed"] == 0, (status, e, said))
        status, e, said = bench(url, "-m", "m", "--request-rate-range", "100", "--request-distribution", "constant", *QUICK)
        check("the times may be constant", status == 0 and e[0]["answers"]["200"] > 0, (status, e, said))
        status, e, said = bench(url, "-m", "m", "--measurement-mode", "count_windows", "--measurement-request-count", "30", *QUICK[2:])
        check("windows may count answers", status == 0 and e[0]["answers"]["200"] >= 90, (status, e, said))
        report, exported = os.path.join(d.folder, "report.csv"), os.path.join(d.folder, "report.json")
        status, e, said = bench(url, "-m", "m", "--concurrency-range", "1:2", "-f", report, "--profile-export-file", exported, *QUICK)
        rows = list(csv.DictReader(open(report, newline="")))
        check("a line of CSV for each step, in perf_analyzer's words", [r["Concurrency"] for r in rows] == ["1", "2"]
              and all(abs(float(r["Inferences/Second"]) - x["inferences_per_second"]) < 0.1 and float(r["p50 latency"]) <= float(r["p99 latency"])
                      and (float(r["Network+Server Send/Recv"]) == 0 or abs(sum(float(r[c]) for c in ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output",
                                                        "Network+Server Send/Recv")) - float(r["Avg latency"])) <= 4) for r, x in zip(rows, e)), rows)
        check("the report as a file", json.load(open(exported))["experiments"] == e)
        status, e, said = bench(url, "-m", "m", "--concurrency-range", "1:9:2", "-l", "0.001", *QUICK)
        check("beyond the threshold it goes no further", status == 0 and len(e) == 1, e)
        search = ["--request-rate-range", "100:900:100", "--binary-search", "-l"]
        status, e, said = bench(url, "-m", "m", *search, "10000", *QUICK)
        check("whose threshold nothing passes needs two steps", [x["value"] for x in e] == [100, 900], e)
        status, e, said = bench(url, "-m", "m", "--timeout", "1", *search, "10000", *QUICK)
        check("whose requests are not answered needs one", [x["value"] for x in e] == [100], e)
        status, e, said = bench(url, "-m", "m", "--timeout", "1", *QUICK)
        check("deadlines are sent, and their end is counted", status == 0 and e[0]["answers"]["504"] > 0 == e[0]["answers"]["200"], e)
        check("an unknown model is said", bench(url, "-m", "none")[0] == 6 and "not found" in bench(url, "-m", "none")[2])
    check("nobody there is 6", bench(url, "-m", "m")[0] == 6)
    for wrong in (["-m"], ["-m", "m", "-b", "0"], ["-m", "m", "--request-rate-range", "x"], ["-m", "m", "--concurrency-range", "3:1"], ["-m", "m", "--binary-search"],
                  ["-m", "m", "more"], []):
        check(f"{wrong} is wrong usage", bench(url, *wrong)[0] == 2)

    honest = Liar(lambda k: (k // 10, [1.0 + k // 10, -2.0]))
    status, e, said = bench(honest.url, "-m", "m", "--input-tensor-format", "json", "--verify", *QUICK)
    check("revisions that go on are fine", status == 0 and e[0]["verify"]["revisions"] > 3, (e, said))
    sluggish = Liar(lambda k: time.sleep(0.005) or (1, [1.0, -2.0]))  # 200 a second at most over one connection
    status, e, said = bench(sluggish.url, "-m", "m", "--connections", "1", "--request-rate-range", "4:2000:998", "--binary-search", "-l", "300",
                            "-p", "400", "-r", "3", "--warmup-interval", "20")
    check("halves, until they are a step apart", [x["value"] for x in e] == [4, 2000, 1002] and e[0]["latency_us"]["mean"] < 300e3
          < min(x["latency_us"]["mean"] for x in e[1:]), e)
    mixing = Liar(lambda k: (3, [1.0 + (k % 50 == 49) * 1e-3, -2.0]))
    status, e, said = bench(mixing.url, "-m", "m", "--verify", *QUICK)
    check("an output that is another one's is found", status == 1 and e[0]["verify"]["mixed"] > 0 == e[0]["verify"]["regressions"], e)
    going_back = Liar(lambda k: (7 - (k % 50 == 49), [1.0, -2.0]))
    status, e, said = bench(going_back.url, "-m", "m", "--verify", *QUICK)
    check("a revision that goes back is found", status == 1 and e[0]["verify"]["regressions"] > 0 == e[0]["verify"]["mixed"], e)


run(plan)
