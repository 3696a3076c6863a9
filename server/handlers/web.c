/* web.c: what people look at: the dashboard; and what they and their tools read of the API: its description, the pages of its
 * errors, swagger-ui. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "handlers.h"
#include "settings.h"

#define MAX_FILE (16 << 20)

/* server/openapi.json, as it is. */
static const unsigned char openapi[] = {
#include "openapi.inc"
};

/* One origin, no inline script, no frame. The dashboard also makes its page of nodes alone, never of text that is parsed, and
 * sends no form; swagger-ui sets styles of its own and has images in its style sheet. */
#define ONE_ORIGIN "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
static const char docs_policy[] = ONE_ORIGIN "style-src 'self' 'unsafe-inline'; img-src 'self' data:";
static const char ui_policy[] = ONE_ORIGIN "style-src 'self'; img-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";

static void page_headers(struct reply *rp, const char *policy)
{
    reply_text(rp, "Content-Security-Policy", policy);
    reply_header(rp, "X-Content-Type-Options", "nosniff");
    reply_header(rp, "Referrer-Policy", "no-referrer");
}

/* GET /openapi.json: its server is the one that every path is below. */
void handle_openapi(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char servers[] = "\"servers\": [{\"url\": \"/";
    const char *prefix = ctx->config->api_prefix, *root = memmem(openapi, sizeof openapi, servers, sizeof servers - 1);
    size_t before = root ? (size_t)(root - (const char *)openapi) + sizeof servers - 1 : 0, more = root && *prefix ? strlen(prefix) - 1 : 0;
    char *copy = malloc(sizeof openapi + more);

    if (!copy) {
        reply_no_memory(rp);
        return;
    }
    memcpy(copy, openapi, before);
    memcpy(copy + before, prefix + (more > 0), more);
    memcpy(copy + before + more, openapi + before, sizeof openapi - before);
    if (codec_hash_etag(rq, rp, copy, sizeof openapi + more))
        free(copy);
    else
        reply_bytes(rp, 200, "application/json", copy, sizeof openapi + more);
}

/* GET /v2/problems/{code}  ->  {"code","title","statuses","remedy"}, or a page for a browser */
void handle_problem(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const types[] = {"application/json", "text/html"};
    const struct problem *problem = find_problem(rq->param[0]);
    char *page;

    (void)ctx;
    if (!problem) {
        reply_error(rp, 404, "not_found", NULL, "no error has the code \"%s\"", rq->param[0]);
        return;
    }
    if (codec_accept(rq, rp, types, 2) != 1) {
        json_t *statuses = json_array();

        for (const char *s = problem->statuses; *s; s += strcspn(s, " "), s += strspn(s, " "))
            json_array_append_new(statuses, json_integer(atol(s)));
        reply_json(rp, 200, json_pack("{s:s, s:s, s:o, s:s}", "code", problem->code, "title", problem->title, "statuses",
                                      statuses, "remedy", problem->remedy));
        return;
    }
    page_headers(rp, docs_policy);
    /* Nothing in errors.def needs escaping in HTML but quotes, which do not where no attribute is. */
    if (asprintf(&page,
                 "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>%s</title>\n"
                 "<h1>%s</h1>\n<p><code>%s</code>, status %s</p>\n<p>%s</p>\n</html>\n",
                 problem->code, problem->title, problem->code, problem->statuses, problem->remedy) < 0)
        reply_no_memory(rp);
    else
        reply_bytes(rp, 200, "text/html; charset=utf-8", page, strlen(page));
}

static const char *type_of(const char *name)
{
    static const struct {
        const char *suffix, *type;
    } types[] = {{".html", "text/html; charset=utf-8"}, {".js", "text/javascript; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},   {".svg", "image/svg+xml"},
                 {".png", "image/png"}};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (!strcmp(dot, types[i].suffix))
            return types[i].type;
    return NULL;
}

/* A regular file, whole. NULL: errno says why. */
static char *read_web_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    char *text = NULL;
    size_t n = 0;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
        errno = ENOENT;
    else if ((text = malloc((size_t)st.st_size + 1))) {
        ssize_t got;
        while (n < (size_t)st.st_size && (got = read(fd, text + n, (size_t)st.st_size - n)) > 0)
            n += (size_t)got;
    }
    close(fd);
    *size = n;
    return text;
}

/* A file of a folder of --web-root. missing: why the folder may not be there, after the words that it is not. A browser
 * asks each time whether it has changed, so that no page is made of files of two versions. */
static void answer_file(struct ctx *ctx, const struct request *rq, struct reply *rp, const char *folder, const char *name,
                        const char *policy, const char *missing)
{
    const char *type = *name == '.' ? NULL : type_of(name); /* a segment of the path: no "/" */
    char path[PATH_MAX], *text = NULL;
    size_t size = 0;

    if (type && snprintf(path, sizeof path, "%s/%s/%s", ctx->config->web_root, folder, name) < (int)sizeof path &&
        !(text = read_web_file(path, &size)) && errno == ENOMEM) {
        reply_no_memory(rp);
        return;
    }
    if (!text) {
        reply_error(rp, 404, "not_found", NULL, "there is no /%s/%s here%s", folder, name, strcmp(name, "index.html") ? "" : missing);
        return;
    }
    page_headers(rp, policy);
    reply_header(rp, "Cache-Control", "no-cache");
    if (codec_hash_etag(rq, rp, text, size))
        free(text);
    else
        reply_bytes(rp, 200, type, text, size);
}

static void answer_redirect(struct reply *rp, const char *path)
{
    reply_header(rp, "Location", "%s", path);
    reply_bytes(rp, 307, NULL, NULL, 0);
}

/* GET /docs  ->  the first page of the docs, whose links are relative */
void handle_docs(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    (void)rq;
    answer_redirect(rp, "/docs/index.html");
}

/* GET /docs/{file} */
void handle_docs_file(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    answer_file(ctx, rq, rp, "docs", rq->param[0], docs_policy,
                ": this build has no swagger-ui, or --web-root is another folder");
}

static void answer_ui(struct ctx *ctx, const struct request *rq, struct reply *rp, const char *name)
{
    answer_file(ctx, rq, rp, "ui", name, ui_policy, ": the dashboard is not installed, or --web-root is another folder");
}

/* GET /, GET /ui, GET /ui/  ->  the dashboard, whose links are relative to /ui/ */
void handle_ui(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    if (strcmp(rq->path + strlen(ctx->config->api_prefix), "/ui/"))
        answer_redirect(rp, "/ui/");
    else
        answer_ui(ctx, rq, rp, "index.html");
}

/* GET /ui/{file} */
void handle_ui_file(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    answer_ui(ctx, rq, rp, rq->param[0]);
}
