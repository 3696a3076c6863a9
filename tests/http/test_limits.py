"""The largest number of connections: of one address, and of all. Who was let in is served meanwhile, who leaves makes room."""

import contextlib
import resource
import socket

from daemon import Daemon, run

ALL, EACH = 1024, 128  # of server/http.c
ASK = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(d, address):
    s = socket.socket()
    s.settimeout(20)
    s.bind((f"127.0.0.{address}", 0))
    s.connect((d.host, d.port))
    return s


def asked(s, seconds=20):
    """The status of an answer; 0: the server closed the connection; None: it says nothing."""
    s.settimeout(seconds)
    try:
        s.sendall(ASK)
        got = s.recv(4096)
    except TimeoutError:
        return None
    except (ConnectionResetError, BrokenPipeError):
        return 0
    return int(got.split()[1]) if got else 0


def one_address(check, d, sockets):
    for _ in range(EACH):
        sockets.append(connect(d, 2))
    check(f"{EACH} connections of one address are served", all(asked(s) == 200 for s in sockets))
    more = connect(d, 2)
    check("one more is closed", asked(more) == 0)
    other = connect(d, 3)
    check("another address is served", asked(other) == 200)
    check("and so are those that were there", all(asked(s) == 200 for s in sockets))
    more.close()
    other.close()
    sockets.pop().close()
    d.wait(lambda: d.metric("onelip_connections") == EACH, "end of two connections")  # the question's is one itself
    sockets.append(connect(d, 2))
    check("when one has left there is room for one", asked(sockets[-1]) == 200)


def all_addresses(check, d, sockets):
    while len(sockets) < ALL:
        sockets.append(connect(d, 2 + len(sockets) // EACH))
    check(f"{ALL} connections are served", all(asked(s) == 200 for s in sockets))
    waiting = connect(d, 100)  # by the system; the daemon leaves it in the queue
    check("one more waits", asked(waiting, 0.5) is None)
    check("those that are there are served meanwhile", all(asked(s) == 200 for s in sockets[::50]))
    sockets.pop().close()
    waiting.settimeout(20)
    check("until one leaves", waiting.recv(4096).startswith(b"HTTP/1.1 200 "))
    waiting.close()


def plan(check):
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * ALL, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with Daemon("--threads", "2") as d, contextlib.ExitStack() as stack:
        sockets = []
        stack.callback(lambda: [s.close() for s in sockets])
        one_address(check, d, sockets)
        all_addresses(check, d, sockets)
        check("the daemon lives", d.alive)


run(plan)
