// app.js: which page the address names, who is signed in, whether the server is well.

import { call, hooks, signedIn, signIn } from "./api.js";
import { announce, field, h, problem } from "./dom.js";
import * as datasets from "./datasets.js";
import * as job from "./job.js";
import * as jobs from "./jobs.js";
import * as model from "./model.js";
import * as models from "./models.js";
import * as server from "./server.js";

/* The first whose segments fit; a name in braces takes any. A page is render(main, {names, query, signal}), and has a title. */
const pages = [
    ["models", models],
    ["models/{name}", model],
    ["models/{name}/{part}", model],
    ["datasets", datasets],
    ["datasets/{name}", datasets],
    ["jobs", jobs],
    ["jobs/{id}", job],
    ["server", server],
];

const main = document.getElementById("main"),
    sign = document.getElementById("sign"),
    health = document.getElementById("health");
let leave = new AbortController(),
    before = null;

function find(path) {
    const segments = path
        .split("/")
        .filter(s => s)
        .map(decodeURIComponent);
    for (const [template, page] of pages) {
        const parts = template.split("/"),
            names = {};
        if (
            parts.length === segments.length &&
            parts.every((p, i) => (p.startsWith("{") ? (names[p.slice(1, -1)] = segments[i]) : p === segments[i]))
        )
            return { page, names };
    }
    return null;
}

async function show() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?"),
        found = find(path || "models");
    leave.abort();
    leave = new AbortController();
    const { signal } = leave;
    for (const link of document.querySelectorAll("header nav a"))
        link.toggleAttribute(
            "aria-current",
            link.hash.slice(2) === (path || "models").split("/")[0] && link.hash !== "",
        );
    const view = h("div", { class: "view" }),
        moved = before !== null && before !== path;
    before = path;
    sign.hidden = !signedIn();
    if (!found) {
        main.replaceChildren(
            h("h1", null, "There is no such page"),
            h("p", null, h("a", { href: "#/models" }, "The models")),
        );
        return;
    }
    main.setAttribute("aria-busy", "true");
    const title = found.page.title(found.names);
    document.title = `${title} · onelip`;
    try {
        await found.page.render(view, { names: found.names, query: new URLSearchParams(query), signal, again: show });
    } catch (error) {
        if (error.name === "AbortError" || signal.aborted) return;
        view.replaceChildren(h("h1", null, title), problem(error));
    }
    if (signal.aborted) return;
    main.replaceChildren(view);
    main.removeAttribute("aria-busy");
    sign.hidden = !signedIn();
    if (moved) {
        scrollTo(0, 0);
        main.focus({ preventScroll: true });
        announce(title);
    }
}

/* Asks for a key; what the server says of the last one, if there was one, is shown. */
hooks.unauthorized = said =>
    new Promise(resolve => {
        const key = h("input", {
            type: "password",
            autocomplete: "current-password",
            required: true,
            spellcheck: "false",
        });
        const form = h(
            "form",
            { method: "dialog" },
            h("h2", null, "Sign in"),
            h(
                "p",
                null,
                "This server wants an API key. It is kept until this tab is closed, and sent to this server alone.",
            ),
            signedIn() ? problem(said) : null,
            field("API key", key),
            h(
                "p",
                { class: "buttons" },
                h("button", { value: "yes", class: "main" }, "Sign in"),
                h("button", { value: "", formnovalidate: true }, "Cancel"),
            ),
        );
        const dialog = h(
            "dialog",
            {
                class: "sign-in",
                onclose: () => {
                    const given = dialog.returnValue === "yes" && key.value.trim() !== "";
                    dialog.remove();
                    if (given) signIn(key.value.trim());
                    sign.hidden = !signedIn();
                    resolve(given);
                },
            },
            form,
        );
        document.body.append(dialog);
        dialog.showModal();
    });

sign.addEventListener("click", () => {
    signIn(null);
    show();
});

async function look() {
    if (document.hidden) return;
    const say = (kind, text) => {
        if (health.textContent !== text) {
            health.className = `health ${kind}`;
            health.textContent = text;
        }
    };
    try {
        await call("GET", "/v2/health/ready");
        say("good", "ready");
    } catch (error) {
        say("bad", error.reason ?? (error.status ? "not ready" : "no answer"));
    }
}

addEventListener("hashchange", show);
document.querySelector(".skip").addEventListener("click", event => {
    event.preventDefault();
    main.focus();
});
document.addEventListener("visibilitychange", look);
setInterval(look, 10000);
look();
show();
