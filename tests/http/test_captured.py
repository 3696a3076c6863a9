"""Ten requests as tritonclient's and KServe's Python clients send them, replayed byte by byte; what their readers do with the answers."""

import base64
import gzip
import json
import socket
import struct
import zlib

from daemon import Daemon, floats, run

# y = 2 x
DOUBLE = {"class_name": "Sequential", "config": {"layers": [
    {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
    {"class_name": "Dense", "config": {"units": 4, "name": "y", "use_bias": False}}]}}
NUMBERS = bytes.fromhex("00000000 0000803f 00000040 00004040 00008040 0000a040 0000c040 0000e040")
TWICE = [2.0 * i for i in range(8)]

INFER = "POST /v2/models/m/infer HTTP/1.1"
G5 = (b'{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","parameters":{"binary_data_size":32}}],'
      b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}')
# name: (request line, headers of note, body)
CAPTURED = {
    "G1 index": ("POST /v2/repository/index HTTP/1.1", {}, b""),
    "G2 load": ("POST /v2/repository/models/m/load HTTP/1.1", {"content-length": "59"},
                b'{"parameters":{"config":"{\\"a\\":1}","file:1/w.bin":"YWJj"}}'),
    "G4 JSON": (INFER, {"content-length": "158"},
                b'{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[0.0,1.0,2.0,3.0,4.0,5.0,6.0,7.0]}],'
                b'"outputs":[{"name":"y","parameters":{"binary_data":false}}]}'),
    "G5 binary": (INFER, {"inference-header-content-length": "153", "content-length": "185"}, G5 + NUMBERS),
    "G6 every parameter": (INFER, {"inference-header-content-length": "180", "content-length": "212"},
                           b'{"id":"7","inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","parameters":{"binary_data_size":32}}],'
                           b'"parameters":{"priority":2,"timeout":5000,"binary_data_output":true,"k":1.5}}' + NUMBERS),
    "G7 gzip": (INFER, {"content-encoding": "gzip", "accept-encoding": "gzip", "inference-header-content-length": "153",
                        "content-length": "142"}, base64.b64decode(
        "H4sIAMrrA2sC/6tWyswrKC0pVrKKrlbKS8xNVbJSqlDSUSrOSCwAsqONdExidZRSEksSSypBAkpuAcZGQPmCxCKg4pLUIqDOaqWkzLzEosp4kLL44swq"
        "oDpjo9paoMb80hJ00yvx6VayKikqTQVqrWUAgwZ7IOEAREDcAMQLgPgAED9wAAD5OaHxuQAAAA==")),
    "G8 deflate": (INFER, {"content-encoding": "deflate", "inference-header-content-length": "153", "content-length": "130"},
                   base64.b64decode(
        "eJyrVsrMKygtKVayiq5WykvMTVWyUqpQ0lEqzkgsALKjjXRMYnWUUhJLEksqQQJKbgHGRkD5gsQioOKS1CKgzmqlpMy8xKLKeJCy+OLMKqA6Y6PaWqDG"
        "/NISdNMr8elWsiopKk0Faq1lAIMGeyDhAERA3ADEC4D4ABA/cAAA65k5aw==")),
    "G9 KServe binary": (INFER, {"content-type": "application/octet-stream", "inference-header-content-length": "234",
                                 "Content-Length": "266", "Accept-Encoding": "gzip, deflate, br"},
                         b'{"id": "6e4679eb-1778-4a4b-9170-218ac77926ac", "model_name": "m", "inputs": [{"name": "x", "shape": [2, 4], '
                         b'"datatype": "FP32", "parameters": {"binary_data_size": 32}}], "outputs": [{"name": "y", "parameters": '
                         b'{"binary_data": true}}]}' + NUMBERS),
    "G10 KServe JSON": (INFER, {"content-type": "application/json", "Content-Length": "179"},
                        b'{"id": "af099059-ca4b-4711-a91a-880262d1e68f", "model_name": "m", "inputs": [{"name": "x", "shape": [2, 4], '
                        b'"datatype": "FP32", "data": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]}]}'),
    "G3 unload": ("POST /v2/repository/models/m/unload HTTP/1.1", {"content-length": "42"},
                  b'{"parameters":{"unload_dependents":false}}'),
}


def replay(d, name):
    """Sent as it is; (status, headers, body) read by length."""
    line, headers, body = CAPTURED[name]
    head = "".join(f"{k}: {v}\r\n" for k, v in {"Host": f"127.0.0.1:{d.port}", **headers}.items())
    with socket.create_connection((d.host, d.port), timeout=60) as s, s.makefile("rb") as file:
        s.sendall(f"{line}\r\n{head}\r\n".encode() + body)
        status = int(file.readline().split()[1])
        got = dict(one.decode().strip().split(": ", 1) for one in iter(file.readline, b"\r\n"))
        got = {k.lower(): v for k, v in got.items()}
        return status, got, file.read(int(got["content-length"]))


def as_numpy(headers, body):
    """tritonclient's and KServe's reader: outputs in their order, binary ones cut from behind the JSON."""
    length = int(headers.get("inference-header-content-length", len(body)))
    document, at, values = json.loads(body[:length]), length, {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        values[output["name"]] = output["data"] if size is None else floats(body[at:at + size])
        at += size or 0
    return document, values, at == len(body)


def plan(check):
    for name, (_, headers, body) in CAPTURED.items():
        lengths = {k.lower(): int(v) for k, v in headers.items() if "length" in k.lower()}
        check(f"{name}: the length is the captured one", lengths.get("content-length", 0) == len(body), (lengths, len(body)))
    for name, unpack in (("G7 gzip", gzip.decompress), ("G8 deflate", zlib.decompress)):
        check(f"{name} is G5", unpack(CAPTURED[name][2]) == G5 + NUMBERS)
    with Daemon() as d:
        m = d.create("m", DOUBLE)
        kernel = struct.pack("<16f", *[2.0 if i % 5 == 0 else 0.0 for i in range(16)])
        wrote = d.put(m + "/weights/y/kernel", kernel, Content_Type="application/octet-stream")
        check("the kernel is twice the identity", wrote.status == 200, wrote)

        status, _, body = replay(d, "G1 index")
        check("G1: the index without a length", status == 200 and json.loads(body) == [{"name": "m", "version": "1", "state": "READY", "reason": ""}], body)
        # What was captured is no model: the client sends whatever it is given. It is refused as a whole and the model goes on.
        status, _, body = replay(d, "G2 load")
        check("G2: a load of files that are no model", status == 400 and "failed to load 'm'" in json.loads(body)["error"], (status, body))
        for name, binary in (("G4 JSON", False), ("G5 binary", True), ("G6 every parameter", True), ("G7 gzip", True), ("G8 deflate", True),
                             ("G9 KServe binary", True), ("G10 KServe JSON", False)):
            status, headers, body = replay(d, name)
            try:
                document, values, whole = as_numpy(headers, body)
            except (ValueError, KeyError) as e:
                check(f"{name}: is read", False, f"{e!r}: {status} {headers} {body!r}")
                continue
            check(f"{name}: twice the numbers", status == 200 and whole and values == {"y": TWICE}, (status, headers, body))
            check(f"{name}: in the form that was asked for", headers["content-type"] == ("application/octet-stream" if binary else "application/json")
                  and ("inference-header-content-length" in headers) == binary and "content-encoding" not in headers, headers)
            asked = json.loads((G5 if name in ("G7 gzip", "G8 deflate") else CAPTURED[name][2]).split(b"\0")[0])
            output = {"name": "y", "datatype": "FP32", "shape": [2, 4], **({"parameters": {"binary_data_size": 32}} if binary else {"data": TWICE})}
            check(f"{name}: with every member", document == {"model_name": "m", "model_version": "1", "parameters": {"weights_revision": 2}, "outputs": [output],
                                                             **({"id": asked["id"]} if "id" in asked else {})}, document)
        status, _, body = replay(d, "G3 unload")
        check("G3: unloaded", status == 200 and json.loads(body)["name"] == "m" and d.get(m + "/ready").status in (400, 404, 503), body)


run(plan)
