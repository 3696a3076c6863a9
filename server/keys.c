/* keys.c: the daemon knows the hashes of keys only; what a request brings is hashed and compared with all of them. */
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH 32 /* bytes of SHA-256 */
#define KEYS 1000

struct key {
    unsigned char sha256[HASH];
    unsigned scopes; /* what it allows, the lesser ones included */
};

struct keys {
    pthread_rwlock_t lock; /* of n and key */
    struct key *key;
    size_t n;
    bool credential;
    char path[];
};

static bool fail(char *why, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool fail(char *why, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return false;
}

/* ---- routes ------------------------------------------------------------------------------------------------ */

static bool is_one_of(const char *text, size_t length, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == length && !strncmp(*list, text, length))
            return true;
    return false;
}

/* Below /v2/models/{m}: what stands behind the model, and behind the version or label that is read instead. */
static enum scope scope_of_model(const char *method, const char *rest)
{
    static const char *const asked[] = {"infer",    "evaluate",    "gradients",       "certify", "wasserstein",
                                        "generate", "generate_stream", NULL};
    static const char *const secret[] = {"weights", "export", "checkpoints", NULL};
    static const char *const trained[] = {"training", "versions", "labels",   "layers",  "train_step",
                                          "refresh",  "condense", "tighten", NULL};
    bool reads = !strcmp(method, "GET");
    size_t length;

    if (!strncmp(rest, "/versions/{", 11) || !strncmp(rest, "/labels/{", 9)) {
        const char *behind = strchr(rest + 1, '/');

        behind += 1 + strcspn(behind + 1, "/");
        if (*behind)
            rest = behind;
    }
    if (!*rest)
        return reads ? SCOPE_INFER : SCOPE_ADMIN;
    length = strcspn(++rest, "/");
    if (is_one_of(rest, length, secret))
        return SCOPE_TRAIN;
    if (reads || is_one_of(rest, length, asked))
        return SCOPE_INFER;
    return is_one_of(rest, length, trained) ? SCOPE_TRAIN : SCOPE_ADMIN;
}

static bool begins(const char *text, const char *with)
{
    size_t length = strlen(with);

    return !strncmp(text, with, length) && (!text[length] || text[length] == '/');
}

enum scope scope_of(const char *method, const char *template)
{
    static const char *const open[] = {"/", "/health", "/healthz", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready",
                                       "/openapi.json", NULL};
    bool reads = !strcmp(method, "GET");

    if (is_one_of(template, strlen(template), open) || begins(template, "/ui") || begins(template, "/docs") ||
        begins(template, "/v2/problems"))
        return SCOPE_NONE;
    if (!strcmp(template, "/metrics"))
        return SCOPE_METRICS;
    if (begins(template, "/v2/datasets") || begins(template, "/v2/jobs") || begins(template, "/v2/events"))
        return SCOPE_TRAIN;
    if (begins(template, "/v2/models/{m}"))
        return scope_of_model(method, template + strlen("/v2/models/{m}"));
    if (!strcmp(template, "/v2/repository/index") || !strcmp(template, "/v2/repository/{repo}/index") ||
        (reads && (!strcmp(template, "/v2") || begins(template, "/v2/models") || begins(template, "/v2/systemsharedmemory") ||
                   begins(template, "/v2/cudasharedmemory"))))
        return SCOPE_INFER;
    return SCOPE_ADMIN;
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

/* "infer" and so on, with all that it includes; 0 for other words. */
static unsigned scopes_named(const char *name)
{
    return !name                    ? 0
           : !strcmp(name, "infer")   ? SCOPE_INFER
           : !strcmp(name, "train")   ? SCOPE_TRAIN | SCOPE_INFER
           : !strcmp(name, "admin")   ? SCOPE_ADMIN | SCOPE_TRAIN | SCOPE_INFER | SCOPE_METRICS
           : !strcmp(name, "metrics") ? SCOPE_METRICS
                                      : 0;
}

static bool read_hash(const char *hex, unsigned char *hash)
{
    if (!hex || strlen(hex) != 2 * HASH || strspn(hex, "0123456789abcdefABCDEF") != 2 * HASH)
        return false;
    for (size_t i = 0; i < HASH; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};

        hash[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return true;
}

static bool read_key(const json_t *json, struct key *key, const char *place, char *why, size_t size)
{
    const json_t *scopes = json_object_get(json, "scopes"), *scope;
    size_t i;

    if (!json_is_object(json) || json_object_size(json) != 3 || !json_is_string(json_object_get(json, "name")))
        return fail(why, size, "%s: found something else, wanted an object of name, sha256 and scopes", place);
    if (!read_hash(json_string_value(json_object_get(json, "sha256")), key->sha256))
        return fail(why, size, "%s/sha256: found something else, wanted 64 hexadecimal digits", place);
    key->scopes = 0;
    json_array_foreach(scopes, i, scope) {
        unsigned named = scopes_named(json_string_value(scope));

        if (!named)
            return fail(why, size, "%s/scopes/%zu: found something else, wanted infer, train, admin or metrics", place, i);
        key->scopes |= named;
    }
    return key->scopes || fail(why, size, "%s/scopes: found none, wanted an array of some", place);
}

/* The file as JSON, from one open file, so that nothing changes between the look at its mode and the reading. */
static json_t *read_json(const struct keys *k, char *why, size_t size)
{
    int fd = open(k->path, O_RDONLY | O_CLOEXEC);
    json_error_t error;
    json_t *json = NULL;
    struct stat is;

    if (fd < 0 || fstat(fd, &is)) {
        fail(why, size, "onelipd: %s: %s", k->path, strerror(errno));
    } else if (!k->credential && is.st_mode & 077) {
        fail(why, size, "%s:1: mode: found %04o, wanted 0600 or stricter", k->path, is.st_mode & 07777);
    } else if (!(json = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error))) {
        fail(why, size, "%s:%d: %s", k->path, error.line > 0 ? error.line : 1, error.text);
    }
    if (fd >= 0)
        close(fd);
    return json;
}

bool keys_reload(struct keys *k, char *why, size_t size)
{
    json_t *json = read_json(k, why, size), *list = json_object_get(json, "keys");
    size_t n = json_array_size(list);
    struct key *key = n && n <= KEYS ? calloc(n, sizeof *key) : NULL;
    bool good = key != NULL;
    char place[600];

    if (json && !good)
        fail(why, size, "%s:1: keys: found none (or more than %d), wanted {\"keys\":[...]}", k->path, KEYS);
    for (size_t i = 0; good && i < n; i++) {
        snprintf(place, sizeof place, "%s:1: /keys/%zu", k->path, i);
        good = read_key(json_array_get(list, i), &key[i], place, why, size);
    }
    json_decref(json);
    if (good) {
        struct key *old;

        pthread_rwlock_wrlock(&k->lock);
        old = k->key;
        k->key = key;
        k->n = n;
        pthread_rwlock_unlock(&k->lock);
        key = old;
    }
    free(key);
    return good;
}

struct keys *keys_open(const char *path, bool credential, char *why, size_t size)
{
    size_t length = strlen(path) + 1;
    struct keys *k = calloc(1, sizeof *k + length);

    if (!k) {
        fail(why, size, "onelipd: out of memory");
        return NULL;
    }
    memcpy(k->path, path, length);
    k->credential = credential;
    pthread_rwlock_init(&k->lock, NULL);
    if (keys_reload(k, why, size))
        return k;
    keys_close(k);
    return NULL;
}

void keys_close(struct keys *k)
{
    if (!k)
        return;
    pthread_rwlock_destroy(&k->lock);
    free(k->key);
    free(k);
}

/* ---- requests ------------------------------------------------------------------------------------------------- */

enum key_verdict keys_check(struct keys *k, const char *authorization, const char *api_key, enum scope scope)
{
    unsigned char hash[HASH];
    unsigned allowed = 0;
    bool known = false;

    if (scope == SCOPE_NONE)
        return KEY_FINE;
    if (authorization && !strncasecmp(authorization, "Bearer ", 7))
        api_key = authorization + 7 + strspn(authorization + 7, " ");
    if (!api_key || gnutls_hash_fast(GNUTLS_DIG_SHA256, api_key, strlen(api_key), hash))
        return KEY_UNKNOWN;
    pthread_rwlock_rdlock(&k->lock);
    for (size_t i = 0; i < k->n; i++) { /* all of them, whichever fits */
        bool same = !gnutls_memcmp(k->key[i].sha256, hash, HASH);

        known |= same;
        allowed |= same ? k->key[i].scopes : 0;
    }
    pthread_rwlock_unlock(&k->lock);
    return allowed & scope ? KEY_FINE : known ? KEY_FORBIDDEN : KEY_UNKNOWN;
}
