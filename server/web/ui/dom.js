// dom.js: nodes, forms and numbers. Nothing here or elsewhere parses text as HTML: the policy of these pages forbids it.

const SVG = "http://www.w3.org/2000/svg";

function add(node, children) {
    for (const child of children.flat(Infinity))
        if (child !== null && child !== undefined && child !== false) node.append(child);
    return node;
}

function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (name === "value") node.value = value;
        else if (value === true) node.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    return add(node, children);
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// ---- words for people who cannot see what changed

export function announce(text) {
    const live = document.getElementById("live");
    live.textContent = "";
    requestAnimationFrame(() => {
        live.textContent = text;
    });
}

// ---- numbers

/* x to so many digits, never on the wrong side: +1 rounds up, -1 down, 0 to the nearest. A bound stays one when it is shown. */
export function round(x, direction = 0, digits = 6) {
    if (x === null || x === undefined) return "–";
    const value = typeof x === "string" ? Number(x) : x;
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
    let shown = Number(value.toPrecision(digits));
    if (direction && (shown - value) * direction < 0) {
        const unit = 10 ** (Math.floor(Math.log10(Math.abs(value))) - digits + 1);
        shown = Number((shown + direction * unit).toPrecision(digits));
    }
    const size = Math.abs(shown);
    return (size !== 0 && (size < 1e-4 || size >= 1e7) ? shown.toExponential() : String(shown)).replace("-", "−");
}
export const up = (x, digits) => round(x, 1, digits);
export const down = (x, digits) => round(x, -1, digits);
export const near = (x, digits = 5) => round(x, 0, digits);
export const percent = x => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(2)} %`);
export const count = n => (n === null || n === undefined ? "–" : n.toLocaleString("en"));
export const shape = s => (s ? s.map(d => (d === null || d < 0 ? "n" : d)).join("×") : "–");

export function bytes(n) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let i = 0;
    while (n >= 1000 && i < units.length - 1) ((n /= 1000), i++);
    return `${i ? n.toFixed(1) : n} ${units[i]}`;
}

export function when(text) {
    if (!text) return "–";
    const date = new Date(text);
    const year = date.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
    return h(
        "time",
        { datetime: text, title: text },
        date.toLocaleString("en-GB", {
            day: "numeric",
            month: "short",
            ...year,
            hour: "2-digit",
            minute: "2-digit",
            second: "2-digit",
        }),
    );
}

// ---- tables: columns are [heading, class] or heading; rows are arrays of cells

export function table(caption, columns, rows, attributes) {
    const classes = columns.map(c => (Array.isArray(c) ? c[1] : null));
    const head = columns.map((c, i) => h("th", { scope: "col", class: classes[i] }, Array.isArray(c) ? c[0] : c));
    const cell = (content, i) =>
        i ? h("td", { class: classes[i] }, content) : h("th", { scope: "row", class: classes[i] }, content);
    return h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
        h(
            "table",
            attributes,
            h("caption", { class: "visually-hidden" }, caption),
            h("thead", null, h("tr", null, head)),
            h(
                "tbody",
                null,
                rows.map(row => h("tr", row.attributes, row.map(cell))),
            ),
        ),
    );
}

export const facts = pairs =>
    h(
        "dl",
        { class: "facts" },
        pairs
            .filter(pair => pair)
            .map(([name, value, title]) => h("div", { title }, h("dt", null, name), h("dd", null, value))),
    );

export const tag = (text, kind) => h("span", { class: `tag ${kind ?? ""}` }, text);

// ---- forms

let ids = 0;

/* A label with its control, and a hint that belongs to it. */
export function field(label, control, hint) {
    control.id ||= `f${++ids}`;
    if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
    if (control.type === "checkbox")
        return h(
            "p",
            { class: "check" },
            control,
            " ",
            h("label", { for: control.id }, label),
            hint && h("small", { id: `${control.id}-hint` }, hint),
        );
    return h(
        "p",
        { class: "field" },
        h("label", { for: control.id }, label),
        control,
        hint && h("small", { id: `${control.id}-hint` }, hint),
    );
}

export const select = (options, attributes) => {
    const control = h(
        "select",
        attributes,
        options.map(o => h("option", { value: o.value ?? o }, o.text ?? o)),
    );
    if (attributes?.value !== undefined) control.value = attributes.value;
    return control;
};

/* A form whose submit runs work(); what fails is told below the buttons, those of `more` included, if it is {button, told}. */
export function form(work, label, ...children) {
    const button = h("button", { class: "main" }, label),
        told = h("div"),
        more = children.at(-1)?.told ? children.pop() : { told };
    return h(
        "form",
        {
            onsubmit: event => {
                event.preventDefault();
                act(button, more.told, work);
            },
        },
        children,
        h("p", { class: "buttons" }, button, more.button),
        more.told,
    );
}

/* Run work() for a button: it is off meanwhile, and a failure is shown in `told`. */
export async function act(button, told, work) {
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    told.replaceChildren();
    try {
        await work();
    } catch (error) {
        if (error.name !== "AbortError") told.replaceChildren(problem(error));
    } finally {
        button.disabled = false;
        button.removeAttribute("aria-busy");
    }
}

export function button(label, work, told, attributes) {
    const node = h("button", { type: "button", ...attributes, onclick: () => act(node, told, work) }, label);
    return node;
}

/* Whether the person means it. */
export function sure(title, text, yes, danger = false) {
    return new Promise(resolve => {
        const answer = h(
            "form",
            { method: "dialog" },
            h("h2", null, title),
            h("p", null, text),
            h(
                "p",
                { class: "buttons" },
                h("button", { value: "yes", class: danger ? "danger" : "main" }, yes),
                h("button", { value: "" }, "Cancel"),
            ),
        );
        const dialog = h(
            "dialog",
            {
                onclose: () => {
                    resolve(dialog.returnValue === "yes");
                    dialog.remove();
                },
            },
            answer,
        );
        document.body.append(dialog);
        dialog.showModal();
    });
}

export function download(blob, name) {
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/* What went wrong, in the server's words: title, detail, what to do. */
export function problem(error) {
    const remedy = h("p", { class: "remedy", hidden: true });
    error.remedy?.().then(
        text => {
            remedy.textContent = text;
            remedy.hidden = !text;
        },
        () => {},
    );
    return h(
        "section",
        { class: "problem", role: "alert" },
        h("h3", null, error.title ?? "Something went wrong here"),
        h("p", null, error.detail ?? String(error.message ?? error)),
        error.errors?.length
            ? h(
                  "ul",
                  null,
                  error.errors.map(e => h("li", null, h("code", null, e.pointer || "/"), " ", e.detail)),
              )
            : null,
        remedy,
        error.code &&
            h(
                "p",
                { class: "meta" },
                `${error.status} ${error.code}`,
                error.request_id && `, request ${error.request_id}`,
            ),
    );
}

/* In the place of a part of a page: what went wrong with it; what a key may not see is only said. */
export function failed(error) {
    if (error.name === "AbortError") throw error;
    return error.code === "forbidden" || error.code === "unauthorized" ? note(error.detail) : problem(error);
}

export const note = (...children) => h("p", { class: "note" }, children);
