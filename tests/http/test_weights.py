"""Weights over the wire: every dtype of safetensors, what may be missing, what is refused; layers; exports."""

import base64
import hashlib
import json
import struct

from daemon import MLP, TRAINING, Daemon, batch, floats, run, tensor

PROBE = {"inputs": [tensor("x", [3, 4], [1, -2, 3, 0.5, 0, 0, 0, 0, 5, 4, 3, 2])]}


def read(file):
    """name -> (shape, floats), and the metadata."""
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:8 + length])
    body = file[8 + length:]
    meta = header.pop("__metadata__", {})
    return {n: (t["shape"], floats(body[t["data_offsets"][0]:t["data_offsets"][1]])) for n, t in header.items()}, meta


def half(x):
    return struct.pack("<e", x)


def brain(x):
    return struct.pack("<f", x)[2:]


PACK = {"F32": lambda x: struct.pack("<f", x), "F64": lambda x: struct.pack("<d", x), "F16": half, "BF16": brain}


def write(tensors, dtype="F32"):
    header, body = {}, b""
    for name, (shape, values) in tensors.items():
        data = b"".join(PACK[dtype](v) for v in values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def plan(check):
    with Daemon() as d:
        m = d.create(training=TRAINING)
        w = m + "/weights"
        for _ in range(3):
            d.post(m + "/train_step", batch(9, learning_rate=0.05))
        file = d.get(w)
        tensors, meta = read(file.body)

        def outputs(model=m):
            return d.post(model + "/infer", PROBE).json["outputs"][0]["data"]

        # reading
        check("weights are safetensors, with the state's tag", file.headers["Content-Type"] == "application/x-safetensors"
              and file.headers["ETag"] == d.call("HEAD", m).headers["ETag"] and list(meta) == ["definition"], file.headers)
        check("If-None-Match", d.get(w, If_None_Match=file.headers["ETag"]).status == 304)
        index = d.get(w + "?list=true").json
        check("the index", [t["name"] for t in index["tensors"]] == list(tensors) and index["tensors"][0] == {
            "name": "d1/kernel", "datatype": "FP32", "shape": [4, 16], "trainable": True, "bytes": 256}
            and not index["tensors"][2]["trainable"] and index["state_revision"] == 5, index)
        check("another format", d.get(w + "?format=npz").status == 406)

        # writing what was read
        before = outputs()
        revision = d.get(m).json["state_revision"]
        put = d.put(w, file.body, If_Match=file.headers["ETag"])
        check("PUT of the same file", put.status == 200 and put.json["tensors"] == 8 and put.json["state_revision"] == revision + 1
              and put.json["weights_revision"] == revision + 1 and outputs() == before
              and put.json["bytes"] == sum(4 * len(v) for _, v in tensors.values()), put)
        late = d.put(w, file.body, If_Match=file.headers["ETag"])
        check("an old tag is 412", late.status == 412 and late.json["current_revision"] == revision + 1, late)
        check("the optimizer is kept", d.get(m + "/training").json["state"]["step"] == 3)
        check("it survives kill -9", (d.kill(), d.start(), outputs())[2] == before and d.get(m).json["state_revision"] == revision + 1)

        # without effective kernels: computed
        raw = {n: t for n, t in tensors.items() if not n.endswith("wbar")}
        put = d.put(w, write(raw))
        check("without wbar it is computed", put.json["effective_kernel"] == {"d1": "computed", "y": "computed"}
              and max(abs(a - b) for a, b in zip(outputs(), before)) < 1e-5, put)
        # without u and sigma: they stay
        few = {n: t for n, t in raw.items() if n.split("/")[1] in ("kernel", "bias")}
        put = d.put(w, write(few))
        now, _ = read(d.get(w).body)
        check("u and sigma stay where they are", put.status == 200 and now["d1/u"] == tensors["d1/u"]
              and now["d1/sigma"] == tensors["d1/sigma"], put)

        # other dtypes
        for dtype, tolerance in (("F64", 0), ("F16", 2e-3), ("BF16", 2e-2)):
            put = d.put(w, write(raw, dtype))
            now, _ = read(d.get(w).body)
            worst = max(abs(a - b) for n in raw for a, b in zip(now[n][1], raw[n][1]))
            check(f"{dtype} is converted", put.status == 200 and worst <= tolerance * max(abs(v) for v in raw["d1/kernel"][1]) * 4, (put, worst))

        # a stored kernel, three times the computed one, is what is served
        triple = dict(tensors)
        triple["d1/wbar"] = (tensors["d1/wbar"][0], [3 * v for v in tensors["d1/wbar"][1]])
        put = d.put(w, write(triple))
        check("a stored kernel is served and warned about", put.json["effective_kernel"]["d1"] == "stored"
              and any(x["layer"] == "d1" and x["code"] == "stored_kernel" and 1.9 < x["distance"] < 2.1 for x in put.json["warnings"])
              and outputs() != before, put)
        layer = d.get(m + "/layers/d1")
        check("the layer says so", layer.json["effective_kernel"] == "stored" and 1.9 < layer.json["stored_distance"] < 2.1, layer)
        d.kill()
        d.start()
        check("also after kill -9", d.get(m + "/layers/d1").json == layer.json)
        refreshed = d.post(m + "/refresh").json
        check("refresh says how far it went", abs(refreshed["layers"][0]["change"] - 2 / 3) < 0.05
              and refreshed["layers"][0]["name"] == "d1", refreshed)
        check("and brings it back", max(abs(a - b) for a, b in zip(outputs(), before)) < 1e-4
              and d.get(m + "/layers/d1").json["effective_kernel"] == "computed")

        # refusals
        def refused(name, body, status, code, **lists):
            tag = d.call("HEAD", m).headers["ETag"]
            answer = d.put(w, body)
            good = answer.status == status and answer.code == code and d.call("HEAD", m).headers["ETag"] == tag
            for key, value in lists.items():
                good = good and value in json.dumps(answer.json[key])
            check(name, good, answer)

        extra = {**tensors, "d9/kernel": ([1], [1.0])}
        refused("an unexpected tensor", write(extra), 422, "bad_weights", unexpected="d9/kernel")
        short = dict(tensors)
        del short["y/kernel"]
        refused("a missing one", write(short), 422, "bad_weights", missing="y/kernel")
        other = {**tensors, "d1/kernel": ([16, 4], tensors["d1/kernel"][1])}
        refused("another shape", write(other), 422, "bad_weights", shape="d1/kernel")
        zero = {n: (s, [0.0] * len(v)) if n == "d1/kernel" else (s, v) for n, (s, v) in raw.items()}
        refused("a zero kernel", write(zero), 422, "zero_kernel")
        bad = {n: (s, [float("nan")] * len(v)) if n == "d1/bias" else (s, v) for n, (s, v) in tensors.items()}
        refused("NaN", write(bad), 422, "nonfinite")
        refused("an empty body", b"", 422, "bad_file")
        refused("a header beyond the file", struct.pack("<Q", 1 << 60) + b"{}", 422, "bad_file")
        refused("a header that is no JSON", struct.pack("<Q", 8) + b"{{{{{{{{", 422, "bad_file")
        def entry(**changes):
            text = json.dumps({"d1/bias": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64], **changes}}).encode()
            return struct.pack("<Q", len(text)) + text + bytes(64)

        refused("a shape beyond memory", entry(shape=[1 << 62, 8]), 422, "bad_file")
        refused("offsets beyond the file", entry(data_offsets=[0, 128]), 422, "bad_file")
        refused("offsets that run backwards", entry(data_offsets=[64, 0]), 422, "bad_file")
        refused("bytes that do not fit the shape", entry(shape=[15]), 422, "bad_file")
        refused("a zip file", b"PK\3\4" + bytes(100), 501, "unsupported")
        refused("an HDF5 file", b"\x89HDF\r\n\x1a\n" + bytes(100), 501, "unsupported")

        # one tensor
        k = w + "/d1/kernel"
        tensors, _ = read(d.get(w).body)
        one = d.get(k)
        check("one tensor as JSON", one.json["name"] == "d1/kernel" and one.json["datatype"] == "FP32" and one.json["shape"] == [4, 16]
              and [struct.unpack("<f", struct.pack("<f", v))[0] for v in one.json["data"]] == tensors["d1/kernel"][1]
              and one.headers["ETag"] == d.call("HEAD", m).headers["ETag"], one)
        raw_bytes = d.get(k, Accept="application/octet-stream")
        check("as raw bytes", floats(raw_bytes.body) == tensors["d1/kernel"][1] and raw_bytes.headers["ETag"] != one.headers["ETag"])
        npy = d.get(k + "?format=npy")
        check("as npy", npy.headers["Content-Type"] == "application/x-npy" and npy.body[:6] == b"\x93NUMPY"
              and b"'shape': (4, 16)" in npy.body and npy.body[-256:] == raw_bytes.body, npy)
        check("version 1 has it too", d.get(m + "/versions/1/weights/d1/kernel").json == one.json)
        doubled = [2 * v for v in tensors["d1/kernel"][1]]
        for name, body, headers in [
                ("JSON", {"name": "d1/kernel", "datatype": "FP32", "shape": [4, 16], "data": doubled}, {}),
                ("JSON, nested, data alone", {"data": [doubled[16 * i:16 * i + 16] for i in range(4)]}, {"Content_Type": "application/json"}),
                ("raw bytes", struct.pack("<64f", *doubled), {"Content_Type": "application/octet-stream"}),
                ("raw bytes of no type", struct.pack("<64f", *doubled), {}),
                ("npy", npy.body[:-256] + struct.pack("<64f", *doubled), {})]:
            d.put(w, write(tensors))
            put = d.put(k, body, **headers)
            now, _ = read(d.get(w).body)
            check(f"PUT of {name}", put.status == 200 and put.json["tensors"] == 1 and now["d1/kernel"][1] == doubled
                  and put.json["effective_kernel"] == {"d1": "computed", "y": "stored"} and now["y/wbar"] == tensors["y/wbar"], put)
        bias = d.put(w + "/y/bias", {"data": [1, 2, 3]})
        check("a bias moves no kernel", bias.json["effective_kernel"] == {"d1": "computed", "y": "stored"}, bias)
        wbar = d.put(w + "/d1/wbar", {"data": tensors["d1/wbar"][1]})
        check("writing wbar stores it", wbar.json["effective_kernel"]["d1"] == "stored", wbar)
        d.put(w, write(tensors))
        tag = d.call("HEAD", m).headers["ETag"]
        for name, path, body, status, code in [
                ("a layer that is none", "/d9/kernel", {"data": [1]}, 404, "unknown_layer"),
                ("a tensor that is none", "/d1/gamma", {"data": [1]}, 404, "unknown_tensor"),
                ("a layer without any", "/sort/kernel", {"data": [1]}, 404, "unknown_tensor"),
                ("another shape", "/y/bias", {"shape": [1, 3], "data": [1, 2, 3]}, 422, "bad_weights"),
                ("too few numbers", "/y/bias", {"data": [1, 2]}, 400, "size_mismatch"),
                ("a shape beyond memory", "/y/bias", {"shape": [1 << 40, 1 << 40], "data": [1, 2, 3]}, 400, "size_mismatch"),
                ("NaN", "/y/bias", {"data": [1, 2, "NaN"]}, 422, "nonfinite"),
                ("an unknown member", "/y/bias", {"data": [1, 2, 3], "dtype": "f4"}, 400, "unknown_member"),
                ("no data", "/y/bias", {}, 400, "bad_request"),
                ("another name", "/y/bias", {"name": "d1/bias", "data": [1, 2, 3]}, 400, "bad_request"),
                ("another datatype", "/y/bias", {"datatype": "INT8", "data": [1, 2, 3]}, 400, "datatype_mismatch"),
                ("too few bytes", "/y/bias", b"\0" * 8, 400, "size_mismatch"),
                ("a damaged npy file", "/y/bias", npy.body[:50], 422, "bad_file"),
                ("a zero kernel", "/d1/kernel", b"\0" * 256, 422, "zero_kernel")]:
            answer = d.put(w + path, body)
            check(f"one tensor: {name} is {status} {code}", answer.status == status and answer.code == code, answer)
        check("which changed nothing", d.call("HEAD", m).headers["ETag"] == tag)
        check("an old tag is refused", d.put(w + "/y/bias", {"data": [1, 2, 3]}, If_Match='"x"').status == 412)
        check("a format that is none", d.get(k + "?format=csv").json["formats"] == ["json", "npy", "raw"])

        # layers
        d.post(m + "/refresh")
        layers = d.get(m + "/layers").json
        check("layers in the definition's order", [x["name"] for x in layers["data"]] == ["x", "d1", "sort", "y"]
              and [x["index"] for x in layers["data"]] == [0, 1, 2, 3] and layers["has_more"] is False, layers)
        check("a part of them", [x["name"] for x in d.get(m + "/layers?limit=2").json["data"]] == ["x", "d1"]
              and d.get(d.get(m + "/layers?limit=2").json["next"]).json["data"][0]["name"] == "sort")
        d1 = d.get(m + "/versions/1/layers/d1").json
        check("one with its config", d1["config"]["units"] == 16 and d1["input_shape"] == [None, 4] and d1["output_shape"] == [None, 16]
              and d1["k_coef_lip"] == d1["coef_lip"] == d1["claimed"] == 1.0 and d1["effective_kernel"] == "computed"
              and d1["stored_distance"] == 0, d1)
        check("a layer without a kernel", d.get(m + "/layers/sort").json["effective_kernel"] is None)

        # exports
        export = d.get(m + "/export")
        digest = base64.b64encode(hashlib.sha256(export.body).digest()).decode()
        state = d.get(m).json["state_revision"]
        check("the default export is safetensors of everything", export.body == d.get(w).body
              and export.headers["Repr-Digest"] == f"sha-256=:{digest}:" and export.headers["Accept-Ranges"] == "none"
              and export.headers["Content-Disposition"] == f'attachment; filename="m-1-{state}.safetensors"', export.headers)
        check("it has a tag of its own", export.headers["ETag"] != d.get(m + "/export?vanilla=true").headers["ETag"]
              and d.get(m + "/export", If_None_Match=export.headers["ETag"]).status == 304)
        named = d.get(m + "/export?format=safetensors", Accept="application/vnd.keras+json")
        check("format wins over Accept", named.headers["Content-Type"] == "application/x-safetensors" and not named.headers["Vary"], named.headers)
        refused = d.get(m + "/export", Accept="application/x-safetensors;q=0, application/vnd.keras+json;q=0.1")
        check("what is not wanted is not given", refused.headers["Content-Type"] == "application/vnd.keras+json" and refused.headers["Vary"] == "Accept", refused.headers)
        check("Accept chooses", d.get(m + "/export", Accept="application/vnd.keras+json").json["class_name"] == "Sequential")
        for query in ("format=onnx", "format=zip"):
            answer = d.get(f"{m}/export?{query}")
            check(f"{query} is 406 with the list", answer.status == 406 and answer.json["formats"] == ["safetensors", "keras_json"], answer)
        check("MLP again", d.put("/v2/models/z", MLP).status == 201)


run(plan)
