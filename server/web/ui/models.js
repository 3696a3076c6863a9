// models.js: every model, what it claims and what is proven of it; a new one.

import { call, enc, get, list, query } from "./api.js";
import { announce, count, field, form, h, note, select, shape, sure, table, tag, up } from "./dom.js";
import { verdict } from "./report.js";

export const title = () => "Models";

const EXAMPLE = JSON.stringify(
    {
        class_name: "Sequential",
        config: {
            k_coef_lip: 1.0,
            layers: [
                { class_name: "InputLayer", config: { batch_input_shape: [null, 4], name: "x" } },
                { class_name: "SpectralDense", config: { units: 16, name: "d1" } },
                { class_name: "GroupSort2", config: { name: "sort" } },
                { class_name: "FrobeniusDense", config: { units: 3, name: "y" } },
            ],
        },
    },
    null,
    1,
);

export const stateTag = state =>
    tag(state.toLowerCase(), state === "READY" ? "good" : state === "UNAVAILABLE" ? "bad" : "");
export const labelsOf = (model, version) =>
    Object.entries(model.labels ?? {})
        .filter(([, v]) => v === version)
        .map(([label]) => tag(label));

/* Proves a model's bound when its row comes into sight; one after the other, so that a long list takes no more than its turn. */
function prover(signal) {
    let turn = Promise.resolve();
    const watch = new IntersectionObserver(entries => {
        for (const { isIntersecting, target } of entries)
            if (isIntersecting) {
                watch.unobserve(target);
                turn = turn.then(() => signal.aborted || target.prove());
            }
    });
    signal.addEventListener("abort", () => watch.disconnect());
    return (model, upper, sound) => {
        upper.prove = async () => {
            try {
                const { network } = await get(`/v2/models/${enc(model.name)}/lipschitz?method=product&layers=false`, {
                    signal,
                });
                upper.replaceChildren(up(network.upper));
                sound.replaceChildren(verdict(network, true));
            } catch (error) {
                upper.replaceChildren(error.code === "no_bound" ? "none" : "–");
                upper.title = error.detail ?? "";
            }
        };
        watch.observe(upper);
    };
}

function create(again) {
    const name = h("input", { required: true, pattern: "[A-Za-z0-9_][A-Za-z0-9._\\-]{0,127}", spellcheck: "false" });
    const definition = h("textarea", { rows: 9, spellcheck: "false", value: EXAMPLE });
    const file = h("input", { type: "file", accept: ".json,.safetensors,.keras,.h5,.onelip" });
    const coefficient = select([
        { value: "deel_lip", text: "as deel-lip computes them" },
        { value: "sound", text: "sound: a bound for convolutions, too" },
    ]);
    const make = async () => {
        const old = await get(`/v2/models/${enc(name.value)}`).catch(error => {
            if (error.status !== 404) throw error;
        });
        if (
            old &&
            !(await sure(
                `Replace ${name.value}?`,
                "There is a model of this name. Its head's definition, weights and training state would be replaced.",
                "Replace",
                true,
            ))
        )
            return;
        /* A file is known by its name: octet-stream says nothing. */
        const [chosen] = file.files,
            options = query({ coefficient: coefficient.value, filename: chosen?.name });
        await call("PUT", `/v2/models/${enc(name.value)}${options}`, {
            body: chosen ?? definition.value,
            headers: { "Content-Type": chosen ? "application/octet-stream" : "application/json" },
        });
        announce(`${name.value} was created`);
        location.hash = `#/models/${enc(name.value)}`;
        again();
    };
    return h(
        "details",
        { class: "panel" },
        h("summary", null, "New model"),
        form(
            make,
            "Create",
            h("div", { class: "row" }, field("Name", name), field("Coefficients of the layers", coefficient)),
            field(
                "Definition",
                definition,
                "Keras's own JSON of a model: model.to_json() of a deel-lip model, for one.",
            ),
            field("Or a file", file, "Safetensors with the definition inside, or the definition as JSON."),
        ),
    );
}

export async function render(view, { signal, again }) {
    const models = await list("/v2/models?detail=true", { signal }),
        prove = prover(signal);
    const rows = models.map(model => {
        const upper = h("span", null, "…"),
            sound = h("span");
        if (model.state === "READY") prove(model, upper, sound);
        else upper.textContent = "–";
        return [
            h("a", { href: `#/models/${enc(model.name)}` }, model.name),
            h("span", { title: model.reason ?? model.error }, stateTag(model.state)),
            [`v${model.head ?? "–"} `, labelsOf(model, model.head)],
            count(model.weights_revision),
            `${model.inputs.map(i => shape(i.shape)).join(", ")} → ${model.outputs.map(o => shape(o.shape)).join(", ")}`,
            model.coefficient === "sound" ? "sound" : "deel-lip",
            count(model.trainable_parameters),
            model.k_coef_lip === null || model.k_coef_lip === undefined ? "–" : String(model.k_coef_lip),
            upper,
            sound,
        ];
    });
    view.append(
        h("h1", null, "Models"),
        models.length
            ? table(
                  "Models",
                  [
                      "Name",
                      "State",
                      "Head",
                      ["Revision", "n"],
                      "Input → output",
                      "Coefficients",
                      ["Parameters", "n"],
                      ["Claimed", "n"],
                      ["Proven at most", "n"],
                      "The claim",
                  ],
                  rows,
              )
            : note("There is none yet."),
        create(again),
    );
}
