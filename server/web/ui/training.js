// training.js: how a model trains.

import { get, send } from "./api.js";
import { announce, facts, field, form, h, near, note, select } from "./dom.js";

/* Losses as the wire names them, with the members that most people set. Any other name may be typed: the server says what it knows. */
const LOSSES = {
    MulticlassHKR: { alpha: 10, min_margin: 1 },
    HKR: { alpha: 10, min_margin: 1 },
    MulticlassKR: {},
    KR: {},
    MulticlassHinge: { min_margin: 1 },
    HingeMargin: { min_margin: 1 },
    MultiMargin: { min_margin: 1 },
    TauCategoricalCrossentropy: { tau: 10 },
    TauSparseCategoricalCrossentropy: { tau: 10 },
    TauBinaryCrossentropy: { tau: 10 },
    CategoricalHinge: { min_margin: 1 },
    MeanSquaredError: {},
    MeanAbsoluteError: {},
};

const bare = name => name?.replace(/^.*>/, "");
const json = (text, what) => {
    try {
        return JSON.parse(text || "{}");
    } catch (error) {
        throw Object.assign(new Error(`${what}: ${error.message}`), { title: "That is not JSON" });
    }
};

export async function render(view, { path, version, signal, again }) {
    let now = null;
    try {
        now = await get(`${path}/training`, { signal });
    } catch (error) {
        if (error.code !== "training_not_configured") throw error;
    }
    if (version) {
        view.append(note("A frozen version does not train; the head does."));
        return;
    }
    const known = h(
        "datalist",
        { id: "losses" },
        Object.keys(LOSSES).map(l => h("option", { value: l })),
    );
    const optimizer = select(["Adam", "AdamW", "SGD", "RMSprop"], { value: now?.optimizer.class_name ?? "Adam" }),
        rate = h("input", {
            type: "number",
            min: 0,
            step: "any",
            value: Number(now?.state.learning_rate.toPrecision(7) ?? 0.001),
        });
    const plain = typeof now?.loss?.class_name === "string" || !now;
    const loss = h("input", {
        list: "losses",
        value: plain ? (bare(now?.loss.class_name) ?? "MulticlassHKR") : "",
        required: plain,
        disabled: !plain,
        spellcheck: "false",
        onchange: () => {
            config.value = JSON.stringify(LOSSES[loss.value] ?? {});
        },
    });
    const { name, reduction, multi_gpu: gpu, ...set } = now?.loss?.config ?? {};
    const config = h("textarea", {
        rows: 2,
        spellcheck: "false",
        value: JSON.stringify(now ? (plain ? set : now.loss) : LOSSES.MulticlassHKR),
    });
    const metrics = h("textarea", {
        rows: 2,
        spellcheck: "false",
        value: JSON.stringify(now?.metrics ?? ["accuracy"]),
    });
    const publish = select(["step", "epoch", "job", "never"], { value: now?.publish ?? "step" }),
        telemetry = h("input", { type: "number", min: 0, step: 1, value: now?.telemetry_every ?? 0 });
    const save = async () => {
        /* Only what was changed: a schedule of the learning rate, or members that this form does not show, stay. */
        const changed =
            now &&
            optimizer.value === now.optimizer.class_name &&
            Number(rate.value) === Number(now.state.learning_rate.toPrecision(7));
        const body = {
            loss: plain
                ? { class_name: loss.value, config: json(config.value, "Members of the loss") }
                : json(config.value, "Losses"),
            metrics: json(metrics.value, "Metrics"),
            publish: publish.value,
            telemetry_every: Number(telemetry.value),
            ...(changed
                ? {}
                : { optimizer: { class_name: optimizer.value, config: { learning_rate: Number(rate.value) } } }),
        };
        await send(now ? "PATCH" : "PUT", `${path}/training`, body);
        announce("Training is configured");
        again();
    };
    view.append(
        now
            ? facts([
                  ["Step", String(now.state.step)],
                  ["Learning rate", near(now.state.learning_rate)],
                  ["Optimizer's state", now.state.optimizer_state],
                  ["Unpublished steps", String(now.state.unpublished_steps)],
              ])
            : note("Nobody has said yet how this model trains."),
        form(
            save,
            "Save",
            known,
            h(
                "div",
                { class: "row" },
                field("Optimizer", optimizer),
                field("Learning rate", rate),
                field("Loss", loss),
                field("Weights are published every", publish),
                field("Telemetry every … steps", telemetry, "0: never"),
            ),
            field(plain ? "Members of the loss" : "Losses by output", config),
            field("Metrics", metrics),
        ),
        now
            ? h(
                  "p",
                  null,
                  h("a", { href: `#/jobs?model=${encodeURIComponent(path.split("/").pop())}` }, "Train it in a job"),
              )
            : null,
    );
}
