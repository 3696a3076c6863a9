// jobs.js: work that takes long: what there is, and a new one.

import { enc, follow, get, list, query, send } from "./api.js";
import { act, announce, field, form, h, near, note, problem, select, table, tag, when } from "./dom.js";
import { epsilonsOf } from "./certify.js";

export const title = () => "Jobs";

export const statusTag = status =>
    tag(status, { succeeded: "good", failed: "bad", cancelled: "fair", running: "" }[status]);
export const share = ({ step = 0, total_steps: total = 0 } = {}) =>
    h("progress", {
        max: total || 1,
        value: step,
        title: `${step} of ${total} steps`,
        "aria-label": `${step} of ${total} steps`,
    });

function took({ started_at: from, finished_at: to }) {
    const seconds = from && to ? (new Date(to) - new Date(from)) / 1000 : null;
    return seconds === null
        ? "–"
        : seconds < 120
          ? `${seconds} s`
          : seconds < 7200
            ? `${Math.round(seconds / 60)} min`
            : `${Math.round(seconds / 3600)} h`;
}

function creator(models, datasets, model) {
    const names = datasets.map(d => d.name),
        type = select([
            { value: "train", text: "train" },
            { value: "evaluate", text: "evaluate" },
            { value: "certify", text: "certify" },
        ]);
    const of = select(models, { value: model ?? models[0] }),
        dataset = select(names),
        validation = select([{ value: "", text: "none" }, ...names]);
    const number = (value, more) => h("input", { type: "number", min: 1, step: 1, value, ...more });
    const epochs = number(5),
        batch = number(64),
        seed = number("", { min: 0, placeholder: "drawn" }),
        rate = h("input", { type: "number", min: 0, step: "any", placeholder: "as configured" });
    const telemetry = number(20, { min: 0 }),
        publish = select([{ value: "", text: "as configured" }, "step", "epoch", "job", "never"]),
        shuffle = h("input", { type: "checkbox", checked: true });
    const epsilons = h("input", { value: "0.1 0.25 0.5 1", spellcheck: "false" });
    const train = h(
        "div",
        { class: "view" },
        h(
            "div",
            { class: "row" },
            field("Validation", validation),
            field("Epochs", epochs),
            field("Learning rate", rate, "for this job"),
            field("Seed", seed),
            field("Publish every", publish),
            field("Telemetry every … steps", telemetry, "draws the layers' norms; 0: never"),
        ),
        field("Shuffle", shuffle),
    );
    const certify = h("div", { class: "row", hidden: true }, field("ε", epsilons));
    type.addEventListener("change", () => {
        train.hidden = type.value !== "train";
        certify.hidden = type.value !== "certify";
    });
    const start = async () => {
        const body = { type: type.value, model: of.value, dataset: dataset.value, batch_size: Number(batch.value) };
        if (type.value === "train") {
            const patch = {
                telemetry_every: Number(telemetry.value),
                ...(publish.value ? { publish: publish.value } : {}),
            };
            if (rate.value) {
                const { optimizer } = await get(`/v2/models/${enc(of.value)}/training`);
                patch.optimizer = { ...optimizer, config: { ...optimizer.config, learning_rate: Number(rate.value) } };
            }
            Object.assign(body, {
                epochs: Number(epochs.value),
                shuffle: shuffle.checked,
                training: patch,
                ...(validation.value ? { validation_dataset: validation.value } : {}),
                ...(seed.value ? { seed: Number(seed.value) } : {}),
            });
        } else if (type.value === "certify") {
            Object.assign(body, { epsilons: epsilonsOf(epsilons.value), parameters: { curve: true } });
        }
        const job = await send("POST", "/v2/jobs", body);
        announce("The job is queued");
        location.hash = `#/jobs/${enc(job.id)}`;
    };
    return h(
        "details",
        { class: "panel", open: model !== null },
        h("summary", null, "New job"),
        form(
            start,
            "Start",
            h(
                "div",
                { class: "row" },
                field("What", type),
                field("Model", of),
                field("Dataset", dataset),
                field("Batch", batch),
            ),
            train,
            certify,
        ),
    );
}

export async function render(view, { query: asked, signal }) {
    const [models, datasets] = await Promise.all([get("/v2/models", { signal }), list("/v2/datasets", { signal })]),
        filter = asked.get("model");
    const place = h("div"),
        told = h("div"),
        more = h(
            "button",
            {
                type: "button",
                onclick: () => {
                    limit += 50;
                    act(more, told, show);
                },
            },
            "More",
        );
    let limit = 50,
        waiting = null;
    async function show() {
        const { data, has_more: further } = await get(
            `/v2/jobs${query({ limit: Math.min(limit, 1000), model: filter })}`,
            { signal },
        );
        more.hidden = !further || limit >= 1000;
        place.replaceChildren(
            data.length
                ? table(
                      "Jobs",
                      ["Job", "What", "Model", "Status", "Progress", "Figures", "Made", "Took"],
                      data.map(job => [
                          h("a", { href: `#/jobs/${enc(job.id)}` }, h("code", null, `…${job.id.slice(-8)}`)),
                          job.type,
                          job.model ? h("a", { href: `#/models/${enc(job.model)}` }, job.model) : "–",
                          statusTag(job.status),
                          share(job.progress ?? {}),
                          Object.entries(job.metrics ?? {})
                              .slice(0, 3)
                              .map(([name, value]) => `${name} ${near(value, 4)}`)
                              .join(" · "),
                          when(job.created_at),
                          took(job),
                      ]),
                      { class: "dense" },
                  )
                : note("There is none yet."),
        );
    }
    await show();
    view.append(
        h("h1", null, filter ? `Jobs of ${filter}` : "Jobs"),
        filter ? h("p", { class: "crumb" }, h("a", { href: "#/jobs" }, "All jobs")) : "",
        place,
        told,
        more,
        models.models.length && datasets.length
            ? creator(models.models, datasets, filter)
            : note("A job needs a model and a dataset."),
    );
    const soon = () => {
        waiting ??= setTimeout(() => {
            waiting = null;
            if (!signal.aborted) show().catch(() => {});
        }, 500);
    };
    follow("/v2/events?types=job,metrics,status", { signal, event: soon, told: () => {} }).catch(error => {
        if (!signal.aborted) told.replaceChildren(problem(error));
    });
}
