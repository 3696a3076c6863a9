// server.js: the daemon: is it well, how busy is it, how is it set.

import { call, enc, get } from "./api.js";
import { Chart } from "./chart.js";
import { bytes, count, facts, failed, h, near, note, problem, table, tag } from "./dom.js";

export const title = () => "Server";

const EVERY = 2000,
    KEPT = 150;
const mean = ({ count: n, ns }) => (n ? `${near(ns / n / 1e6, 3)} ms` : "–");

/* Unlabelled values of the text format, by name. */
export function metricsOf(text) {
    const values = {};
    for (const line of text.split("\n")) {
        const [, name, value] = /^([a-zA-Z_:][\w:]*) (\S+)/.exec(line) ?? [];
        if (name) values[name] = Number(value);
    }
    return values;
}

const duration = s =>
    s < 120
        ? `${Math.floor(s)} s`
        : s < 7200
          ? `${Math.floor(s / 60)} min`
          : s < 172800
            ? `${Math.floor(s / 3600)} h`
            : `${Math.floor(s / 86400)} days`;

function settingsTable({ settings, mutable }) {
    const node = table(
        "Settings",
        ["Setting", "Value", "May change"],
        Object.entries(settings).map(([name, value]) => [
            h("code", null, name),
            h(
                "span",
                { class: "wrap" },
                value === null
                    ? h("span", { class: "dim" }, "none")
                    : Array.isArray(value)
                      ? value.join(", ") || h("span", { class: "dim" }, "none")
                      : String(value),
            ),
            mutable.includes(name) ? tag("any time") : "at start",
        ]),
        { class: "dense" },
    );
    node.classList.add("tall");
    return node;
}

export async function render(view, { signal }) {
    const about = await get("/v2", { signal }),
        state = h("div"),
        stats = h("div"),
        rates = new Chart({
            title: "Inferences and training steps a second",
            x: "seconds",
            y: "a second",
            yRange: [0, undefined],
            legend: true,
        });
    const memory = new Chart({ title: "Memory of the process", x: "seconds", y: "MB", yRange: [0, undefined] });
    const began = performance.now(),
        lines = { inferences: [], steps: [], memory: [] };
    let before = null;

    async function look() {
        const { model_stats: all } = await get("/v2/models/stats", { signal }),
            now = performance.now(),
            at = (now - began) / 1000;
        const totals = { at, inferences: 0, steps: 0 };
        for (const m of all) {
            totals.inferences += m.inference_count ?? 0;
            totals.steps += m.training_stats?.steps.count ?? 0;
        }
        if (before)
            for (const name of ["inferences", "steps"])
                lines[name].push([at, Math.max(0, (totals[name] - before[name]) / (at - before.at))]);
        before = totals;
        let seen = null;
        try {
            seen = metricsOf(
                await (await call("GET", "/metrics", { signal, headers: { Accept: "text/plain" } })).text(),
            );
        } catch (error) {
            if (error.name === "AbortError") throw error;
        }
        if (seen?.process_resident_memory_bytes) lines.memory.push([at, seen.process_resident_memory_bytes / 1e6]);
        for (const line of Object.values(lines)) line.splice(0, line.length - KEPT);
        rates.set([
            { name: "inferences", points: lines.inferences },
            { name: "training steps", points: lines.steps },
        ]);
        memory.set([{ name: "resident", points: lines.memory }]);
        state.replaceChildren(
            facts([
                ["Version", about.version],
                ["Name", about.name],
                seen?.process_start_time_seconds && [
                    "Up",
                    duration(Date.now() / 1000 - seen.process_start_time_seconds),
                ],
                seen && ["Memory", bytes(seen.process_resident_memory_bytes ?? 0)],
                seen?.process_cpu_seconds_total !== undefined && [
                    "CPU",
                    `${near(seen.process_cpu_seconds_total, 4)} s`,
                ],
                seen?.onelip_connections !== undefined && ["Connections", count(seen.onelip_connections)],
                ["Models", count(all.length)],
            ]),
        );
        const scroll = stats.querySelector(".scroll")?.scrollLeft ?? 0;
        stats.replaceChildren(
            all.length
                ? table(
                      "Statistics of the models",
                      [
                          "Model",
                          ["Inferences", "n"],
                          ["Batches", "n"],
                          ["Rows a batch", "n"],
                          ["Failed", "n"],
                          ["Queued", "n"],
                          ["Computed", "n"],
                          ["Steps", "n"],
                          ["A step", "n"],
                          ["Memory", "n"],
                      ],
                      all.map(m => {
                          const { success, fail, queue, compute_infer: compute } = m.inference_stats;
                          return [
                              [
                                  h("a", { href: `#/models/${enc(m.name)}` }, m.name),
                                  h("span", { class: "dim" }, ` v${m.version}`),
                              ],
                              count(m.inference_count),
                              count(m.execution_count),
                              m.execution_count ? near(m.inference_count / m.execution_count, 3) : "–",
                              count(fail.count),
                              mean(queue),
                              mean(success.count ? compute : { count: 0 }),
                              count(m.training_stats?.steps.count ?? 0),
                              m.training_stats ? mean(m.training_stats.steps) : "–",
                              bytes(m.memory_usage?.[0]?.byte_size ?? 0),
                          ];
                      }),
                      { class: "dense" },
                  )
                : note("There is no model."),
        );
        if (stats.firstChild) stats.firstChild.scrollLeft = scroll;
    }

    const settings = await get("/v2/config", { signal }).then(settingsTable, failed);
    view.append(
        h("h1", null, "Server"),
        state,
        h("div", { class: "charts" }, rates.node, memory.node),
        h("section", null, h("h2", null, "Models"), stats),
        h("section", null, h("h2", null, "Settings"), settings),
        h(
            "section",
            null,
            h("h2", null, "Extensions"),
            h(
                "p",
                null,
                about.extensions.map(e => [tag(e), " "]),
            ),
        ),
    );
    await look();
    const timer = setInterval(
        () =>
            document.hidden ||
            look().catch(error => {
                if (!signal.aborted) state.replaceChildren(problem(error));
            }),
        EVERY,
    );
    signal.addEventListener("abort", () => clearInterval(timer));
}
