"""/v2/config, /v2/logging, --metrics-listen, --read-only, and what the wire contract has and this server has not."""

import json
import os
import pathlib
import re
import subprocess

from daemon import MLP, ONELIPD, SIGHUP, SOURCE, TRAINING, Daemon, batch, run, tensor

KEPT = os.environ.get("WITH_SQLITE") != "0"
X = {"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])]}


def named():
    """Every setting of settings.def that is no command, as its key."""
    text = pathlib.Path(SOURCE, "server/settings.def").read_text()
    return {n.replace("-", "_") for n in re.findall(r'^(?:LIST|TEXT|CHOICE|INTEGER|SECONDS|SWITCH)\(\w+, "([\w-]+)"', text, re.M)}


def settings(check):
    with Daemon(environment={"ONELIP_CORS_ORIGINS": "https://a.example"}) as d:
        a = d.get("/v2/config")
        check("every setting is shown", set(a.json["settings"]) == named(), set(a.json["settings"]) ^ named())
        check("what may change is named", a.json["mutable"] == sorted(a.json["mutable"], key=list(a.json["settings"]).index)
              and set(a.json["mutable"]) == {"allowed_hosts", "checkpoint_seconds", "cors_origins", "log_format", "log_level", "max_body_bytes",
                                             "max_upload_bytes", "request_timeout_seconds"}, a.json["mutable"])
        check("it says whether jobs and keys are kept", a.json["history_kept"] is KEPT, a)
        check("a second look is 304", d.get("/v2/config", If_None_Match=a.headers["ETag"]).status == 304)
        check("another origin may not ask", not d.get("/v2", Origin="https://b.example").headers["Access-Control-Allow-Origin"])
        b = d.call("PATCH", "/v2/config", {"cors_origins": ["https://b.example"], "max_body_bytes": 2048, "log_level": "debug"})
        check("PATCH answers the whole", b.status == 200 and b.json == d.get("/v2/config").json and b.json["settings"] == {
            **a.json["settings"], "cors_origins": ["https://b.example"], "max_body_bytes": 2048, "log_level": "debug"}, b)
        check("origins are in force", d.get("/v2", Origin="https://b.example").headers["Access-Control-Allow-Origin"] == "https://b.example"
              and not d.get("/v2", Origin="https://a.example").headers["Access-Control-Allow-Origin"])
        check("the largest body, too", d.post("/v2/models", b"x" * 4096).code == "too_large")
        check("and the log", "/v2/config 200" in d.said(), d.said()[-500:])
        stale = d.call("PATCH", "/v2/config", {"log_level": "error"}, {"If-Match": a.headers["ETag"]})
        check("If-Match guards it", stale.code == "precondition_failed" and stale.headers["ETag"] == b.headers["ETag"], stale)
        for name, patch, status, code, pointer in [
                ("one that takes a restart", {"log_level": "info", "threads": 3}, 409, "requires_restart", "/threads"),
                ("one that is none", {"log_levle": "info"}, 400, "unknown_member", "/log_levle"),
                ("a command", {"help": True}, 400, "unknown_member", "/help"),
                ("a wrong type", {"max_body_bytes": "2048"}, 400, "bad_parameter", "/max_body_bytes"),
                ("a wrong range", {"checkpoint_seconds": 0}, 400, "bad_parameter", "/checkpoint_seconds"),
                ("no choice", {"log_level": "loud"}, 400, "bad_parameter", "/log_level"),
                ("nothing", {"log_level": None}, 400, "bad_parameter", "/log_level"),
                ("no origin", {"cors_origins": ["https://a.example", "b.example"]}, 400, "bad_parameter", "/cors_origins"),
                ("an empty one", {"cors_origins": [""]}, 400, "bad_parameter", "/cors_origins")]:
            bad = d.call("PATCH", "/v2/config", patch)
            check(f"{name} is {status}", bad.status == status and bad.code == code and bad.json["errors"][0]["pointer"] == pointer, bad)
        check("and nothing has changed", d.get("/v2/config").json == b.json)
        d.call("PATCH", "/v2/config", {"cors_origins": [], "max_body_bytes": 67108864})
        check("a list can be emptied", d.get("/v2/config").json["settings"]["cors_origins"] == [])
        d.signal(SIGHUP)
        d.wait(lambda: d.get("/v2/config").json == a.json, "the old settings")
        check("SIGHUP takes the changes back", True)
    for options, status, words in ((("--model-name", "m"), 78, "--model-dir"), (("--model-name", "a/b", "--model-dir", "."), 64, "name of a model"),
                                   (("--load-model", "a/b"), 64, "names of models"), (("--model-control-mode", "sometimes"), 64, "explicit|none|poll"),
                                   (("--poll-seconds", "0"), 64, "0.05"), (("--metrics-listen", "here"), 64, "ADDR:PORT"),
                                   (("--metrics-listen", "0.0.0.0:0"), 78, "--insecure")):
        done = subprocess.run([ONELIPD, "--check-config", *options], capture_output=True, text=True)
        check(f"{' '.join(options)} is refused", done.returncode == status and words in done.stderr, done)


def logging(check):
    with Daemon() as d:
        plain = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}
        a = d.get("/v2/logging")
        check("logging as Triton has it", a.json == plain, a)
        check("a subset is answered by the whole", d.post("/v2/logging", {"log_verbose_level": 1}).json == {**plain, "log_verbose_level": 1})
        d.get("/v2/models/zzz")
        check("verbose is debug", "/v2/models/zzz 404" in d.said(), d.said())
        d.post("/v2/logging", {"log_verbose_level": 0, "log_info": False})
        d.get("/v2/models/yyy")
        check("and ends", "yyy" not in d.said() and d.get("/v2/logging").json == {**plain, "log_info": False})
        check("what was got can be sent", d.post("/v2/logging", plain).json == plain)
        check("ISO8601", d.post("/v2/logging", {"log_format": "ISO8601", "other": 1}).json == {**plain, "log_format": "ISO8601"})
        for bad in ({"log_info": 1}, {"log_verbose_level": -1}, {"log_verbose_level": "1"}, {"log_format": "text"}, {"log_format": 1}, {"log_file": 1}):
            a = d.post("/v2/logging", {"log_error": False, **bad})
            check(f"{bad} is 400", a.code == "bad_parameter" and a.json["errors"][0]["pointer"] == "/" + next(iter(bad)), a)
        a = d.post("/v2/logging", {"log_error": False, "log_file": "/tmp/x"})
        check("no file over the wire", a.status == 501 and a.json["error"] == "log file location can not be updated through network protocol", a)
        check("nothing has changed", d.get("/v2/logging").json == {**plain, "log_format": "ISO8601"})
    with Daemon("--log-format", "json") as d:
        d.post("/v2/logging", {"log_format": "ISO8601", "log_verbose_level": 1})
        d.get("/v2/models/a")
        d.post("/v2/logging", {"log_format": "default"})
        d.get("/v2/models/b")
        lines = [line for line in d.said().splitlines() if "/v2/models/" in line]
        check("the format is in force at once", len(lines) == 2 and re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z debug: ", lines[0]) and json.loads(lines[1]), lines)


def absent(check, d):
    for kind in ("system", "cuda"):
        check(f"no {kind} shared memory", d.get(f"/v2/{kind}sharedmemory/status").json == [] == d.get(f"/v2/{kind}sharedmemory/region/r/status").json)
        for path in ("unregister", "region/r/unregister"):
            a = d.post(f"/v2/{kind}sharedmemory/{path}")
            check(f"{kind} {path}, as clients do it before they begin", a.status == 200 and a.json == {}, a)
        a = d.post(f"/v2/{kind}sharedmemory/region/r/register", {"key": "/k", "offset": 0, "byte_size": 8})
        check(f"{kind} regions cannot be registered", a.status == 501 and a.code == "unsupported", a)
    for method, path, words in (("POST", "/v2/repository/other/index", "'repository_name' specification is not supported"),
                                ("POST", "/v2/repository/other/models/m/load", "'repository_name' specification is not supported"),
                                ("GET", "/v2/trace/setting", "tracing"), ("POST", "/v2/models/m/trace/setting", "tracing"),
                                ("POST", "/v2/models/m/generate", "generate"), ("POST", "/v2/models/m/versions/1/generate_stream", "generate")):
        a = d.call(method, path, {} if method == "POST" else None)
        check(f"{method} {path} is 501 and says so", a.status == 501 and a.code == "unsupported" and words in a.json["error"], a)


def lists(check, d):
    for i in range(3):
        d.create(f"m{i}")
        d.post("/v2/models/m0/checkpoints", {"name": f"c{i}"})
    for path in ("/v2/models?detail=true", "/v2/models/m0/checkpoints", "/v2/models/m0/versions", "/v2/models/m0/layers", "/v2/datasets", "/v2/jobs"):
        sign = "&" if "?" in path else "?"
        for limit in ("0", "1001", "x", "2x", "", "-1"):
            a = d.get(f"{path}{sign}limit={limit}")
            check(f"{path}: limit={limit} is 400", a.code == "bad_parameter", a)
        check(f"{path}: a list", {**d.get(f"{path}{sign}limit=1000").json, "data": 0} == {"object": "list", "data": 0, "has_more": False, "next": None})
    for path, key, n in (("/v2/models?limit=1&detail=true&other=a%26b", "name", 3), ("/v2/models/m0/checkpoints?limit=2", "name", 3), ("/v2/models/m0/layers?limit=3", "name", 4)):
        seen, next_page = [], path
        while next_page:
            page = d.get(next_page).json
            seen += [entry[key] for entry in page["data"]]
            next_page = page["next"]
            check(f"{path}: the next page keeps what was asked for", not next_page or ("detail" in path) == ("detail=true&other=a%26b" in next_page), next_page)
        check(f"{path}: every entry once", len(seen) == len(set(seen)) == n, seen)


def metrics(check):
    with Daemon("--metrics-listen", "127.0.0.1:0") as d:
        d.create()
        ports = pathlib.Path(d.folder, "ports").read_text().split()
        check("the port file has both addresses", len(ports) == 2, ports)
        main, d.port = d.port, int(ports[1].rsplit(":", 1)[1])
        a = d.get("/metrics")
        check("metrics are there", a.status == 200 and b"onelip_build_info" in a.body, a)
        check("and nothing else", [d.get(p).code for p in ("/v2", "/v2/models/m", "/v2/health/live")] == ["not_found"] * 3)
        d.port = main
        check("they stay where they were", d.get("/metrics").status == 200)
    with Daemon() as d:
        keys = pathlib.Path(d.folder, "keys")
        keys.write_text('{"keys":[{"name":"a","sha256":"%s","scopes":["infer"]}]}' % ("0" * 64))
        keys.chmod(0o600)
        d.stop()
        d.options = ("--metrics-listen", "127.0.0.1:0", "--api-key-file", keys)
        d.start()
        refused = d.get("/metrics").status
        d.port = int(pathlib.Path(d.folder, "ports").read_text().split()[1].rsplit(":", 1)[1])
        check("without keys there, with keys here", refused == 401 and d.get("/metrics").status == 200, refused)


def read_only(check):
    with Daemon("--read-only", state="/nowhere/at/all") as d:
        check("it starts without a state directory", d.get("/v2/models").json == {"models": []} and not os.path.exists("/nowhere"))
        for method, path in (("POST", "/v2/models"), ("PUT", "/v2/models/m"), ("POST", "/v2/jobs"), ("PUT", "/v2/datasets/d"), ("PATCH", "/v2/config"),
                             ("POST", "/v2/logging")):
            a = d.call(method, path, {})
            check(f"{method} {path} is read_only", a.status == 403 and a.code == "read_only", a)
        check("it says that nothing is kept", d.get("/v2/config").json["history_kept"] is False)
    with Daemon() as d:
        m = d.create(training=TRAINING)
        d.post(m + "/train_step", batch())
        d.post(m + "/versions", {})
        want = d.post(m + "/infer", X).json["outputs"]
        d.put("/v2/datasets/toy?label=l", "a,b,c,d,l\n1,2,3,4,0\n", Content_Type="text/csv")
        busy = subprocess.run([ONELIPD, "--read-only", "--listen", "127.0.0.1:0", "--state-dir", d.state], capture_output=True, text=True, timeout=60)
        check("not beside a daemon that writes", busy.returncode == 1 and "another onelipd" in busy.stderr, busy)
        d.stop()

        def files():
            return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in pathlib.Path(d.state).rglob("*")}

        before = files()
        with Daemon("--read-only", state=d.state) as r, Daemon("--read-only", state=d.state) as s:
            for other in (r, s):
                check("what is there is served", other.post(m + "/infer", X).json["outputs"] == want
                      and other.get(m + "/versions/1").status == 200 and other.get("/v2/datasets/toy").json["samples"] == 1)
            for path in ("/train_step", "/condense", "/versions", "/checkpoints"):
                check(f"POST {path} is read_only", r.post(m + path, batch()).code == "read_only")
            check("PATCH and DELETE, too", r.call("PATCH", m, {"description": "x"}).code == r.delete(m).code == "read_only")
            a = r.post(m + "/evaluate", batch(), Prefer="respond-async")
            check("evaluating is reading, at once", a.status == 200 and not a.headers["Preference-Applied"], a)
            check("evaluating over a dataset, too", r.post(m + "/evaluate", {"dataset": "toy"}).status == 200)
            check("a drain", r.stop() == 0)
        check("nothing was written", files() == before, set(files()) ^ set(before))


def plan(check):
    settings(check)
    logging(check)
    with Daemon() as d:
        absent(check, d)
        lists(check, d)
    metrics(check)
    read_only(check)


run(plan)
