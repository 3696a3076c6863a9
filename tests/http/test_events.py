"""Events over real sockets: what becomes of models, pings, gaps, slow readers, the limit of streams; keys in flight."""

import http.client
import json
import socket
import threading
import time

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

CSV = "a,b,c,d,label\n" + "".join(f"{i % 5},{i % 7},{i % 3},{i % 2},{i % 3}\n" for i in range(20))
LIMIT, RING, PING = 256, 1024, 15


class Stream:
    """A stream of events over a socket of its own."""

    def __init__(self, d, path, buffer=None, source="127.0.0.1", **headers):
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(30)
        self.socket.bind((source, 0))
        self.socket.connect((d.host, d.port))
        more = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{more}\r\n".encode())
        self.answer, self.text = None, ""

    def open(self):
        """The status line and the headers have come."""
        self.answer = http.client.HTTPResponse(self.socket)
        self.answer.begin()
        return self

    def until(self, good):
        """Every event up to the one that is good: (id, event, data)."""
        if not self.answer:
            self.open()
        found = []
        while True:
            while "\n\n" in self.text:
                block, self.text = self.text.split("\n\n", 1)
                if block.startswith(":"):
                    found.append((0, "comment", block))
                else:
                    fields = dict(line.split(": ", 1) for line in block.split("\n"))
                    if "event" not in fields:
                        continue
                    found.append((int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])))
                if good(found[-1]):
                    return found
            piece = self.answer.read1(65536)
            if not piece:
                return found
            self.text += piece.decode()

    def close(self):
        if self.answer:
            self.answer.close()
        self.socket.close()


def models(check, d):
    stream = Stream(d, "/v2/events?types=model,revision&model=a").open()
    m = d.create("a")
    d.create("other")
    d.put(m, {"definition": MLP, "seed": 2, "training": TRAINING})
    step = d.post(m + "/train_step", batch()).json["parameters"]
    d.delete(m)
    events = [data for _, _, data in stream.until(lambda e: e[2].get("action") == "deleted")]
    stream.close()
    check("models are created, replaced and deleted", [e["action"] for e in events if e["type"] == "model"] == ["created", "replaced", "deleted"]
          and all(e["model"] == "a" for e in events), events)
    revisions = [e for e in events if e["type"] == "revision"]
    check("published weights are a revision", [e["weights_revision"] for e in revisions] == sorted({e["weights_revision"] for e in revisions})
          and revisions[0]["weights_revision"] == 1 and revisions[-1] == {"type": "revision", "model": "a", "version": "1", "state_revision": step["state_revision"],
                                "weights_revision": step["weights_revision"]}, (events, step))
    page = d.get("/v2/events?types=model&limit=1000").json["data"]
    check("pages have them, too", [e["action"] for e in page if e["model"] == "a"] == ["created", "replaced", "deleted"]
          and [e["action"] for e in page if e["model"] == "other"] == ["created"], page)
    path, found = "/v2/events?types=model&model=a&limit=1", []
    while path:
        page = d.get(path).json
        found, path = found + page["data"], page["next"]
    check("the next page keeps the question", [e["action"] for e in found if e["type"] != "gap"] == ["created", "replaced", "deleted"], found)
    # a run that publishes at every step: revisions are told ten times a second at most, the last one always
    m = d.create("b", training=TRAINING)
    d.put("/v2/datasets/toy?label=label", CSV)
    stream = Stream(d, "/v2/events?types=revision,status&model=b").open()
    d.post("/v2/jobs", {"type": "train", "model": "b", "dataset": "toy", "epochs": 100, "batch_size": 5, "checkpoint_every": "never"})
    events = [data for _, _, data in stream.until(lambda e: e[2].get("status") in ("succeeded", "failed"))]
    stream.close()
    revisions = [e["weights_revision"] for e in events if e["type"] == "revision"]
    check("a job's revisions are coalesced, the last one is told", events[-1]["status"] == "succeeded" and revisions == sorted(set(revisions))
          and revisions[-1] == d.get(m).json["weights_revision"] and len(revisions) < 400, revisions)


def limit(check, d):
    streams = []

    def another():
        streams.append(Stream(d, "/v2/events", source=f"127.0.0.{1 + len(streams) // 100}").open())
        if streams[-1].answer.status == 429:
            streams.pop().close()
        return len(streams) == LIMIT - 1  # and the quiet one

    d.wait(another, "streams: readers that have gone are found out", 30)
    check("as many streams as there may be", {s.answer.status for s in streams} == {200})
    more = Stream(d, "/v2/events", source="127.0.0.9").open()
    problem = json.loads(more.answer.read())
    check("one more is 429 rate_limited", more.answer.status == 429 and problem["code"] == "rate_limited"
          and int(more.answer.headers["Retry-After"]) > 0, problem)
    check("requests are not counted among them", d.get("/v2/events").status == 200)
    d.create("noisy")
    told = [s.until(lambda e: e[2].get("model") == "noisy")[-1][2] for s in streams]
    check("every one is told", all(e["action"] == "created" for e in told), told[:3])
    for s in [more, *streams]:
        s.close()
    again = []

    def room():
        s = Stream(d, "/v2/events").open()
        again.append(s.answer.status)
        s.close()
        return again[-1] == 200

    d.wait(room, "room for a stream", 20)


def gaps(check, d):
    d.create("c", training=TRAINING)
    job = d.post("/v2/jobs", {"type": "train", "model": "c", "dataset": "toy", "epochs": 100000, "batch_size": 5,
                              "checkpoint_every": "never"}).json["id"]
    connection = http.client.HTTPConnection(d.host, d.port)
    for i in range(RING):  # each is one event at least, "pausing" or "running", of the kind that none is left out
        connection.request("POST", f"/v2/jobs/{job}/{('pause', 'resume')[i % 2]}")
        connection.getresponse().read()
    connection.close()
    d.post(f"/v2/jobs/{job}/cancel")
    for path in (f"/v2/jobs/{job}/events", "/v2/events"):
        page = d.get(path + "?after=2&limit=1000").json["data"]
        stream = Stream(d, path, Last_Event_ID="2")
        events = stream.until(lambda e: e[2].get("status") == "cancelled")
        stream.close()
        check(f"{path}: what fell out is a gap", events[0][1] == "gap" and events[0][2]["after"] == 2 and events[1][0] >= events[0][2]["next"] > 3
              and page[0]["type"] == "gap" and page[0]["after"] == 2 and page[1]["id"] > 3, (events[:3], page[:3]))
        ids = [e[0] for e in events[1:]]
        check(f"{path}: and the rest follows in order", ids == sorted(set(ids)) and len(ids) > RING // 4, ids[:10])
        recent = Stream(d, path, Last_Event_ID=str(ids[-3]))
        events = recent.until(lambda e: e[2].get("status") == "cancelled")
        recent.close()
        check(f"{path}: none is told where nothing is missing", "gap" not in [e[1] for e in events], events)


def slow(check, d):
    """A reader that stops reading: what was superseded meanwhile is left out, what was not is there."""
    names = [f"s{i}" for i in range(20)]
    for name in names:
        d.create(name, training=TRAINING)
    reader = Stream(d, "/v2/events?types=model,revision", buffer=2048).open()
    begun = d.post("/v2/models/s0/train_step", batch(3)).json["parameters"]["weights_revision"]
    reader.until(lambda e: e[1] == "revision" and e[2]["weights_revision"] == begun and e[2]["model"] == "s0")
    connection, body = http.client.HTTPConnection(d.host, d.port), json.dumps(batch(3))
    steps = made = 0
    while steps < 4000 and (steps < 1500 or made < 15):
        for name in names:
            connection.request("POST", f"/v2/models/{name}/train_step", body)
            answer = json.loads(connection.getresponse().read())
            steps += 1
        if steps % 100 == 0:
            d.create(f"new{made}")
            made += 1
    connection.close()
    d.create("end")
    events = reader.until(lambda e: e[2]["model"] == "end" and e[1] == "revision")
    reader.close()
    revisions = [e[2] for e in events if e[1] == "revision"]
    last = {e["model"]: e["weights_revision"] for e in revisions}
    check("a slow reader misses revisions that newer ones replaced", len(names) <= len(revisions) < steps, (len(revisions), steps))
    check("but not the last ones", all(last[name] == d.get(f"/v2/models/{name}").json["weights_revision"] for name in names), last)
    created = [e[2]["model"] for e in events if e[1] == "model"]
    check("and nothing that only was told once", created == [f"new{i}" for i in range(made)] + ["end"], created)
    check("without a gap", "gap" not in [e[1] for e in events])


def in_flight(check, d):
    """A request whose key is that of one that is still running."""
    wide = {"class_name": "Sequential", "config": {"layers": [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
        {"class_name": "SpectralDense", "config": {"units": 700, "name": "a"}},
        {"class_name": "SpectralDense", "config": {"units": 700, "name": "b"}},
        {"class_name": "SpectralDense", "config": {"units": 3, "name": "y"}}]}}
    d.create("wide", wide, TRAINING)
    d.put("/v2/datasets/long?label=label", CSV + CSV.split("\n", 1)[1] * 999)
    for attempt in range(10):  # the first may have ended before the second comes
        key, first = {"Idempotency-Key": f"slow{attempt}"}, []
        going = threading.Thread(target=lambda: first.append(d.call("POST", "/v2/models/wide/evaluate", {"dataset": "long"}, key)))
        going.start()
        time.sleep(0.01 * attempt)
        second = d.call("POST", "/v2/models/wide/evaluate", {"dataset": "long"}, key)
        going.join()
        if 409 in (second.status, first[0].status):
            break
    refused, other = (second, first[0]) if second.status == 409 else (first[0], second)
    check("a key that is in use is 409 idempotency_in_flight", refused.status == 409 and refused.code == "idempotency_in_flight"
          and int(refused.headers["Retry-After"]) > 0 and other.status == 200, f"{first[0]} {second}")
    again = d.call("POST", "/v2/models/wide/evaluate", {"dataset": "long"}, key)
    check("and later gets the first one's answer", again.status == 200 and again.headers["Idempotency-Replayed"] == "true"
          and again.body == other.body, again)


def plan(check):
    with Daemon("--threads", "2", "--log-level", "error") as d:
        began = time.monotonic()
        quiet = Stream(d, "/v2/events?types=shutdown").open()
        models(check, d)
        limit(check, d)
        gaps(check, d)
        slow(check, d)
        in_flight(check, d)
        m = d.create("after", training=TRAINING)
        step = d.post(m + "/train_step", batch()).json["parameters"]
        ping = quiet.until(lambda e: True)[0]
        check("a silent stream is pinged", ping[1:] == ("comment", ": ping") and time.monotonic() - began > PING - 1, ping)
        check("a drain", d.stop() == 0, d.said())
        check("tells the streams", [e[1] for e in quiet.until(lambda e: e[1] == "shutdown") if e[1] != "comment"] == ["shutdown"])
        quiet.close()
        d.start()
        page = d.get("/v2/events?model=after&limit=1000").json["data"]
        d.post("/v2/repository/models/after/unload")
        d.post("/v2/repository/models/after/load")
        actions = [e["action"] for e in d.get("/v2/events?model=after&types=model").json["data"]]
        check("so are those that are unloaded and loaded again", actions == ["loaded", "unloaded", "loaded"], actions)
        check("models that are loaded are told", [(e["type"], e.get("action"), e.get("weights_revision")) for e in page]
              == [("model", "loaded", None), ("revision", None, step["weights_revision"])], page)


run(plan)
