"""schemathesis, as it is on PyPI, with every check, against a real daemon and its own /openapi.json; and the description's lint.
SCHEMATHESIS and SPECTRAL are the programs."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "http"))
from daemon import TRAINING, Daemon, batch, run

SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "120")


# What takes the ground from under the others is asked last: settings of the daemon, and a model that is not loaded any more.
LAST = ("patchSettings", "unloadModel")


def ask(d, seconds, *which):
    return subprocess.run([os.environ["SCHEMATHESIS"], "--config-file", HERE / "schemathesis.toml", "run", f"http://{d.host}:{d.port}/openapi.json",
                           "--checks", "all", "--seed", "1", "--continue-on-failure", "--max-time", seconds, "--suppress-health-check", "all",
                           "--no-color", "--generation-deterministic", *which], capture_output=True, text=True)


def plan(check):
    lint = subprocess.run([os.environ["SPECTRAL"], "lint", "--ruleset", HERE / "spectral.json", "--fail-severity", "warn",
                           HERE.parent.parent / "server" / "openapi.json"], capture_output=True, text=True)
    check("spectral finds nothing in openapi.json", lint.returncode == 0, lint.stdout + lint.stderr)
    with Daemon() as d:
        api = d.get("/openapi.json").json
        d.create("demo", api["paths"]["/v2/models"]["post"]["requestBody"]["content"]["application/json"]["example"]["definition"], TRAINING)
        d.post("/v2/models/demo/train_step", batch(6))
        d.post("/v2/models/demo/versions", {"labels": ["stable"]})
        d.put("/v2/datasets/toy?label=label", "a,b,c,d,label\n1,2,3,4,0\n4,3,2,1,1\n0,1,0,1,2\n", Content_Type="text/csv")
        for name, seconds, option in (("schemathesis finds nothing", SECONDS, "--exclude-operation-id"),
                                      ("nor in what is asked last", "30", "--include-operation-id")):
            st = ask(d, seconds, *(word for name in LAST for word in (option, name)))
            check(name, st.returncode == 0, st.stdout + st.stderr)
        check("the daemon is alive after all that", d.alive and d.get("/v2/health/ready").status == 200, d.said()[-2000:])


run(plan)
