// job.js: one job: its state, its curves as they grow, what it made.

import { call, enc, follow, get, send } from "./api.js";
import { Chart } from "./chart.js";
import { certificateNodes } from "./certificate.js";
import { announce, button, count, download, facts, h, near, problem, sure, when } from "./dom.js";
import { share, statusTag } from "./jobs.js";

export const title = ({ id }) => `Job …${id.slice(-8)}`;

const ENDS = ["succeeded", "failed", "cancelled"];

/* Charts that come into being with their first value: chart name -> line name -> points. */
class Curves {
    constructor() {
        this.node = h("div", { class: "charts" });
        this.charts = new Map();
    }

    /* faint: drawn so beside other lines. */
    put(chart, line, x, y, options = {}) {
        if (y === null || y === undefined || !Number.isFinite(Number(y)) || !Number.isFinite(x)) return;
        if (!this.charts.has(chart)) {
            const made = new Chart({ title: chart, x: "step", legend: true });
            this.charts.set(chart, { made, lines: new Map() });
            this.node.append(made.node);
        }
        const { lines } = this.charts.get(chart);
        if (!lines.has(line)) lines.set(line, { name: line, points: [], faint: options.faint });
        const { points } = lines.get(line),
            last = points.at(-1);
        if (last && last[0] >= x) last[1] = Number(y);
        else points.push([x, Number(y)]);
        this.frame ??= requestAnimationFrame(() => {
            this.frame = null;
            for (const { made, lines: all } of this.charts.values())
                made.set([...all.values()].map(s => ({ ...s, faint: s.faint && all.size > 1 })));
        });
    }
}

export async function render(view, { names: { id }, signal }) {
    const path = `/v2/jobs/${enc(id)}`;
    let job = await get(path, { signal });
    const told = h("div"),
        head = h("div", { class: "headline", role: "group", "aria-label": "State" }),
        curves = new Curves(),
        end = h("div", { class: "report" }),
        link = h("span", { class: "meta", role: "status" });
    const log = h("ol", { class: "log" });
    const control = (label, verb) =>
        button(
            label,
            async () => {
                job = await send("POST", `${path}/${verb}`, {});
                draw();
            },
            told,
        );
    const pause = control("Pause", "pause"),
        resume = control("Resume", "resume"),
        cancel = button(
            "Cancel",
            async () => {
                if (await sure("Cancel the job?", "Steps that were made stay.", "Cancel the job", true)) {
                    job = await send("POST", `${path}/cancel`, {});
                    draw();
                }
            },
            told,
            { class: "danger" },
        );
    const forget = button(
        "Forget it",
        async () => {
            await call("DELETE", path);
            location.hash = "#/jobs";
        },
        told,
        { class: "quiet" },
    );

    function draw() {
        const { step = 0, total_steps: total = 0, epoch = 0, epochs = 0 } = job.progress ?? {},
            ended = ENDS.includes(job.status);
        pause.hidden = !["queued", "running"].includes(job.status) || job.type !== "train";
        resume.hidden = !["paused", "pausing"].includes(job.status);
        cancel.hidden = ended;
        forget.hidden = !ended;
        head.replaceChildren(
            h(
                "p",
                { class: "verdict" },
                statusTag(job.status),
                " ",
                share(job.progress ?? {}),
                " ",
                total ? `${count(step)} of ${count(total)} steps` : "",
                epochs ? `, epoch ${Math.min(epoch + (ended ? 0 : 1), epochs)} of ${epochs}` : "",
            ),
            facts([
                ...Object.entries(job.metrics ?? {}).map(([name, value]) => [name, near(value)]),
                job.weights_revision !== null && ["Revision", count(job.weights_revision)],
                job.speed && ["Samples a second", count(Math.round(job.speed))],
                ["Made", when(job.created_at)],
                ["Began", when(job.started_at)],
                ["Ended", when(job.finished_at)],
            ]),
        );
        if (job.error)
            end.replaceChildren(
                problem({
                    title: "It failed",
                    detail: job.error.text ?? job.error.detail ?? job.error.error ?? "",
                    code: job.error.code,
                    status: "",
                    remedy: async () => (await get(`/v2/problems/${enc(job.error.code)}`)).remedy,
                }),
            );
    }

    async function result() {
        if (!job.result || !["succeeded"].includes(job.status)) return;
        const answer = await call("GET", job.result, { signal, headers: { Accept: "*/*" } }),
            blob = await answer.blob(),
            kind = answer.headers.get("Content-Type") ?? "";
        const name =
            /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ??
            `${id}.${kind.includes("json") ? "json" : "bin"}`;
        const save = h(
            "p",
            { class: "buttons" },
            h("button", { type: "button", onclick: () => download(blob, name) }, "Download the result"),
        );
        const body = kind.includes("json") ? JSON.parse(await blob.text()) : null;
        if (body?.certificate)
            end.replaceChildren(
                ...certificateNodes(body.certificate, {
                    samples: body.parameters.samples,
                    accuracy: job.metrics?.accuracy ?? null,
                    revision: body.parameters.weights_revision,
                }),
                save,
            );
        else
            end.replaceChildren(
                body?.metrics && !Object.keys(job.metrics ?? {}).length
                    ? h(
                          "section",
                          { class: "headline" },
                          facts(Object.entries(body.metrics).map(([metric, value]) => [metric, near(value, 6)])),
                      )
                    : "",
                save,
            );
    }

    /* One question at a time; what changed while it was asked is asked for once more. */
    let refreshing = false,
        stale = false;
    async function refresh() {
        stale = true;
        if (refreshing) return;
        refreshing = true;
        try {
            while (stale) {
                stale = false;
                job = { ...(await get(path, { signal })), speed: job.speed };
            }
            draw();
            await result();
        } catch (error) {
            if (error.name !== "AbortError") told.replaceChildren(problem(error));
        } finally {
            refreshing = false;
        }
    }

    function metrics(e) {
        for (const [name, value] of Object.entries(e.metrics ?? {})) {
            const chart = name.replace(/^val_/, "").replace(/^provable_accuracy_.*/, "provable_accuracy");
            curves.put(
                chart,
                chart === name ? (e.type === "epoch" ? `${name}, mean of the epoch` : name) : name,
                e.step,
                value,
                { faint: e.type === "metrics" },
            );
        }
        if (e.learning_rate !== undefined) curves.put("learning rate", "learning rate", e.step, e.learning_rate);
        const t = e.telemetry;
        if (t) {
            curves.put("network constant", "proven at most", e.step, t.upper);
            curves.put("network constant", "claimed", e.step, t.claimed);
            for (const l of t.layers ?? []) curves.put("σ of each layer, proven at most", l.name, e.step, l.upper);
            curves.put("certificates of the batch", "provable accuracy", e.step, t.provable_accuracy);
            curves.put("certificates of the batch", "mean radius", e.step, t.mean_radius);
            for (const name of ["max", "median", "min"])
                curves.put("norm of the Jacobian", name, e.step, t.jacobian?.[name]);
        }
    }

    function event(e) {
        if (e.type === "metrics" || e.type === "epoch") {
            metrics(e);
            if (!ENDS.includes(job.status)) {
                const epoch = e.type === "epoch" ? e.epoch : Math.max(0, (e.epoch ?? 1) - 1);
                job = {
                    ...job,
                    metrics: { ...job.metrics, ...e.metrics },
                    speed: e.samples_per_second ?? job.speed,
                    weights_revision: e.weights_revision ?? job.weights_revision,
                    progress: {
                        ...job.progress,
                        step: Math.max(e.step ?? 0, job.progress?.step ?? 0),
                        ...(job.type === "train" ? { epoch } : {}),
                    },
                };
                frame ??= requestAnimationFrame(() => {
                    frame = null;
                    draw();
                });
            }
        }
        if (e.type === "metrics") return;
        const words =
            {
                status: e.status,
                epoch: `epoch ${e.epoch}: ${Object.entries(e.metrics ?? {})
                    .map(([n, v]) => `${n} ${near(v)}`)
                    .join(", ")}`,
                checkpoint: `checkpoint ${e.name}`,
                gap: "events before this are not kept any more",
            }[e.type] ?? e.type;
        log.prepend(h("li", null, words));
        while (log.children.length > 200) log.lastChild.remove();
        if (e.type === "status") {
            announce(`The job: ${e.status}`);
            refresh();
        }
    }
    let frame = null;

    draw();
    await result();
    view.append(
        h("p", { class: "crumb" }, h("a", { href: "#/jobs" }, "Jobs")),
        h(
            "div",
            { class: "title" },
            h(
                "h1",
                null,
                `${job.type[0].toUpperCase()}${job.type.slice(1)} `,
                job.model ? h("a", { href: `#/models/${enc(job.model)}` }, job.model) : "",
            ),
            h("code", { class: "meta" }, id),
        ),
        head,
        h("p", { class: "buttons" }, pause, resume, cancel, forget, link),
        told,
        end,
        curves.node,
        h("section", null, h("h2", null, "Events"), log),
    );
    const words = { live: "live", lost: "the connection is lost; it is taken up again", hidden: "", ended: "" };
    follow(`${path}/events`, {
        signal,
        event,
        told: state => {
            link.textContent = words[state];
            if (state === "ended" && !log.children.length)
                log.append(h("li", null, "They are not kept any more: the server has started again since."));
            if (state === "ended") refresh();
        },
    }).catch(error => {
        if (!signal.aborted) told.replaceChildren(problem(error));
    });
}
