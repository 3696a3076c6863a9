// model.js: one model: its head or a version, and the parts of its page.

import { call, enc } from "./api.js";
import { count, facts, h, note, shape, tag } from "./dom.js";
import { labelsOf, stateTag } from "./models.js";
import * as certify from "./certify.js";
import * as infer from "./infer.js";
import * as manage from "./manage.js";
import * as report from "./report.js";
import * as training from "./training.js";
import * as versions from "./versions.js";

const parts = [
    ["report", "Lipschitz report", report],
    ["certify", "Certify", certify],
    ["infer", "Infer", infer],
    ["training", "Training", training],
    ["versions", "Versions", versions],
    ["manage", "Manage", manage],
];

export const title = ({ name, part }) => (part ? `${name}: ${parts.find(p => p[0] === part)?.[1] ?? part}` : name);

export async function render(view, context) {
    const {
            names: { name, part = "report" },
            query,
            signal,
        } = context,
        version = query.get("version");
    const path = `/v2/models/${enc(name)}`,
        base = version ? `${path}/versions/${enc(version)}` : path;
    const answer = await call("GET", base, { signal }),
        model = await answer.json();
    if (model.state !== "READY") {
        const told = h("div");
        view.append(
            h("p", { class: "crumb" }, h("a", { href: "#/models" }, "Models")),
            h("div", { class: "title" }, h("h1", null, name), stateTag(model.state)),
            note(`It cannot be asked anything now: ${model.error ?? model.reason ?? model.state.toLowerCase()}.`),
            told,
            manage.ending(name, path, told, context.again, model.state === "LOADING"),
        );
        return;
    }
    const found = parts.find(p => p[0] === part) ?? parts[0],
        here = version ? `?version=${enc(version)}` : "";
    const headed = h(
        "div",
        { class: "title" },
        h("h1", null, name),
        stateTag(model.state),
        version ? tag(`version ${version}, frozen`) : null,
        labelsOf(model, version ?? model.head),
    );
    view.append(
        h(
            "p",
            { class: "crumb" },
            h("a", { href: "#/models" }, "Models"),
            version && [" / ", h("a", { href: `#/models/${enc(name)}` }, "the head")],
        ),
        headed,
        model.description && h("p", null, model.description),
        facts([
            ["Input", model.inputs.map(i => `${i.name} ${shape(i.shape)}`).join(", ")],
            ["Output", model.outputs.map(o => `${o.name} ${shape(o.shape)}`).join(", ")],
            ["Parameters", count(model.trainable_parameters)],
            ["Coefficients", model.coefficient === "sound" ? "sound" : "as deel-lip"],
            ["Revision", count(model.weights_revision), "of the weights that are served"],
            !version && ["On disk", count(model.checkpointed_revision), "the newest revision that outlives a crash"],
            ["Version", version ?? model.head],
        ]),
        ...(model.warnings ?? []).map(w =>
            h("p", { class: "warning" }, typeof w === "string" ? w : (w.text ?? JSON.stringify(w))),
        ),
        h(
            "nav",
            { class: "tabs", "aria-label": "Parts of the model" },
            parts.map(([id, label]) =>
                h(
                    "a",
                    { href: `#/models/${enc(name)}/${id}${here}`, "aria-current": id === found[0] ? "page" : null },
                    label,
                ),
            ),
        ),
    );
    const body = h("div", { class: "view" });
    view.append(body);
    /* The head's tag keeps an action from meeting another state than the one that is looked at. */
    await found[2].render(body, { ...context, model, path, base, version, etag: answer.headers.get("ETag") });
}
