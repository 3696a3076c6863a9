"""Models loaded and unloaded again and again: for test_repository.py in short and for the soak at length.

    cycles(d, n)            n times unload and load of the model m; how much memory the daemon holds more, in bytes a cycle
    reloads(d, n, change)   n times change(i) and load of m under inference; what went wrong, and how many were answered
"""

import http.client
import json
import threading


def held(d):
    """Bytes that the daemon has allocated and not given back. What is resident says less: it depends on which thread worked last."""
    return d.metric("onelip_heap_bytes")


def cycle(d, body, path="/v2/repository/models/m"):
    answers = [d.post(f"{path}/unload").status, d.post(f"{path}/load").status, d.post("/v2/models/m/infer", body).status]
    if answers != [200, 200, 200]:
        raise RuntimeError(f"unload, load, infer: {answers}")


def cycles(d, n, body):
    for _ in range(max(10, n // 4)):  # until the allocator has what it needs
        cycle(d, body)
    before = held(d)
    for _ in range(n):
        cycle(d, body)
    return (held(d) - before) / n


def reloads(d, n, change, body, outputs, clients=4):
    """outputs(i): the answers' outputs after change(i); every answer has to be those of one that was current then."""
    expected = [outputs(i) for i in range(n)]
    now, faults, answered, ended = [0, 0], [], [0], threading.Event()  # loaded for certain, and perhaps

    def ask():
        connection = http.client.HTTPConnection(d.host, d.port, timeout=60)
        text = json.dumps(body)
        while not ended.is_set():
            low = now[0]
            connection.request("POST", "/v2/models/m/infer", text)
            answer = connection.getresponse()
            got = answer.read()
            if answer.status != 200:
                faults.append((answer.status, got))
            elif json.loads(got)["outputs"] not in expected[low:now[1] + 1]:
                faults.append((low, now[1], got))
            else:
                answered[0] += 1
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for t in threads:
        t.start()
    for i in range(1, n):
        change(i)
        now[1] = i
        answer = d.post("/v2/repository/models/m/load")
        now[0] = i
        if answer.status != 200:
            faults.append(str(answer))
    ended.set()
    for t in threads:
        t.join()
    return faults, answered[0]
