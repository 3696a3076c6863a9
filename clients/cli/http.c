/* http.c: libcurl, one handle that keeps its connection. */
#include "http.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct server {
    CURL *curl;
    char *base;
    char *answer;
    size_t bytes, room;
};

static size_t take(char *data, size_t one, size_t bytes, void *ctx)
{
    struct server *s = ctx;

    (void)one;
    if (s->bytes + bytes + 1 > s->room) {
        size_t room = 2 * (s->bytes + bytes) + 1;
        char *more = realloc(s->answer, room);
        if (!more)
            return 0;
        s->answer = more;
        s->room = room;
    }
    memcpy(s->answer + s->bytes, data, bytes);
    s->bytes += bytes;
    s->answer[s->bytes] = '\0';
    return bytes;
}

struct server *server_open(const char *url)
{
    static const char unix_prefix[] = "unix:";
    bool local = !strncmp(url, unix_prefix, sizeof unix_prefix - 1);
    struct server *s = calloc(1, sizeof *s);

    if (!s || curl_global_init(CURL_GLOBAL_DEFAULT) || !(s->curl = curl_easy_init())) {
        free(s);
        return NULL;
    }
    s->base = strdup(local ? "http://onelipd" : url);
    if (!s->base) {
        server_close(s);
        return NULL;
    }
    for (size_t n = strlen(s->base); n && s->base[n - 1] == '/'; n--)
        s->base[n - 1] = '\0';
    if (local)
        curl_easy_setopt(s->curl, CURLOPT_UNIX_SOCKET_PATH, url + sizeof unix_prefix - 1);
    curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(s->curl, CURLOPT_USERAGENT, "onelip/" PACKAGE_VERSION);
    curl_easy_setopt(s->curl, CURLOPT_NOPROXY, "*");
    return s;
}

void server_close(struct server *s)
{
    if (!s)
        return;
    curl_easy_cleanup(s->curl);
    free(s->answer);
    free(s->base);
    free(s);
    curl_global_cleanup();
}

/* The exit status of an HTTP status, and the server's own words on stderr. */
static int explain(const char *method, const char *path, long status, const json_t *answer)
{
    const char *text = json_string_value(json_object_get(answer, "error"));

    fprintf(stderr, "onelip: %s %s: %ld: %s\n", method, path, status, text ? text : "the answer is no JSON of onelipd");
    if (status == 404)
        fprintf(stderr, "onelip: `onelip ls` lists the models there are\n");
    return status == 404 ? EXIT_NOT_FOUND : status == 401 || status == 403 ? EXIT_REFUSED : EXIT_SERVER;
}

int server_call(struct server *s, const char *method, const char *path, const struct body *body, json_t **answer)
{
    char url[2048], length[96];
    struct curl_slist *headers = NULL;
    long status = 0;
    CURLcode rc;

    if ((size_t)snprintf(url, sizeof url, "%s%s", s->base, path) >= sizeof url) {
        fprintf(stderr, "onelip: the address is too long\n");
        return EXIT_USAGE;
    }
    s->bytes = 0;
    curl_easy_setopt(s->curl, CURLOPT_URL, url);
    curl_easy_setopt(s->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(s->curl, CURLOPT_POST, body ? 1L : 0L);
    if (body) {
        headers = curl_slist_append(headers, body->json ? "Content-Type: application/octet-stream" : "Content-Type: application/json");
        headers = curl_slist_append(headers, "Expect:");
        if (body->json) {
            snprintf(length, sizeof length, "Inference-Header-Content-Length: %zu", body->json);
            headers = curl_slist_append(headers, length);
        }
        curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, body->data);
        curl_easy_setopt(s->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->bytes);
    } else {
        curl_easy_setopt(s->curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, headers);
    rc = curl_easy_perform(s->curl);
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (rc != CURLE_OK) {
        fprintf(stderr, "onelip: %s: %s\n", url, curl_easy_strerror(rc));
        return rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL ? EXIT_USAGE : EXIT_UNREACHABLE;
    }
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *json = s->bytes ? json_loadb(s->answer, s->bytes, 0, NULL) : NULL;
    if (status >= 400 || (s->bytes && !json)) {
        int code = explain(method, path, status, json);
        json_decref(json);
        return code;
    }
    if (answer)
        *answer = json;
    else
        json_decref(json);
    return EXIT_OK;
}
