"""The README's first session and examples/curl.sh, run as printed against a real daemon each. TAP."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

source = pathlib.Path(os.environ.get("srcdir", "."))
onelipd = os.environ.get("ONELIPD", "onelipd")


def texts():
    yield re.search(r"## A first session.*?```sh\n(.*?)```", (source / "README.md").read_text(), re.S).group(1)
    yield (source / "examples/curl.sh").read_text()


def session(block):
    """The commands, each with what its answer must hold (None: anything) and whether it is refused."""
    commands, here, tag = [], [], None
    for line in block.splitlines():
        if line.startswith(("#=> ", "#=! ")):
            commands[-1][1:] = line[4:], line[2] == "!"
        elif tag or not (line.startswith("#") or not line.strip()):
            here.append(line)
            start = re.search(r"<<'(\w+)'", line)
            tag = start.group(1) if start else None if line == tag else tag
            if not tag:
                commands.append(["\n".join(here), None, False])
                here = []
    return commands


def ready(address):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(f"http://{address}/v2/health/ready", timeout=5).status == 200
    except urllib.error.URLError:
        return False


def main():
    sessions = [session(block) for block in texts()]
    print(f"1..{sum(len(commands) + 1 for commands in sessions)}", flush=True)
    number = 0

    def ok(good, name, notes=""):
        nonlocal number
        number += 1
        print(("ok" if good else "not ok"), number, "-", name.split("\n")[0], flush=True)
        for line in notes.splitlines() if not good else []:
            print("#", line)

    for commands in sessions:
        follow(commands, ok)
    return 0


def follow(commands, ok):
    with tempfile.TemporaryDirectory() as folder:
        ports = pathlib.Path(folder, "port")
        daemon = subprocess.Popen([onelipd, "--listen", "127.0.0.1:0", "--listen", f"unix:{folder}/onelipd.sock", "--port-file", ports,
                                   "--state-dir", f"{folder}/state"], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not ports.exists() and daemon.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            address = re.sub(r"^https?://", "", ports.read_text().split()[0])
            while time.monotonic() < deadline and not ready(address):  # whoever types is slower than this
                time.sleep(0.02)
            # One shell for all: later lines use what earlier ones set. Each answer ends with a mark.
            shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     cwd=folder, text=True)
            shell.stdin.write('curl() { command curl --fail-with-body --noproxy "*" "$@"; }\n')
            for command, wanted, refused in commands:
                shell.stdin.write(command.replace("127.0.0.1:8000", address) + '\nstatus=$?; echo; echo "--end $status"\n')
                shell.stdin.flush()
                answer = []
                while not answer or not answer[-1].startswith("--end "):
                    line = shell.stdout.readline()
                    if not line:
                        answer.append("--end lost the shell")
                    answer.append(line)
                said = "".join(answer[:-1])
                ok((answer[-1].strip() != "--end 0") == refused and (wanted is None or wanted in said), command,
                   f"wanted {wanted}\n{answer[-1]}{said[:2000]}")
            shell.stdin.close()
            shell.wait()
        finally:
            daemon.terminate()
            code = daemon.wait(60)
        ok(code == 0, "the daemon drains and ends with 0", f"exit status {code}")


if __name__ == "__main__":
    sys.exit(main())
