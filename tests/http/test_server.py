"""The server below the API: framing, limits, deadlines, sockets, signals, systemd."""

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import zlib

from daemon import MLP, ONELIPD, TRAINING, Daemon, batch, run, tensor

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Talk:
    """One connection, byte by byte."""

    def __init__(self, d=None, path=None):
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection((d.host, d.port))
        self.socket.settimeout(30)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)
        return self

    def answer(self, head=False):
        """The next answer: status, headers, body. (0, {}, b"") when the server closed."""
        line = self.file.readline()
        if not line:
            return 0, {}, b""
        headers = {}
        while (field := self.file.readline().strip()):
            name, value = field.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        status = int(line.split()[1])
        bare = head or status in (100, 204, 304)
        return status, headers, b"" if bare else self.file.read(int(headers.get("content-length", 0)))

    def closed(self):
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()
        self.socket.close()


def quietly(call):
    """For requests whose answer the end of the daemon cuts off."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return call()


def post(path, length, extra=b""):
    return b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % length + extra + b"\r\n"


@contextlib.contextmanager
def started(*options, environment=None, shell=None, **more):
    """onelipd with these options and nothing else: the process and the first `lines` lines of its stdout."""
    lines = more.pop("lines", 1)
    folder = tempfile.mkdtemp(prefix="onelip-")
    command = [*(shell or []), ONELIPD, "--state-dir", f"{folder}/state", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **(environment or {})}, **more)
    try:
        yield process, [process.stdout.readline().strip() for _ in range(lines)]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def ended(process, seconds=30):
    """Exit status and stderr's last line."""
    _, err = process.communicate(timeout=seconds)
    return process.returncode, err.strip().split("\n")[-1]


def answers(check, d):
    a = d.get("/v2/none/such")
    check("a failure has the members of the contract in their order",
          list(a.json) == ["error", "type", "title", "status", "detail", "instance", "code", "request_id"]
          and a.json["error"] == a.json["detail"] == "Not Found" and a.json["type"] == "/v2/problems/not_found"
          and a.json["instance"] == "/v2/none/such" and a.json["request_id"] == a.headers["X-Request-Id"], a)
    check("its type is application/json, nothing behind it", a.headers["Content-Type"] == "application/json", a)
    check("an Accept with q=0 is no wish", d.get("/v2/none", Accept="application/problem+json;q=0").headers["Content-Type"]
          == "application/json")
    ids = {d.get("/v2").headers["X-Request-Id"] for _ in range(20)}
    check("every request has an id of its own", len(ids) == 20 and all(len(i) == 12 for i in ids), ids)
    check("an id that cannot be printed is not echoed", d.get("/v2", X_Request_Id="a b").headers["X-Request-Id"] != "a b")
    check("Server-Timing is there", all(f"{part};dur=" in a.headers["Server-Timing"]
                                        for part in ("queue", "parse", "compute", "serialize")), a)
    with Talk(d) as t:
        get = t.send(LIVE).answer()
        head = t.send(LIVE.replace(b"GET", b"HEAD")).answer(head=True)
        check("HEAD is GET without the body", head[0] == 200 and head[1]["content-length"] == get[1]["content-length"]
              and t.send(LIVE).answer()[0] == 200, head)
        options = t.send(LIVE.replace(b"GET /v2/health/live", b"OPTIONS /v2/models/m")).answer()
        check("OPTIONS says what is allowed", options[0] == 204 and {"GET", "HEAD", "PUT", "DELETE"} <=
              set(options[1]["allow"].split(", ")), options)
        check("an absolute target is its path", t.send(LIVE.replace(b"/v2", b"http://localhost:1/v2")).answer()[0] == 200)
        evil = t.send(LIVE.replace(b"/v2", b"http://evil.example/v2")).answer()
        check("and its host is the one that counts", evil[0] == 403 and b"host_refused" in evil[2], evil)
        check("a query that is not percent-encoded is 400", t.send(LIVE.replace(b"live", b"live?a=%zz")).answer()[0] == 400)
        many = b"".join(b"X-%d:%s%d\r\n" % (i, b" " * (i % 4), i) for i in range(200))
        long = b"Cookie: a=b; c=\"d\"; e\r\nX-Long: " + b"y" * 20000 + b"\r\nX-Empty:\r\nX-Space: a \r\n"
        check("many and long headers are fine", t.send(LIVE[:-2] + many + b"\r\n").answer()[0] == 200
              and t.send(LIVE[:-2] + long + b"\r\n").answer()[0] == 200)
        check("so are lines that end with a line feed", t.send(LIVE.replace(b"\r", b"")).answer()[0] == 200)
        pipelined = t.send(LIVE * 5 + LIVE.replace(b"/health/live", b"/repository/index") * 5)
        check("and requests in one piece", [pipelined.answer()[0] for _ in range(10)] == [200] * 10)
        check("trailing slash", t.send(LIVE.replace(b"live", b"live/")).answer()[0] == 200)
    with Talk(d) as t:
        check("HTTP/1.0 needs no Host and closes", t.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n").answer()[0] == 200 and t.closed())
    seen = []  # one answer for wait and check: a further request could meet the one before it, which has not ended yet
    d.wait(lambda: seen.append(d.get("/metrics").body.decode()) or "onelip_connections 1\n" in seen[-1], "end of the other connections")
    metrics = seen[-1]
    check("metrics count requests by route", 'onelip_request_duration_seconds_count{method="GET",route="/v2",code="200"}' in metrics
          and 'route="unmatched",code="404"' in metrics and "onelip_connections 1\n" in metrics and "/v2/none" not in metrics, metrics)


def origins(check, d):
    for host, good in (("localhost", True), ("LOCALHOST:9999", True), (f"127.0.0.1:{d.port}", True), ("evil.example", False),
                       ("127.0.0.1.evil.example", False), ("10.0.0.1", False), ("friend.example:80", True), ("", False)):
        status = d.get("/v2", Host=host).status
        check(f"Host {host!r} is {'' if good else 'not '}ours", status == (200 if good else 403), status)
    for origin, good in (("http://localhost", True), ("https://localhost", False), ("http://localhost:81", False), ("null", False),
                         ("http://evil.example", False)):
        a = d.call("DELETE", "/v2/models/none", headers={"Host": "localhost", "Origin": origin})
        check(f"Origin {origin} may {'' if good else 'not '}change things", a.code == ("unknown_model" if good else "origin_refused"), a)
    check("nothing of CORS is said unless it is asked for", not any(h.startswith(("Access-Control", "Vary"))
                                                                    for h in d.get("/v2", Origin="http://localhost").headers))
    check("any Origin may read", d.get("/v2", Origin="http://evil.example").status == 200)


def pages(check):
    """CORS: pages of https://lab.example may use the server, others may not."""
    lab, asks = "https://lab.example", {"Access-Control-Request-Method": "POST"}
    with Daemon("--cors-origins", f"{lab},http://127.0.0.1:3000") as d:
        a = d.call("OPTIONS", "/v2/models/m/infer", headers={"Origin": lab, **asks, "Access-Control-Request-Headers":
                   "content-type, x-evil,inference-header-content-length", "Access-Control-Request-Private-Network": "true"})
        check("a page may ask whether it may send", a.status == 204 and a.headers["Access-Control-Allow-Origin"] == lab
              and "POST" in a.headers["Access-Control-Allow-Methods"] and a.headers["Vary"] == "Origin"
              and a.headers["Access-Control-Allow-Headers"] == "Content-Type, Inference-Header-Content-Length"
              and a.headers["Access-Control-Max-Age"] == "600"
              and a.headers["Access-Control-Allow-Private-Network"] == "true", a)
        for path in ("/v2", "/v2/none"):
            a = d.get(path, Origin=lab)
            check(f"and read the answer of {path}", a.headers["Access-Control-Allow-Origin"] == lab
                  and "Inference-Header-Content-Length" in a.headers["Access-Control-Expose-Headers"]
                  and a.headers["Vary"] == "Origin", a)
        a = d.call("DELETE", "/v2/models/none", headers={"Origin": lab})
        check("and change things", a.code == "unknown_model", a)
        for origin in ("https://lab.example:8443", "http://lab.example", "https://evil.example", "null", "https://LAB.example"):
            a = d.call("OPTIONS", "/v2/models/m/infer", headers={"Origin": origin, **asks})
            b = d.get("/v2", Origin=origin)
            c = d.call("DELETE", "/v2/models/none", headers={"Origin": origin})
            check(f"pages of {origin} may not", c.code == "origin_refused" and b.headers["Vary"] == "Origin"
                  and not any("Access-Control-Allow-Origin" in x.headers for x in (a, b, c)), f"{a} {b} {c}")
        check("without an Origin only Vary says that there could be one", "Access-Control-Allow-Origin" not in d.get("/v2").headers
              and d.get("/v2").headers["Vary"] == "Origin")


def keys(check):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "keys.json")

        def write(*scopes):
            file.write_text(json.dumps({"keys": [{"name": s, "sha256": hashlib.sha256(f"key of {s}".encode()).hexdigest(),
                                                  "scopes": [s]} for s in scopes]}))
            file.chmod(0o600)

        write("infer", "train", "admin", "metrics")
        with Daemon("--api-key-file", file) as d:
            definition = json.dumps({"definition": MLP})
            asked = [("GET", "/v2/health/ready", None, ""), ("GET", "/v2", None, "infer train admin"),
                     ("PUT", "/v2/models/m", definition, "admin"), ("PUT", "/v2/models/m/training", json.dumps(TRAINING), "train admin"),
                     ("POST", "/v2/models/m/infer", json.dumps({"inputs": batch(1)["inputs"][:1]}), "infer train admin"),
                     ("POST", "/v2/models/m/train_step", json.dumps(batch(4)), "train admin"),
                     ("GET", "/v2/models/m/weights", None, "train admin"), ("GET", "/metrics", None, "metrics admin"),
                     ("DELETE", "/v2/models/m", None, "admin")]
            for method, path, body, scopes in asked:
                for who in ("infer", "train", "metrics", "", "nobody", "admin"):  # admin last: a model is deleted once
                    bearer = {"Authorization": f"Bearer key of {who}"} if who != "train" else {"X-Api-Key": "key of train"}
                    a = d.call(method, path, body, bearer if who else {})
                    wanted = (None if who in scopes.split() or not scopes else
                              "forbidden" if who in ("infer", "train", "metrics") else "unauthorized")
                    check(f"{method} {path} with {who or 'no'} key: {wanted or 'fine'}", a.code == wanted and (a.status < 300) == (not wanted)
                          and (wanted != "unauthorized" or a.status == 401 and a.headers["WWW-Authenticate"] == "Bearer")
                          and (wanted != "forbidden" or a.status == 403), a)
            check("a preflight or a wrong path needs none", d.get("/v2/none").status == 404 and d.call("OPTIONS", "/v2").status == 204)
            write("infer")
            d.signal(signal.SIGHUP)
            d.wait(lambda: "read again" in d.said(), "second reading")
            check("SIGHUP takes keys away", d.get("/v2", X_Api_Key="key of admin").status == 401
                  and d.get("/v2", X_Api_Key="key of infer").status == 200)
            file.write_text("{")
            d.signal(signal.SIGHUP)
            d.wait(lambda: "the keys stay" in d.said(), "complaint")
            check("and keeps them when the file is wrong", d.get("/v2", X_Api_Key="key of infer").status == 200)
        with started("--api-key-file", str(file), lines=0) as (process, _):
            status, line = ended(process)
            check("a wrong file is 78 and one line", status == 78 and line.startswith(f"{file}:1: "), (status, line))
        write("infer")
        file.chmod(0o644)
        with started("--api-key-file", str(file), lines=0) as (process, _):
            status, line = ended(process)
            check("so is one that others may read", status == 78 and "0644" in line, (status, line))
        pathlib.Path(folder, "api-keys").write_text(file.read_text())
        with started("--listen", "0.0.0.0:0", environment={"CREDENTIALS_DIRECTORY": folder}) as (process, lines):
            target = type("", (), {"host": "127.0.0.1", "port": int(lines[0].rsplit(":", 1)[1])})
            with Talk(target) as t:
                check("a credential of systemd allows every address", t.send(LIVE.replace(b"/health/live", b"")).answer()[0] == 401)


def encrypted(check):
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        certificate, key, unix = f"{folder}/c.pem", f"{folder}/k.pem", f"{folder}/s"

        def show(number, key_number=None):
            shutil.copyfile(here / f"tls-{number}.pem", certificate)
            shutil.copyfile(here / f"tls-{key_number or number}.key", key)

        def call(port, trusted, method="GET", path="/v2", headers=None, version=None):
            context = ssl.create_default_context(cafile=here / f"tls-{trusted}.pem")
            if version:
                context.maximum_version = version
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
            try:
                connection.request(method, path, headers=headers or {})
                return connection.getresponse().status
            finally:
                connection.close()

        show(1)
        pair = ("--tls-certificate", certificate, "--tls-private-key", key)
        with started("--listen", "127.0.0.1:0", "--listen", f"unix:{unix}", *pair, lines=2) as (process, lines):
            port = int(lines[0].rsplit(":", 1)[1])
            check("TCP listeners speak https", lines[0].startswith("listening https://127.0.0.1:") and call(port, 1) == 200, lines)
            check("TLS 1.2 is the oldest", call(port, 1, version=ssl.TLSVersion.TLSv1_2) == 200)
            with Talk(path=unix) as t:
                check("unix sockets do not", t.send(LIVE).answer()[0] == 200)
            check("its own pages have https", call(port, 1, "DELETE", "/v2/models/a", {"Origin": f"https://127.0.0.1:{port}"}) == 404
                  and call(port, 1, "DELETE", "/v2/models/a", {"Origin": f"http://127.0.0.1:{port}"}) == 403)
            with Talk(type("", (), {"host": "127.0.0.1", "port": port})) as t:
                check("plain http gets no answer", t.send(LIVE).file.read().find(b"200") < 0)
            show(2)
            process.send_signal(signal.SIGHUP)
            for _ in range(100):
                with contextlib.suppress(ssl.SSLError):
                    if call(port, 2) == 200:
                        break
                time.sleep(0.05)
            check("SIGHUP shows another certificate", call(port, 2) == 200)
            show(2, 1)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            check("but not one with the key of another", call(port, 2) == 200)
            process.terminate()
            check("and it ends with 0", process.wait(30) == 0)
        for why, options, word in (("a key of another certificate", pair, "another certificate"),
                                   ("a key for a certificate", ("--tls-certificate", key, "--tls-private-key", key), "no certificate"),
                                   ("no file", ("--tls-certificate", f"{folder}/no", "--tls-private-key", key), "no certificate"),
                                   ("half of the pair", pair[:2], "both or neither")):
            with started("--listen", "127.0.0.1:0", *options, lines=0) as (process, _):
                status, line = ended(process)
                check(f"{why} is 78 and one line", status == 78 and word in line, (status, line))


def framing(check, d):
    body = b"GET /v2/models HTTP/1.1\r\nHost: localhost\r\n\r\n"  # what a second reader could take for a request
    length = b"Content-Length: %d\r\n" % len(body)
    start = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n"
    for name, request in (
            ("a length twice", start + length + length + b"\r\n" + body),
            ("two lengths", start + length + b"Content-Length: 0\r\n\r\n" + body),
            ("a length and chunks", start + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + body),
            ("a space before the colon", start + b"Content-Length : %d\r\n\r\n" % len(body) + body),
            ("a tab before the colon", start + b"Content-Length\t: %d\r\n\r\n" % len(body) + body),
            ("another coding", start + b"Transfer-Encoding: identity\r\n\r\n" + body),
            ("chunks twice", start + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + body),
            ("a folded coding", start + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + body),
            ("a folded header", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n\t2\r\n\r\n" + body),
            ("a folded header in the middle", b"GET /v2 HTTP/1.1\r\nX-A: 1\r\n 2\r\nHost: localhost\r\n\r\n" + body),
            ("a NUL in a header", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-A: 1\0002\r\n\r\n" + body),
            ("no Host", b"GET /v2 HTTP/1.1\r\n\r\n" + body),
            ("two Hosts", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n" + body),
            ("a carriage return in a value", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n" + body),
            ("chunks in HTTP/1.0", b"POST /v2/models HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + body),
            ("a NUL in the target", b"GET /v2\0/x HTTP/1.1\r\nHost: localhost\r\n\r\n" + body)):
        with Talk(d) as t:
            status, headers, text = t.send(request).answer()
            check(f"{name} is 400, once, and the end", status == 400 and json.loads(text)["code"] == "bad_framing"
                  and headers["connection"] == "close" and t.closed(), (status, headers, text))
    for name, request in (("a signed length", start + b"Content-Length: +5\r\n\r\n" + body),
                          ("a list of lengths", start + b"Content-Length: 5, 5\r\n\r\n" + body)):
        with Talk(d) as t:  # libmicrohttpd answers these
            answer = t.send(request).file.read()
            check(f"{name} is 400 and the end", answer.startswith(b"HTTP/1.1 400 ") and b"200 OK" not in answer, answer)


def bodies(check, d):
    with Talk(d) as t:
        refused = t.send(post(b"/v2/none", 5000) + b"x" * 5000).answer()
        check("a small body is read before it is refused", refused[0] == 404 and t.send(LIVE).answer()[0] == 200, refused)
    with Talk(d) as t:
        status, headers, text = t.send(post(b"/v2/models/m/infer", 100001) + b" " * 100001).answer()
        check("a body over the limit is 413", status == 413 and json.loads(text)["code"] == "too_large"
              and t.send(LIVE).answer()[0] == 200, text)
    with Talk(d) as t:
        status, headers, text = t.send(post(b"/v2/models/m/infer", 50 << 20)).answer()
        check("at once when it is large, and closed", status == 413 and headers["connection"] == "close" and t.closed(), headers)
    with Talk(d) as t:
        status = t.send(post(b"/v2/models/m/infer", 100001, b"Expect: 100-continue\r\n")).answer()[0]
        check("nobody is told to go on with it", status == 413, status)
    with Talk(d) as t:
        first = t.send(post(b"/v2/models", 2, b"Expect: 100-continue\r\n")).answer()[0]
        second = t.send(b"{}").answer()
        check("who may go on is told so", first == 100 and second[0] == 400, (first, second))
    with Talk(d) as t:
        chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
        status, _, text = t.send(b"POST /v2/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 20
                                 + b"0\r\n\r\n").answer()
        check("chunks over the limit are 413 at their end", status == 413 and t.send(LIVE).answer()[0] == 200, text)
    with Talk(d) as t:
        try:
            t.send(b"POST /v2/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(2000):
                t.send(chunk)
            over = False
        except OSError:
            over = True
        check("chunks without end are not read for ever", over)
    index = b'{"ready": true}'
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    for name, coding, data in (("gzip", "gzip", gzip.compress(index)), ("gzip of two members", "GZIP", gzip.compress(index[:5])
                               + gzip.compress(index[5:])), ("deflate", "deflate", zlib.compress(index)),
                               ("deflate without zlib's header", "deflate", raw.compress(index) + raw.flush()),
                               ("identity", "identity", index), ("an empty body", "gzip", b"")):
        a = d.call("POST", "/v2/repository/index", data, {"Content-Encoding": coding})
        check(f"{name} is read", a.status == 200, a)
    whole = gzip.compress(index)
    for name, data in (("half a gzip body", whole[:-9]), ("one without its end", whole[:-1]), ("one with more behind it", whole + b"x"),
                       ("one with a wrong checksum", whole[:-6] + b"x" + whole[-5:]), ("none at all", index)):
        a = d.call("POST", "/v2/repository/index", data, {"Content-Encoding": "gzip"})
        check(f"{name} is 400", a.status == 400 and a.code == "bad_request", a)
    for size, status in ((100000, 200), (100001, 413), (1 << 28, 413)):
        a = d.call("POST", "/v2/repository/index", gzip.compress(b"{}" + b" " * (size - 2)), {"Content-Encoding": "gzip"})
        check(f"{size} bytes behind a coding are {status}", a.status == status, a)
    check("memory of bodies is given back", b"onelip_body_bytes_in_flight 0\n" in d.get("/metrics").body)
    a = d.call("POST", "/v2/models", b"{}", {"Content-Encoding": "br"})
    check("an unknown coding is 415", a.status == 415 and a.code == "unsupported_encoding" and a.headers["Accept-Encoding"], a)
    with Talk(d) as t:
        t.send(LIVE[:-2] + b"X: " + b"a" * 40000 + b"\r\n\r\n")
        check("too many headers are 431", t.answer()[0] == 431)
    check("and nothing of this did harm", d.get("/v2/health/live").status == 200)


def one_connection(check, d):
    """What a connection keeps of its last request never shows in the next: other targets, methods, bodies, encodings."""
    def one(method, path, body=b"", chunked=False, **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"] + [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
        if chunked:
            body = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 700]), body[i:i + 700]) for i in range(0, len(body), 700)) + b"0\r\n\r\n"
            lines.append("Transfer-Encoding: chunked")
        elif body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    for name in ("one", "two"):
        d.create(name)
    infer = json.dumps({"inputs": [tensor("x", [1, 4], [1, 2, 3, 4])], "id": "a"}).encode()
    larger = infer[:-1] + b" " * 5000 + b"}"
    wanted = [(200, one("GET", "/v2/models/one"), '"name":"one"'),
              (200, one("GET", "/v2/models/two"), '"name":"two"'),
              (200, one("GET", "/v2/models/two?x=1"), '"name":"two"'),
              (404, one("GET", "/v2/models/tw"), "unknown_model"),
              (404, one("GET", "/v2/models/twoo"), "unknown_model"),
              (200, one("GET", "http://localhost/v2/models/one"), '"name":"one"'),
              (405, one("POST", "/v2/models/one", infer), "method_not_allowed"),
              (200, one("GET", "/v2/models/one"), '"name":"one"'),
              (400, one("GET", "/v2/models/one/versions/x"), "bad_name"),
              (400, one("GET", "/v2/models/one/versions/x"), "bad_name"),
              (200, one("POST", "/v2/models/one/infer", larger), '"id":"a"'),
              (400, one("POST", "/v2/models/one/infer", infer[:-1]), "bad_json"),  # the rest is still in memory
              (400, one("POST", "/v2/models/one/infer"), "bad_json"),
              (200, one("POST", "/v2/models/one/infer", infer), '"id":"a"'),
              (200, one("POST", "/v2/models/two/infer", larger, True), '"id":"a"'),
              (400, one("POST", "/v2/models/two/infer", infer[:-1], True), "bad_json"),
              (200, one("POST", "/v2/models/two/infer", gzip.compress(larger), Content_Encoding="gzip"), '"id":"a"'),
              (400, one("POST", "/v2/models/two/infer", infer[:-1]), "bad_json"),
              (413, one("POST", "/v2/models/two/infer", larger + b" " * 100000), "too_large"),
              (200, one("POST", "/v2/models/two/infer", infer), '"id":"a"'),
              (200, one("GET", "/v2/health/live"), '"live":true')]
    talk, wrong = Talk(d), []
    for twice in range(2):
        for i, (status, data, text) in enumerate(wanted):
            got, headers, body = talk.send(data).answer()
            if got != status or text not in body.decode():
                wrong.append(f"{i}: {got} {body[:200]}")
    check("one connection, forty-two requests: each is answered by its own target, method and body", not wrong, "\n".join(wrong))
    for name in ("one", "two"):
        d.delete(f"/v2/models/{name}")


def slow(check, d):
    """Connections that do not get on are closed after 10 s, whatever they drip."""
    def drip(t, began):
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 20:
                t.send(b"X-Slow: 1\r\n")
                time.sleep(0.5)

    began = time.monotonic()
    fresh, silent, kept = Talk(d), Talk(d), Talk(d)
    kept.send(LIVE).answer()
    for t in (fresh, kept):
        t.send(LIVE[:-2])
        threading.Thread(target=drip, args=(t, began), daemon=True).start()
    for name, t in (("slow headers", fresh), ("a connection that says nothing", silent), ("slow headers after a request", kept)):
        gone = t.closed()
        took = time.monotonic() - began
        check(f"{name}: closed after 10 s", gone and 9 < took < 16, took)
    d.wait(lambda: b'onelip_rejected_total{reason="slow"} 3' in d.get("/metrics").body, "count of them")


def crowd(check, d):
    held = [Talk(d) for _ in range(140)]
    good = 0
    for t in held:
        with contextlib.suppress(OSError):
            good += t.send(LIVE).answer()[0] == 200
    check("one address has 128 connections at most", good == 128, good)
    for t in held:
        t.__exit__()
    d.wait(lambda: calm(d), "room for others")


def leaving(check, d):
    """Clients that close in the middle of a request: their connections end at once, not when their time is over."""
    for what, data in (("headers", LIVE[:-2]), ("a body", post(b"/v2/repository/index", 100) + b"{"), ("nothing", b"")):
        for _ in range(10):
            with Talk(d) as t:
                t.send(data)
                if data:
                    t.socket.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        d.wait(lambda: calm(d), "room")
        check(f"who leaves after {what} leaves nothing behind", time.monotonic() - began < 8, time.monotonic() - began)
    with Talk(d) as t:  # it only says that it has asked everything
        t.send(LIVE * 3).socket.shutdown(socket.SHUT_WR)
        check("who closes behind whole requests gets their answers", [t.answer()[0] for _ in range(3)] == [200] * 3 and t.closed())


def calm(d):
    """Whether only the connection that asks is left. A refused one has no answer to give."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return b"onelip_connections 1\n" in d.get("/metrics").body
    return False


def deadlines(check):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "c.json")
        file.write_text("{}")
        with Daemon("--config", file, "--threads", "1") as d:
            d.create(training=TRAINING)
            file.write_text('{"request_timeout_seconds": 0.02}')
            d.signal(signal.SIGHUP)
            d.wait(lambda: "read again" in d.said(), "second reading")
            body, got = json.dumps(batch(20000)), []
            threads = [threading.Thread(target=lambda: got.append(d.post("/v2/models/m/train_step", body))) for _ in range(12)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            late = [a for a in got if a.status == 504]
            check("who waited too long is told so, and nothing else", late and all(a.code == "deadline_exceeded" for a in late)
                  and {a.status for a in got} <= {200, 504}, [str(a) for a in got])


def manual(check):
    source = pathlib.Path(__file__).parents[2] / "server" / "onelipd.8"
    page = source.read_text()
    text = subprocess.run([ONELIPD, "--help"], capture_output=True, text=True).stdout
    flags = re.findall(r"^  --([a-z-]+)", text, re.M)
    missing = [f for f in flags if f"Fl -{f}" not in page]
    check("the manual page has every flag of --help", len(flags) > 20 and not missing, missing)


def reloading(check):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "c.json")
        file.write_text('{"max_body_bytes": 5000}')
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(f"{folder}/notify")
        notify.settimeout(20)

        def heard(word):
            with contextlib.suppress(TimeoutError):
                while word not in (text := notify.recv(4096).decode()):
                    pass
                return text
            return ""

        with Daemon("--config", file, environment={"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "300000"}) as d:
            ready = heard("READY=1")
            check("READY=1 with a STATUS", "STATUS=" in ready, ready)
            check("the watchdog is fed", all(heard("WATCHDOG=1") for _ in range(3)))
            check("6,000 bytes are too many", d.post("/v2/models", b" " * 6000).status == 413)
            file.write_text('{"max_body_bytes": 7000, "allowed_hosts": ["friend.example"]}')
            d.signal(signal.SIGHUP)
            check("SIGHUP: RELOADING=1, then READY=1", "MONOTONIC_USEC=" in heard("RELOADING=1") and heard("READY=1"))
            check("and the new configuration holds", d.post("/v2/models", b" " * 6000).status == 400
                  and d.get("/v2", Host="friend.example").status == 200)
            file.write_text('{"max_body_bytes": "x"}')
            d.signal(signal.SIGHUP)
            check("a wrong one is said to be wrong", heard("READY=1") and "max_body_bytes: found \"x\"" in d.said(), d.said())
            check("and the old one stays", d.post("/v2/models", b" " * 6000).status == 400)
            d.process.terminate()
            check("STOPPING=1", heard("STOPPING=1"))
            check("exit status 0", d.process.wait(30) == 0)


def stopping(check):
    with Daemon("--drain-delay-seconds", "1") as d:
        with Talk(d) as kept, Talk(d) as uploading:
            kept.send(LIVE).answer()
            uploading.send(post(b"/v2/repository/index", 2) + b"{")
            time.sleep(0.2)
            d.process.terminate()
            time.sleep(0.3)
            ready = kept.send(LIVE.replace(b"live", b"ready")).answer()
            check("while it drains it is not ready", ready[0] == 503 and b"draining" in ready[2], ready)
            check("but serves during the delay", kept.send(LIVE.replace(b"/health/live", b"")).answer()[0] == 200
                  and d.get("/v2").status == 200)
            time.sleep(1.2)
            status, headers, text = kept.send(LIVE.replace(b"/health/live", b"")).answer()
            check("then new work is refused and the connection closed", status == 503 and json.loads(text)["code"] == "draining"
                  and json.loads(text)["error"].startswith("Server is stopping, scheduler for model has stopped accepting new inference requests")
                  and headers["connection"] == "close" and "retry-after" in headers and kept.closed(), (status, headers, text))
            try:
                d.get("/v2")
                refused = False
            except OSError:
                refused = True
            check("and new connections too", refused)
            check("meanwhile it waits for what is under way", d.alive)
            last = uploading.send(b"}").answer()
            check("which is answered", last[0] == 200 and last[1]["connection"] == "close", last)
        check("a drain ends with 0", d.process.wait(30) == 0, d.said())
    with Daemon() as d, Talk(d) as uploading:
        uploading.send(post(b"/v2/repository/index", 2) + b"{")
        time.sleep(0.2)
        d.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        check("a request under way is waited for", d.alive)
        d.process.terminate()
        check("not after a second signal", d.process.wait(5) == 1 and "second signal" in d.said(), d.said())
        check("the port file is gone then, too", not os.path.exists(f"{d.folder}/ports"))
    with Daemon("--exit-timeout-seconds", "0.5") as d, Talk(d) as uploading:
        uploading.send(post(b"/v2/repository/index", 2) + b"{")
        time.sleep(0.2)
        d.process.terminate()
        check("nor for ever", d.process.wait(5) == 0 and "exit-timeout" in d.said(), d.said())
    with Daemon("--exit-timeout-seconds", "0.2", "--threads", "1") as d:
        d.create(training=TRAINING)
        d.create("idle", training=TRAINING)
        steps = [d.post("/v2/models/idle/train_step", batch(6)).status for _ in range(3)]
        # One step of such a layer takes seconds on any machine, so one is under way when the time is up.
        d.create("slow", {"class_name": "Sequential", "config": {"layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 1500], "name": "x"}},
            {"class_name": "SpectralDense", "config": {"units": 1500, "name": "y"}}]}}, TRAINING)
        body = json.dumps({"inputs": [tensor("x", [1, 1500], [0.5] * 1500), tensor("y_true", [1], [0], "INT64")]})
        threads = [threading.Thread(target=quietly, args=[lambda: d.post("/v2/models/slow/train_step", body)]) for _ in range(4)]
        for t in threads:
            t.start()
        d.wait(lambda: b"onelip_requests_in_flight 5\n" in d.get("/metrics").body, "steps under way")
        d.process.terminate()
        status = d.process.wait(120)
        check("work that takes longer is cut off, and that is said", status == 1 and "still under way" in d.said(), (status, d.said()))
        for t in threads:
            t.join()
        d.start()
        revision = d.get("/v2/models/idle").json["state_revision"]
        check("the steps of other models were saved before", steps == [200] * 3 and revision == 5, revision)


def sockets(check):
    with tempfile.TemporaryDirectory() as folder:
        path, ports = f"{folder}/s", f"{folder}/ports"
        with started("--listen", "127.0.0.1:0", "--listen", f"[::1]:0,unix:{path}", "--port-file", ports, lines=3) as (process, lines):
            urls = [line.removeprefix("listening ") for line in lines]
            while not os.path.exists(ports):
                time.sleep(0.01)
            check("one line a socket, the same in the port file", pathlib.Path(ports).read_text().split() == urls
                  and urls[0].startswith("http://127.0.0.1:") and urls[1].startswith("http://[::1]:") and urls[2] == f"unix:{path}", urls)
            for url in urls[:2]:
                connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
                connection.request("GET", "/v2/health/live")
                check(f"{url} answers", connection.getresponse().status == 200)
                connection.close()
            with Talk(path=path) as t:
                a = t.send(b"DELETE /v2/models/none HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n").answer()
                check("on a unix socket Host and Origin do not matter", b"unknown_model" in a[2], a)
            check("it is for its user and group", os.stat(path).st_mode & 0o777 == 0o660)
            taken = subprocess.run([ONELIPD, "--listen", f"unix:{path}", "--state-dir", f"{folder}/other"], capture_output=True, text=True)
            check("a taken unix socket is one line and 1", taken.returncode == 1 and taken.stderr.count("\n") == 1
                  and "in use" in taken.stderr and not taken.stdout, taken)
            process.kill()
            process.wait()
        check("kill -9 leaves the socket and the port file", os.path.exists(path) and os.path.exists(ports))
        with started("--listen", f"unix:{path}", "--port-file", ports) as (process, lines):
            with Talk(path=path) as t:
                check("the next daemon takes them over", lines == [f"listening unix:{path}"] and t.send(LIVE).answer()[0] == 200, lines)
            process.terminate()
            check("and takes them away", ended(process)[0] == 0 and not os.path.exists(path) and not os.path.exists(ports))
        pathlib.Path(path).write_text("precious")
        with started("--listen", f"unix:{path}", lines=0) as (process, _):
            status, line = ended(process)
            check("a file that is no socket stays", status == 1 and "in use" in line and pathlib.Path(path).read_text() == "precious", line)
        with started("--listen", "127.0.0.1:0", "--port-file", f"{folder}/none/ports", lines=0) as (process, _):
            status, line = ended(process)
            check("a port file that cannot be written is one line and 1", status == 1 and "port-file" in line, line)
        with started("--listen", "0.0.0.0:0", "--insecure") as (process, lines):
            port = int(lines[0].rsplit(":", 1)[1])
            with Talk(path=None, d=type("", (), {"host": "127.0.0.1", "port": port})) as t:
                check("--insecure allows every address", lines[0].startswith("listening http://0.0.0.0:")
                      and t.send(LIVE.replace(b"localhost", b"127.0.0.1")).answer()[0] == 200
                      and t.send(LIVE.replace(b"localhost", b"evil.example")).answer()[0] == 403, lines)


def prefixed(check):
    """--api-prefix: below it is everything, and every link leads there."""
    with started("--listen", "127.0.0.1:0", "--api-prefix", "/base/here") as (process, lines):
        d = Daemon()  # only asks
        d.host, d.port = "127.0.0.1", int(lines[0].rsplit(":", 1)[1])
        below = "/base/here"
        made = [d.post(below + "/v2/models", {"name": name, "definition": MLP}) for name in ("a", "b")]
        check("Location is below the prefix", [a.headers["Location"] for a in made] == [below + "/v2/models/a", below + "/v2/models/b"]
              and d.get(made[0].headers["Location"]).status == 200, made[0])
        first = d.get(below + "/v2/models?detail=true&limit=1").json
        check("so is the next page", first["next"].startswith(below + "/v2/models?") and d.get(first["next"]).json["data"][0]["name"] == "b", first)
        job = d.call("GET", below + "/v2/models/a/lipschitz", headers={"Prefer": "respond-async"})
        place = job.headers["Location"]
        while d.get(place).json["status"] not in ("succeeded", "failed"):
            time.sleep(0.02)
        result = d.get(place).json["result"]
        check("and a job, and what became of it", place.startswith(below + "/v2/jobs/") and d.get(result).json["model_name"] == "a", (job, result))
        none = d.get(below + "/v2/models/none").json
        check("and what a failure links to", none["instance"] == below + "/v2/models/none" and d.get(none["type"]).status == 200, none)
        check("openapi.json says so", d.get(below + "/openapi.json").json["servers"] == [{"url": below}])
        check("its first page, too, which leads nowhere else", d.get(below).headers["Location"] == below + "/ui/"
              and d.get(below + "/ui/").status in (200, 404), (d.get(below), d.get(below + "/ui/")))
        check("beside it is nothing", d.get("/v2").status == d.get("/base").status == d.get("/base/hereabouts/v2").status == 404)
        process.terminate()
        check("and it ends with 0", ended(process)[0] == 0)


def inherited(check):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]

        def hand_over():
            os.dup2(listening.fileno(), 3)

        with started(shell=["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'], preexec_fn=hand_over, pass_fds=[3, listening.fileno()],
                     environment={"ONELIP_LISTEN": ""}) as (process, lines):
            check("an inherited socket stands in for the default", lines == [f"listening http://127.0.0.1:{port}"], lines)
            target = type("", (), {"host": "127.0.0.1", "port": port})
            with Talk(target) as t:
                check("it answers", t.send(LIVE).answer()[0] == 200)
            process.terminate()
            check("and ends with 0", ended(process)[0] == 0)
            queued = Talk(target)  # the kernel keeps it for the next daemon
            check("its queue is left open", queued.send(LIVE) is queued)
            queued.__exit__()


def plan(check):
    with Daemon("--max-body-bytes", "100000", "--allowed-hosts", "friend.example") as d:
        answers(check, d)
        origins(check, d)
        framing(check, d)
        bodies(check, d)
        one_connection(check, d)
        crowd(check, d)
        leaving(check, d)
        slow(check, d)
        check("a drain of all this ends with 0", d.stop() == 0, d.said())
    manual(check)
    keys(check)
    encrypted(check)
    pages(check)
    deadlines(check)
    reloading(check)
    stopping(check)
    sockets(check)
    prefixed(check)
    inherited(check)


run(plan)
