// api.js: requests, failures, events. The daemon's root is the folder above this one, also below an --api-prefix.

const ROOT = new URL("../", import.meta.url);
const KEY = "onelip.key";

export const signedIn = () => sessionStorage.getItem(KEY) !== null;
export function signIn(key) {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
}

/* A failure as the server tells it: status, code, title, detail, errors, request_id. */
export class Problem extends Error {
    constructor(status, body) {
        super(body.detail ?? body.error ?? `status ${status}`);
        Object.assign(this, body, { status });
        this.name = "Problem";
        this.title ??= `The server answered ${status}`;
    }

    /* What can be done about it: the page of its code. */
    async remedy() {
        const answer = this.type && (await fetch(url(this.type), { headers: { Accept: "application/json" } }));
        return answer?.ok ? (await answer.json()).remedy : "";
    }
}

/* Where a path is: one of ours begins at the daemon's root, a link of the server's own has the prefix already. */
export const url = path => new URL(path.startsWith(ROOT.pathname) ? path : path.slice(1), ROOT);
export const enc = encodeURIComponent;
export const query = members => {
    const set = Object.entries(members).filter(([, value]) => value !== null && value !== undefined && value !== "");
    return set.length ? `?${new URLSearchParams(set)}` : "";
};

/* Set by app.js: asks for a key, resolves to whether one was given. One question for all requests that wait. */
let asked = null;
export const hooks = { unauthorized: async () => false };

async function failure(answer) {
    const text = await answer.text();
    let body = {};
    try {
        body = JSON.parse(text);
    } catch {
        body = { detail: text.slice(0, 300) || answer.statusText };
    }
    return new Problem(answer.status, body);
}

/* The response of a request that went well; else a Problem is thrown. upload(url, headers): sends it instead, resolves to a response. */
export async function call(method, path, { body, headers = {}, signal, upload } = {}) {
    for (;;) {
        const key = sessionStorage.getItem(KEY);
        const all = {
            Accept: "application/json",
            ...headers,
            ...(key === null ? {} : { Authorization: `Bearer ${key}` }),
        };
        let answer;
        try {
            answer = await (upload?.(url(path), all) ??
                fetch(url(path), { method, body, headers: all, signal, cache: "no-store" }));
        } catch (error) {
            if (error.name === "AbortError" || error.title) throw error;
            throw Object.assign(new Error("No answer came: it has stopped, or the way to it is cut."), {
                title: "The server does not answer",
                name: "Unreachable",
            });
        }
        if (answer.ok) return answer;
        const problem = await failure(answer);
        if (answer.status !== 401) throw problem;
        if (key !== sessionStorage.getItem(KEY)) /* somebody has signed in meanwhile */ continue;
        asked ??= hooks.unauthorized(problem).finally(() => {
            asked = null;
        });
        if (!(await asked)) throw problem;
    }
}

export const get = async (path, options) => (await call("GET", path, options)).json();
export async function send(method, path, body, { headers, ...options } = {}) {
    const answer = await call(method, path, {
        ...options,
        body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", ...headers },
    });
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
}

/* All of a list, a thousand a page. */
export async function list(path, options) {
    const data = [];
    let next = path + (path.includes("?") ? "&" : "?") + "limit=1000";
    while (next) {
        const page = await get(next, options);
        data.push(...page.data);
        next = page.has_more ? page.next : null;
    }
    return data;
}

/* Tensors {name, shape, data}: a Float32Array goes as bytes behind the JSON (the binary extension), a plain array as INT64 numbers. */
export async function sendTensors(path, tensors, members = {}, options = {}) {
    const floats = tensors.filter(t => t.data instanceof Float32Array);
    const inputs = tensors.map(({ name, shape, data }) =>
        data instanceof Float32Array
            ? { name, shape, datatype: "FP32", parameters: { binary_data_size: data.byteLength } }
            : { name, shape, datatype: "INT64", data },
    );
    const head = new TextEncoder().encode(JSON.stringify({ ...members, inputs }));
    const body = new Blob([head, ...floats.map(t => t.data)]);
    const headers = { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": head.length };
    return (await call("POST", path, { ...options, body, headers })).json();
}

// ---- events

const pause = (ms, signal) =>
    new Promise(resolve => {
        const timer = setTimeout(done, ms);
        function done() {
            clearTimeout(timer);
            signal.removeEventListener("abort", done);
            resolve();
        }
        signal.addEventListener("abort", done);
    });

const shown = signal =>
    new Promise(resolve => {
        const look = () => {
            if (document.hidden && !signal.aborted) return;
            document.removeEventListener("visibilitychange", look);
            signal.removeEventListener("abort", look);
            resolve();
        };
        document.addEventListener("visibilitychange", look);
        signal.addEventListener("abort", look);
        look();
    });

/* Blocks of a stream of server-sent events: {id, event, data, retry}; a comment is an empty one. */
export async function* blocks(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        text += value.replaceAll("\r\n", "\n");
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
            const block = {};
            for (const line of text.slice(0, end).split("\n")) {
                const colon = line.indexOf(":"),
                    name = line.slice(0, colon),
                    rest = line.slice(colon + 1).replace(/^ /, "");
                if (colon > 0) block[name] = name === "data" && "data" in block ? `${block.data}\n${rest}` : rest;
            }
            yield block;
        }
    }
}

/* Every event of a stream, once, until it ends: a lost connection is taken up again behind the last one. EventSource could not
 * send a key. A page that is not seen keeps none of the few connections that a browser has; a stream that not even pings is lost.
 * told: "live", "lost", "hidden" or "ended". */
export async function follow(path, { signal, event, told }) {
    let last = null,
        retry = 2000;
    while (!signal.aborted) {
        const connection = new AbortController(),
            stop = () => connection.abort(),
            hide = () => document.hidden && stop();
        let silent = null;
        const alive = () => {
            clearTimeout(silent);
            silent = setTimeout(stop, 40000);
        };
        signal.addEventListener("abort", stop);
        document.addEventListener("visibilitychange", hide);
        try {
            const answer = await call("GET", path, {
                signal: connection.signal,
                headers: { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) },
            });
            if (answer.status === 204) return told("ended");
            told("live");
            alive();
            for await (const block of blocks(answer.body)) {
                alive();
                if (block.retry) retry = Number(block.retry);
                if (block.id !== undefined) last = block.id;
                if (block.event === "end") return told("ended");
                if (block.data !== undefined) event(JSON.parse(block.data), block.event);
            }
        } catch (error) {
            if (error instanceof Problem && error.status < 500 && error.status !== 429) throw error;
        } finally {
            clearTimeout(silent);
            connection.abort();
            signal.removeEventListener("abort", stop);
            document.removeEventListener("visibilitychange", hide);
        }
        if (signal.aborted) return;
        told(document.hidden ? "hidden" : "lost");
        await (document.hidden ? shown(signal) : pause(retry, signal));
    }
}
