"""The dashboard's files: what is served, as what, under which policy; what is not; and that a page asks for nothing from elsewhere."""

import os
import pathlib
import re

from daemon import SOURCE, Daemon, run

WEB = pathlib.Path(SOURCE, "server/web")
FILES = sorted(p.name for p in (WEB / "ui").iterdir())
TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


def files(check, d):
    for name in FILES:
        a = d.get(f"/ui/{name}")
        check(f"/ui/{name} is the file", a.status == 200 and a.body == (WEB / "ui" / name).read_bytes() and a.headers["Content-Type"] == TYPES[name.split(".")[-1]]
              and a.headers["X-Content-Type-Options"] == "nosniff" and a.headers["Cache-Control"] == "no-cache", a)
        tag = a.headers["ETag"]
        head = d.call("HEAD", f"/ui/{name}")
        check("HEAD is the same without it", head.status == 200 and not head.body and [head.headers[h] for h in ("ETag", "Content-Length", "Content-Type")] ==
              [tag, str(len(a.body)), a.headers["Content-Type"]], head)
        same = d.get(f"/ui/{name}", If_None_Match=tag)
        check("with its tag it is 304", same.status == 304 and not same.body and same.headers["ETag"] == tag, same)
    check("another tag is 200", d.get("/ui/app.js", If_None_Match='"none"').status == 200)
    for path in ("/", "/ui"):
        a = d.get(path)
        check(f"{path} leads to /ui/", a.status == 307 and a.headers["Location"] == "/ui/", a)
    check("/ui/ is the page", d.get("/ui/").body == (WEB / "ui/index.html").read_bytes())
    for method in ("POST", "PUT", "DELETE"):
        check(f"{method} is 405", d.call(method, "/ui/app.js", "x").status == 405)


def policy(check, d):
    a = d.get("/ui/")
    rules = dict(rule.strip().split(" ", 1) for rule in a.headers["Content-Security-Policy"].split(";"))
    wanted = {"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'", "connect-src": "'self'", "base-uri": "'none'",
              "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'"}
    check("only this origin, no inline script or style, no frames, no text as HTML", rules == wanted, rules)
    page = (WEB / "ui/index.html").read_text()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.S)
    check("the page's scripts are files", scripts and all("src=" in attributes and not text for attributes, text in scripts), scripts)
    for name in FILES:
        text = (WEB / "ui" / name).read_text()
        elsewhere = [u for u in re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"'`)]*""", re.sub(r"^\s*(//|/\*).*$", "", text, flags=re.M)) if "www.w3.org/2000/svg" not in u]
        check(f"{name} names no other host", not elsewhere, elsewhere)
        check(f"{name} makes no node of text", not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text))
        check(f"{name} imports what is there", set(re.findall(r'from "\./([^"]+)"', text)) <= set(FILES), re.findall(r'from "\./([^"]+)"', text))


def strangers(check, folder):
    """Nothing but files of the folder, whatever the path says: the daemon's word for all of it is 400 or 404."""
    secret = "what nobody may read"
    root = pathlib.Path(folder, "web")
    (root / "ui").mkdir(parents=True)
    (root / "secret.js").write_text(secret)
    (root / "ui/index.html").write_text("<!doctype html>")
    (root / "ui/notes.txt").write_text(secret)
    (root / "ui/.hidden.js").write_text(secret)
    (root / "ui/folder.js").mkdir()
    (root / "ui/link.js").symlink_to(root / "secret.js")
    os.mkfifo(root / "ui/pipe.js")
    with Daemon("--web-root", str(root)) as e:
        check("its own page is served", e.get("/ui/").status == 200)
        for name in ("../secret.js", "..%2fsecret.js", "..%2Fsecret.js", "%2e%2e/secret.js", "%2e%2e%2fsecret.js", "..%5csecret.js", "....//secret.js",
                     "/secret.js", "%2fsecret.js", ".//../secret.js", "secret.js%00.js", "notes.txt", ".hidden.js", "folder.js", "folder.js/", "link.js",
                     "pipe.js", "index.html%00", "index.html.js", "none.js", "app.js/../../secret.js", "x" * 5000 + ".js"):
            raw = e.raw(f"GET /ui/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()).decode("latin-1")
            check(f"/ui/{name[:40]} is nothing", re.match(r"HTTP/1.1 4(00|04|14|31) ", raw) and secret not in raw, raw[:600])
        a = e.get("/ui/none.js")
        check("a missing file is a failure with a code", a.code == "not_found" and "/ui/none.js" in a.json["detail"], a)
        (root / "ui/index.html").unlink()
        a = e.get("/ui/")
        check("without the files it is said why", a.status == 404 and "--web-root" in a.json["detail"], a)


def around(check, folder):
    keys = pathlib.Path(folder, "keys")
    keys.write_text('{"keys":[{"name":"a","sha256":"%s","scopes":["admin"]}]}' % ("0" * 64))
    keys.chmod(0o600)
    with Daemon("--web-root", str(WEB), prefix="/base") as d:
        check("a prefix goes before it", d.get("/").headers["Location"] == "/base/ui/" and d.get("/ui/").status == d.get("/ui/app.js").status == 200)
    with Daemon("--web-root", str(WEB), "--api-key-file", str(keys)) as d:
        check("it needs no key, what it shows does", d.get("/ui/").status == d.get("/ui/app.js").status == 200 and d.get("/v2/models").status == 401)
    with Daemon("--web-root", str(WEB), "--read-only") as d:
        check("it is there where nothing may change", d.get("/ui/").status == 200)


def plan(check):
    with Daemon("--web-root", str(WEB)) as d:
        files(check, d)
        policy(check, d)
        strangers(check, d.folder)
        around(check, d.folder)


run(plan)
