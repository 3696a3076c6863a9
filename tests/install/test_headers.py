#!/usr/bin/env python3
"""test_headers.py: what the public headers say. Every exported function is declared once, has a comment of its own or one with its
neighbours, and what can fail names its errors and which threads may call it, what gives memory away names who frees it, arrays have their shapes, and
headers with formulas say where those come from. TAP."""
import os
import re

HOME = os.environ.get("srcdir", ".")
FOLDER = os.path.join(HOME, "lib", "include", "onelip")


def declarations(text):
    """(name, declaration, comment) of every function: the comment above it, with others of the same block between, and behind it."""
    comment, block = "", False
    for part in re.finditer(r"/\*.*?\*/|(?:(?!/\*)[^;{}])*?\b(lip_[a-z0-9_]+)\([^;{]*?\);([ \t]*/\*.*?\*/)?|\n[ \t]*\n", text, re.S):
        piece = part.group(0)
        if part.group(1):
            yield part.group(1), piece, comment + (part.group(2) or "")
        elif piece.startswith("/*"):
            comment = piece if not block else comment + piece
            block = True
        else:
            comment, block = "", False
        if part.group(1):
            block = False


def main():
    exported = open(os.path.join(HOME, "lib", "libonelip.sym")).read().split()
    found, head, whole = {}, {}, {}
    for name in sorted(os.listdir(FOLDER)):
        text = open(os.path.join(FOLDER, name)).read()
        whole[name], head[name] = text, text[:text.index("*/")]
        text = re.sub(r"^#.*$", "", text, flags=re.M)
        for function, declaration, comment in declarations(text):
            found.setdefault(function, []).append((name, declaration, comment))
    page = open(os.path.join(HOME, "lib", "onelip.3")).read()
    headers = [n for n in os.listdir(FOLDER) if n != "onelip.h"]

    def lacking(test):
        return [f"{f} ({found[f][0][0]})" for f in exported if f in found and not test(f, *found[f][0][1:])]

    checks = [
        ("every exported function is declared once", [f for f in exported if len(found.get(f, [])) != 1]),
        ("every declared function is exported", [f for f in found if f not in exported]),
        ("every function has a comment", lacking(lambda f, d, c: len(c) > 20)),
        ("what can fail says with what", lacking(lambda f, d, c: not re.search(r"\blip_err\s+lip_", d) or re.search(
            r"LIP_[A-Z]|[Rr]eturns? (as|what) |Errors as", c))),
        ("what gives a pointer away says who frees it, or how long it lives", lacking(lambda f, d, c: not (
            re.search(r"\*\*(?!x|y|dx)\w+[,)]", d) and not re.search(r"const \w+ \*const \*|const \*\*", d)) or re.search(
            r"[Mm]emory|_free|_put|lip_free|lives|[Rr]eturn as|reference", c))),
        ("what can fail says which threads may call it", lacking(lambda f, d, c: not re.search(r"\blip_err\s+lip_", d) or re.search(
            r"[Tt]hread", c + head[found[f][0][0]]))),
        ("arrays of numbers have their shapes", lacking(lambda f, d, c: not re.search(r"\b(float|double) \*", d) or re.search(
            r"\([a-z0-9_]+(, ?[a-z0-9_ ]+)*\)|shape|element|entries|room for|numbers|floats|, of |^ \* \w+ +n,", c + head[found[f][0][0]], re.M))),
        ("headers with formulas say where they come from", [h for h in headers if h not in ("error.h", "tensor.h") and not re.search(
            r"\bSource\b", whole[h])]),
        ("onelip.3 names every header", [h for h in headers if f"onelip/{h}" not in page]),
    ]
    print(f"1..{len(checks)}")
    for i, (name, wrong) in enumerate(checks, 1):
        print(("not ok" if wrong else "ok") + f" {i} - {name}")
        for line in wrong:
            print("# " + line)
    return any(wrong for _, wrong in checks)


if __name__ == "__main__":
    raise SystemExit(main())
