"""What Prometheus reads: the format to the letter, every family that there should be, and counts that requests move."""

import math
import re

from daemon import TRAINING, Daemon, batch, run, tensor

COUNTERS = """nv_inference_request_success nv_inference_request_failure nv_inference_count nv_inference_exec_count
    nv_inference_request_duration_us nv_inference_queue_duration_us nv_inference_compute_input_duration_us
    nv_inference_compute_infer_duration_us nv_inference_compute_output_duration_us nv_cache_num_hits_per_model
    nv_cache_num_misses_per_model nv_cache_hit_duration_per_model nv_cache_miss_duration_per_model
    onelip_rejected_total onelip_train_steps_total onelip_publish_total onelip_publish_coalesced_total
    process_cpu_seconds_total""".split()
GAUGES = """nv_inference_pending_request_count nv_cpu_utilization nv_cpu_memory_total_bytes nv_cpu_memory_used_bytes
    onelip_build_info onelip_connections onelip_requests_in_flight onelip_body_bytes_in_flight onelip_queue_depth onelip_heap_bytes
    onelip_weights_revision onelip_lipschitz_claimed onelip_lipschitz_lower onelip_lipschitz_upper onelip_layer_sigma
    onelip_train_loss onelip_snapshots_live process_resident_memory_bytes process_virtual_memory_bytes
    process_start_time_seconds process_open_fds process_max_fds""".split()
HISTOGRAMS = """nv_inference_first_response_histogram_ms onelip_request_duration_seconds onelip_batch_size
    onelip_train_step_duration_seconds onelip_bjorck_iterations""".split()
PARTS = ("request", "queue", "compute_input", "compute_infer", "compute_output")
SUMMARIES = [f"nv_inference_{part}_summary_us" for part in PARTS]
WANTED = {**dict.fromkeys(COUNTERS, "counter"), **dict.fromkeys(GAUGES, "gauge"), **dict.fromkeys(HISTOGRAMS, "histogram"),
          **dict.fromkeys(SUMMARIES, "summary")}

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?[0-9]+)?)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def parse(text):
    """(kinds, samples by name and labels); text format 0.0.4, strictly. Whatever is wrong with it is an AssertionError."""
    kinds, samples, family = {}, {}, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in kinds and re.fullmatch(NAME, family) and line.split(" ", 3)[3], line
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == family, line
            kinds[family] = line.split(" ")[3]
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert name in [family + s for s in SUFFIXES.get(kinds[family], ("",))], line
            labels = tuple(re.findall(LABEL, labels or ""))
            assert len({one.split("=")[0] for one in labels}) == len(labels), line
            assert (name, labels) not in samples, line
            samples[name, labels] = float(value)
    return kinds, samples


def consistent(samples, name):
    """Whether a histogram's buckets rise to its count."""
    series = {}
    for (n, labels), value in samples.items():
        if n == name + "_bucket":
            bound = next(one for one in labels if one.startswith("le="))
            series.setdefault(tuple(one for one in labels if one != bound), []).append((float(bound[4:-1]), value))
    return series and all(
        rows == sorted(rows) and [v for _, v in rows] == sorted(v for _, v in rows) and rows[-1] == (math.inf, samples[name + "_count", labels])
        for labels, rows in series.items())


def plan(check):
    with Daemon() as d:
        m = d.create("a", training={**TRAINING, "publish": "job"})
        ours = ('model="a"', 'version="1"')

        def read():
            answer = d.get("/metrics")
            check("its type", answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", answer)
            return parse(answer.body.decode())

        def quantile(samples, part, q):
            return samples[f"nv_inference_{part}_summary_us", (*ours, f'quantile="{q}"')]

        _, samples = read()
        check("no quantile before there was an inference", all(math.isnan(quantile(samples, part, 0.5)) for part in PARTS), samples)
        for n in (1, 2, 5):
            d.post(m + "/infer", {"inputs": [tensor("x", [n, 4], [1] * 4 * n)]})
        d.post(m + "/infer", {"inputs": [tensor("x", [1, 5], [1] * 5)]})
        d.get(m + "/lipschitz")
        for _ in range(3):
            d.post(m + "/train_step", batch())
        d.raw(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        kinds, samples = read()
        check("every family is there, and no other", kinds == WANTED, sorted(set(kinds.items()) ^ set(WANTED.items())))
        check("inference is counted", [samples[n, ours] for n in ("nv_inference_request_success", "nv_inference_count", "nv_inference_exec_count")]
              == [3, 8, 3] and [samples["nv_inference_request_failure", (*ours, f'reason="{r}"')]
                                for r in ("REJECTED", "CANCELED", "BACKEND", "OTHER")] == [0, 0, 0, 1], samples)
        check("steps", any(samples.get(("onelip_train_steps_total", labels)) == 3 for labels in (ours, ours[:1])), samples)
        check("a state was published, three steps were not", samples["onelip_publish_total", ours] == 1
              and samples["onelip_publish_coalesced_total", ours] == 3,
              {k: v for k, v in samples.items() if "publish" in k[0]})
        check("buckets rise to the count", all(consistent(samples, name) for name in HISTOGRAMS), samples)
        check("quantiles rise", all(0 < quantile(samples, part, 0.5) <= quantile(samples, part, 0.9) <= quantile(samples, part, 0.999)
                                    for part in PARTS), samples)
        check("and belong to the sums", all(quantile(samples, part, 0.999) <= 1.04 * samples[f"nv_inference_{part}_summary_us_sum", ours]
                                            and samples[f"nv_inference_{part}_summary_us_count", ours] == 3 for part in PARTS), samples)
        check("the first answers' histogram has them", samples["nv_inference_first_response_histogram_ms_count", ours] == 3)
        total, used = samples["nv_cpu_memory_total_bytes", ()], samples["nv_cpu_memory_used_bytes", ()]
        check("the machine", 0 < used < total and 0 <= samples["nv_cpu_utilization", ()] <= 1, (used, total))
        check("one snapshot lives", samples["onelip_snapshots_live", ()] == 1, samples["onelip_snapshots_live", ()])
        routes = {one for (name, labels) in samples for one in labels if name == "onelip_request_duration_seconds_count" and one.startswith("route=")}
        check("routes are templates", 'route="/v2/models/{m}/infer"' in routes and not any("/a" in r for r in routes), routes)
        d.delete(m)
        _, samples = read()
        check("a deleted model leaves nothing", not any('model="a"' in labels for _, labels in samples) and samples["onelip_snapshots_live", ()] == 0)


run(plan)
