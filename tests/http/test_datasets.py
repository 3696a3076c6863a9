"""Datasets: every format in, pages out, bad files refused, a full disk, restarts."""

import gzip
import io
import json
import os
import resource
import struct
import zipfile
import zlib

from daemon import Daemon, floats, run

D = "/v2/datasets/"


def npy(descr, shape, data, fortran=False):
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''}), }}"
    header = header.encode().ljust((10 + len(header)) // 64 * 64 + 64 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npz(members, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as z:
        for name, data in members.items():
            with z.open(f"{name}.npy", "w", force_zip64=True) as f:  # as numpy.savez does
                f.write(data)
    return out.getvalue()


def safetensors(tensors, metadata=None):
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, bytes_) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def idx(code, shape, data):
    return bytes([0, 0, code, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape) + data


def plan(check):
    pixels = bytes(range(60))
    labels = bytes([0, 1, 2, 1, 0])
    x32 = struct.pack("<6f", 0.5, -1, 2, 3.25, 4, 1e-3)

    with Daemon("--max-upload-bytes", "8000000", "--log-level", "error") as d:
        check("there are none", d.get("/v2/datasets").json == {"object": "list", "data": [], "has_more": False, "next": None})

        # IDX, tensor by tensor
        first = d.put(D + "fashion/x?scale=0.003921569", gzip.compress(idx(8, [5, 3, 4], pixels)))
        check("an IDX file in gzip makes the set", first.status == 201 and first.headers["Location"] == "/v2/datasets/fashion"
              and first.json["samples"] == 5 and first.json["bytes"] == 60, first)
        second = d.put(D + "fashion/y_true", idx(8, [5], labels))
        check("and a plain one joins it", second.status == 200 and second.json["tensors"] == [
            {"name": "y_true", "datatype": "UINT8", "shape": [5], "min": 0, "max": 2, "scale": 1.0, "offset": 0.0, "classes": 3},
            {"name": "x", "datatype": "UINT8", "shape": [5, 3, 4], "min": 0, "max": 59, "scale": 0.003921569, "offset": 0.0}], second)
        check("it is shown as it was said", d.get(D + "fashion").json == second.json)
        check("its ETag answers 304", d.get(D + "fashion", If_None_Match=second.headers["ETag"]).status == 304)
        check("a tensor in pages", d.get(D + "fashion/x?start=1&count=2").json == {
            "name": "x", "datatype": "UINT8", "shape": [2, 3, 4], "data": list(range(12, 36))})
        page = d.get(D + "fashion/x?start=4&count=9", Accept="application/x-npy")
        check("the last page as npy", page.status == 200 and page.body == npy("|u1", [1, 3, 4], pixels[48:]), page)
        plain = d.get(D + "fashion/x?start=4&count=9")
        check("under a tag of its own", plain.headers["ETag"] != page.headers["ETag"] and plain.headers["Vary"] == page.headers["Vary"] == "Accept"
              and d.get(D + "fashion/x?start=4&count=9", If_None_Match=page.headers["ETag"]).status == 200, (plain.headers, page.headers))
        for accept, kind in (("application/x-npy;q=0, */*", "application/json"), ("application/json;q=0.1, application/x-npy", "application/x-npy"),
                             ("application/*", "application/json"), ("image/png, */*;q=0.1", "application/json"), ("text/html", None)):
            answer = d.get(D + "fashion/x", Accept=accept)
            check(f"{accept} is {kind}", (answer.headers["Content-Type"], answer.status) == ((kind, 200) if kind else ("application/json", 406)), answer)
        check("big-endian data is turned", d.put(D + "big/x", idx(0x0b, [2, 2], struct.pack(">4h", 1, -2, 300, -400))).status == 201
              and d.get(D + "big/x").json["data"] == [1, -2, 300, -400])
        check("doubles, too", d.put(D + "big/x", npy(">f8", [2], struct.pack(">2d", 0.1, -2e300))).status == 200
              and d.get(D + "big/x").json["data"] == [0.1, -2e300], d.get(D + "big/x"))
        columns = npy("<f4", [2, 3], struct.pack("<6f", 1, 4, 2, 5, 3, 6), fortran=True)
        check("column-major data is turned", d.put(D + "big/x", columns).status == 200
              and d.get(D + "big/x").json == {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]},
              d.get(D + "big/x"))

        # whole sets
        for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            answer = d.put(D + "pairs", npz({"x": npy("<f4", [3, 2], x32), "y_true": npy("<i8", [3], struct.pack("<3q", 2, 0, 1))}, compression))
            check(f"npz, method {compression}", answer.status in (200, 201) and [t["datatype"] for t in answer.json["tensors"]] == ["FP32", "INT64"]
                  and floats(d.get(D + "pairs/x", Accept="application/x-npy").body[-24:]) == floats(x32), answer)
        wide = {"f": ("BF16", [2, 1], b"\x80\x3f\x00\xc0"), "h": ("F16", [2], b"\x00\x3c\x00\xc0"),
                "i": ("U64", [2], struct.pack("<2Q", 2**64 - 1, 7)), "b": ("BOOL", [2], b"\x01\x00")}
        answer = d.put(D + "mixed", safetensors(wide, {"by": "test"}))
        got = {t: d.get(D + f"mixed/{t}").json["data"] for t in wide} if answer.status == 201 else {}
        check("safetensors of every kind", got == {"f": [1, -2], "h": [1, -2], "i": [2**64 - 1, 7], "b": [True, False]}, (answer, got))
        check("what NumPy does not have becomes float32",
              floats(d.get(D + "mixed/f", Accept="application/x-npy").body[-8:]) == [1.0, -2.0])
        table = 'a,"b, the second",label\r\n1,2.5,0\r\n\r\n-3,"4",2\r\n'
        answer = d.put(D + "toy?label=label", table)
        check("CSV with a label", answer.status == 201 and d.get(D + "toy/x").json == {
            "name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, -3, 4]}
            and d.get(D + "toy/y_true").json == {"name": "y_true", "datatype": "INT64", "shape": [2], "data": [0, 2]}
            and answer.json["tensors"][1]["classes"] == 3, answer)
        answer = d.put(D + "toy?label=a", "a,b\n0.5,1\n1.25,2")
        check("labels that are no integers", answer.status == 200 and d.get(D + "toy/y_true").json["data"] == [0.5, 1.25], answer)
        spaced = d.put(D + "toy?label=label", "a, label\n 1.5 , 0\n2,1\n")
        check("CSV with spaces around names and numbers", d.get(D + "toy/x").json["data"] == [1.5, 2] and
              d.get(D + "toy/y_true").json["data"] == [0, 1], spaced)
        other = d.put(D + "toy?label=z", "a, b\n1,2\n")
        check("a column that is not there: those that are", other.json["error"].endswith('no column "z"; it has a, b'), other)
        check("CSV without a label", d.put(D + "toy", "a,b\n1,2\n").json["tensors"][0]["shape"] == [1, 2])

        # the list
        names = [e["name"] for e in d.get("/v2/datasets").json["data"]]
        check("all are listed", sorted(names) == ["big", "fashion", "mixed", "pairs", "toy"], names)
        page = d.get("/v2/datasets?limit=2").json
        rest = d.get(page["next"]).json
        check("in pages", [e["name"] for e in page["data"]] == names[:2] and page["has_more"]
              and [e["name"] for e in rest["data"]] == names[2:4] and rest["has_more"], (page, rest))

        # what is refused, and changes nothing
        before = d.get("/v2/datasets").body
        whole = npz({"x": npy("<f4", [3, 2], x32)})
        bomb = gzip.compress(bytes(9000000))
        broken = bytearray(npz({"x": npy("<f4", [3, 2], x32)}, zipfile.ZIP_STORED))
        broken[broken.index(b"NUMPY") + 130] ^= 1
        lying = bytearray(whole)
        central = lying.rindex(b"PK\x01\x02")
        lying[central + 24:central + 28] = struct.pack("<I", 100)
        huge = bytearray(whole)
        huge[central + 24:central + 28] = struct.pack("<I", 0x7fffffff)
        for name, path, body, status, code in [
            ("an empty file", "pairs", b"", 422, "bad_file"), ("text", "pairs", b"hello\nworld\n", 422, "bad_file"),
            ("binary rubbish", "pairs", bytes(range(256)) * 9, 422, "bad_file"),
            ("a torn npz", "pairs", whole[:-30], 422, "bad_file"), ("a torn npz in its data", "pairs", whole[50:], 422, "bad_file"),
            ("a wrong checksum", "pairs", bytes(broken), 422, "bad_file"), ("a member longer than its size", "pairs", bytes(lying), 422, "bad_file"),
            ("a member said to be huge", "pairs", bytes(huge), 413, "too_large"),
            ("a member outside", "pairs", npz({"../x": npy("<f4", [3, 2], x32)}), 422, "bad_file"),
            ("no members", "pairs", npz({}), 422, "bad_file"),
            ("tensors of different length", "pairs", npz({"x": npy("<f4", [3, 2], x32), "y": npy("|u1", [2], b"ab")}), 422, "bad_file"),
            ("NaN", "pairs", npz({"x": npy("<f4", [3, 2], x32[:20] + struct.pack("<f", float("nan")))}), 422, "nonfinite"),
            ("strings", "pairs", npz({"x": npy("<U4", [1], bytes(16))}), 422, "bad_file"),
            ("a scalar", "pairs", npz({"x": npy("<f4", [], bytes(4))}), 422, "bad_file"),
            ("no samples", "pairs", npz({"x": npy("<f4", [0, 2], b"")}), 422, "bad_file"),
            ("a shape beyond the file", "pairs", npz({"x": npy("<f4", [2**62, 8], x32)}), 422, "bad_file"),
            ("safetensors that overlap", "pairs", safetensors({"x": ("F32", [2], bytes(8))})[:-4], 422, "bad_file"),
            ("one tensor as a set", "pairs", npy("<f4", [3, 2], x32), 422, "bad_file"),
            ("a set as one tensor", "pairs/x", whole, 422, "bad_file"),
            ("another number of samples", "fashion/y_true", idx(8, [4], labels[:4]), 422, "bad_file"),
            ("IDX cut off", "fashion/x", idx(8, [5, 3, 4], pixels[:-1]), 422, "bad_file"),
            ("gzip cut off", "fashion/x", gzip.compress(idx(8, [5, 3, 4], pixels))[:-9], 422, "bad_file"),
            ("a gzip bomb", "fashion/x", bomb, 413, "too_large"),
            ("a bomb in npz", "pairs", npz({"x": npy("<f4", [2250000], bytes(9000000))}), 413, "too_large"),
            ("a label that is no column", "toy?label=z", b"a,b\n1,2\n", 422, "bad_file"),
            ("a line too short", "toy", b"a,b\n1,2\n3\n", 422, "bad_file"), ("a line too long", "toy", b"a\n1,2\n", 422, "bad_file"),
            ("a word in a table", "toy", b"a,b\n1,two\n", 422, "bad_file"), ("beyond all numbers", "toy", b"a\n1e999\n", 422, "nonfinite"),
            ("an open quote", "toy", b'a,b\n1,"2\n', 422, "bad_file"),
            ("a label of npz", "pairs?label=x", whole, 400, "bad_parameter"),
            ("a scale that is no number", "fashion/x?scale=big", idx(8, [5], labels), 400, "bad_parameter"),
            ("an unknown parameter", "pairs?lable=x", whole, 400, "bad_parameter"),
            ("a tensor's bad name", "pairs/a%20b", npy("<f4", [3, 2], x32), 400, "bad_name"),
        ]:
            answer = d.put(D + path, body)
            check(f"{name}: {status} {code}", answer.status == status and answer.code == code, answer)
        answer = d.raw(b"PUT /v2/datasets/pairs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000001\r\nExpect: 100-continue\r\n\r\n")
        check("an upload too large is refused before it comes", answer.startswith(b"HTTP/1.1 413 "), answer)
        check("and nothing has changed", d.get("/v2/datasets").body == before)
        check("If-Match of another state", d.call("PUT", D + "toy", "a\n1\n", {"If-Match": '"x"'}).status == 412)
        check("unknown ones", d.get(D + "none").code == "unknown_dataset" and d.get(D + "toy/z").code == "unknown_tensor"
              and d.delete(D + "none").code == "unknown_dataset")
        check("pages that are none", d.get(D + "toy/x?start=9").code == "bad_parameter" and d.get(D + "toy/x?count=-1").code == "bad_parameter")

        # large ones go to disk: chunked, with a content coding, and not through memory
        def resident():
            with open(f"/proc/{d.process.pid}/status") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))

        large = npy("|u1", [6000, 1000], os.urandom(1000) * 6000)
        at_first = resident()
        answer = d.put(D + "large/x", large)
        check("six megabytes", answer.status == 201 and resident() - at_first < 3000, (answer, at_first, resident()))
        coded = d.call("PUT", D + "coded/x", zlib.compress(large, 1), {"Content-Encoding": "deflate"})
        check("behind a content coding", coded.status == 201 and coded.json["tensors"] == answer.json["tensors"], coded)
        chunked = d.call("PUT", D + "coded/x", (large[i:i + 50000] for i in range(0, len(large), 50000)))
        check("in chunks", chunked.status == 200 and chunked.json["tensors"] == answer.json["tensors"], chunked)

        # a full disk
        before, files = d.get("/v2/datasets").body, sorted(os.listdir(f"{d.state}/datasets"))
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        medium = npy("|u1", [3000, 1000], os.urandom(1000) * 3000)  # refused ones of up to 4 MiB are read to their end
        for name, path, body in [("a large upload", "new/x", medium), ("one in chunks", "new/x", iter([medium])),
                                 ("a small one that unpacks to much", "new/x", gzip.compress(large)),
                                 ("a tensor beside a large one", "large/y", npy("|u1", [6000], bytes(6000)))]:
            answer = d.put(D + path, body)
            check(f"{name} on a full disk is 507", answer.status == 507 and answer.code == "disk_full", answer)
        check("and nothing has changed then", d.get("/v2/datasets").body == before
              and sorted(os.listdir(f"{d.state}/datasets")) == files)
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        # restarts, and a file that was cut off
        check("delete", d.delete(D + "coded").status == 204 and d.get(D + "coded").status == 404)
        before = d.get("/v2/datasets").json
        with open(f"{d.state}/datasets/big.safetensors", "ab") as f:
            f.truncate(os.path.getsize(f.name) - 1)
        torn = d.get(D + "big/x?count=2")
        check("a file cut off under a running daemon is a failure with a name", torn.status == 422 and torn.code == "bad_file", torn)
        d.kill()
        d.start()
        after = d.get("/v2/datasets").json
        check("all come back as they were", [e for e in after["data"] if e["name"] != "big"] == [
            e for e in before["data"] if e["name"] != "big"], after)
        check("the torn one says so", d.get(D + "big").json["state"] == "UNAVAILABLE" and d.get(D + "big/x").code == "unavailable")
        check("and can be replaced", d.put(D + "big/x", idx(8, [5], labels)).status == 200 and d.get(D + "big/x").json["data"] == list(labels))
        check("a drain", d.stop() == 0, d.said())


run(plan)
