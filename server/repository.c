/* repository.c: --model-dir, and what requests load and unload. */
#include "repository.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "files.h"
#include "handlers/intake.h"
#include "jobs.h"
#include "log.h"
#include "settings.h"

#define MOST_VERSIONS 1024

/* A file of a model's folder. */
struct found {
    char version[VERSION_MAX];
    char file[NAME_MAX + VERSION_MAX + 2]; /* below the folder */
    struct stat is;
};

/* What a folder holds now, or why nothing can be made of it. */
struct folder {
    struct found *file; /* by version */
    size_t n;
    char why[400]; /* "": it is well */
};

/* What was seen of a name. */
struct entry {
    struct entry *next;
    char name[MODEL_NAME_MAX + 1];
    char *seen;    /* its files as text: when that changes, so does the model */
    bool present;  /* in this look */
};

struct repository {
    struct ctx *ctx;
    pthread_mutex_t looking; /* entries, and one look at a time */
    struct entry *entries;
    pthread_t looker;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    bool running, asked, stop;
};

/* ---- folders --------------------------------------------------------------------------------------------------------- */

static bool is_model_file(const char *name)
{
    static const char *const suffixes[] = {".json", ".safetensors", ".keras", ".h5", ".hdf5", ".onelip"};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; *name != '.' && dot && i < sizeof suffixes / sizeof *suffixes; i++)
        if (!strcasecmp(dot, suffixes[i]))
            return true;
    return false;
}

static bool is_version(const char *name)
{
    size_t length = strlen(name);

    return length < 19 && *name >= '1' && *name <= '9' && strspn(name, "0123456789") == length;
}

static bool add(struct folder *f, const char *version, const char *below, const char *name, const struct stat *is)
{
    struct found *longer = f->n < MOST_VERSIONS ? realloc(f->file, (f->n + 1) * sizeof *longer) : NULL, *one;

    if (!longer) {
        snprintf(f->why, sizeof f->why, f->n < MOST_VERSIONS ? "out of memory" : "more than %d versions", MOST_VERSIONS);
        return false;
    }
    f->file = longer;
    one = &longer[f->n++];
    *one = (struct found){.is = *is};
    snprintf(one->version, sizeof one->version, "%s", version);
    snprintf(one->file, sizeof one->file, "%s%s%s", below, *below ? "/" : "", name);
    return true;
}

/* The model file of one folder; also its folders of versions, where `versions` says so. */
static void list_files(int at, const char *path, const char *version, bool versions, struct folder *f)
{
    int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    size_t before = f->n;
    struct dirent *entry;

    if (!list) {
        snprintf(f->why, sizeof f->why, "%.300s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    while (!*f->why && (entry = readdir(list))) {
        struct stat is;

        if (entry->d_name[0] == '.' || fstatat(fd, entry->d_name, &is, 0))
            continue;
        if (S_ISREG(is.st_mode) && is_model_file(entry->d_name) && !add(f, version, versions ? "" : path, entry->d_name, &is))
            break;
    }
    if (f->n > before + 1)
        snprintf(f->why, sizeof f->why, "%.100s and %.100s: which of them is the model?", f->file[before].file,
                 f->file[before + 1].file);
    if (versions && f->n == before) {
        rewinddir(list);
        while (!*f->why && (entry = readdir(list)))
            if (is_version(entry->d_name))
                list_files(fd, entry->d_name, entry->d_name, false, f);
    }
    closedir(list);
}

static int by_version(const void *a, const void *b)
{
    unsigned long long v = strtoull(((const struct found *)a)->version, NULL, 10),
                       w = strtoull(((const struct found *)b)->version, NULL, 10);

    return (v > w) - (v < w);
}

/* fd: of the folder. */
static void look_into(int fd, struct folder *f)
{
    *f = (struct folder){0};
    list_files(fd, ".", "1", true, f);
    if (!*f->why && !f->n)
        snprintf(f->why, sizeof f->why, "there is no file of a model, such as NAME/model.json or NAME/1/model.safetensors");
    if (f->n)
        qsort(f->file, f->n, sizeof *f->file, by_version);
}

/* Everything by which a change is noticed; malloc'd. */
static char *seen_of(const struct folder *f)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    fprintf(out, "%s\n", f->why);
    for (size_t i = 0; i < f->n; i++) {
        const struct stat *s = &f->file[i].is;

        fprintf(out, "%s %llu %llu %lld.%09ld %lld.%09ld\n", f->file[i].file, (unsigned long long)s->st_ino,
                (unsigned long long)s->st_size, (long long)s->st_mtim.tv_sec, s->st_mtim.tv_nsec, (long long)s->st_ctim.tv_sec,
                s->st_ctim.tv_nsec);
    }
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

/* The folder of a model, open; -1: there is none. */
static int open_folder(const struct repository *r, const char *name)
{
    const struct config *c = r->ctx->config;
    int dir, fd;

    if (!c->model_dir || (c->model_name && strcmp(c->model_name, name)))
        return -1;
    dir = open(c->model_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->model_name || dir < 0)
        return dir;
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(dir);
    return fd;
}

/* ---- drafts of files -------------------------------------------------------------------------------------------------- */

/* What a reply says, as a failure to load. */
static void take_failure(struct reply *rp, const char *file, struct failure *f)
{
    const char *text = json_string_value(json_object_get(rp->problem, "error"));
    bool memory = rp->status == 503;

    failure_set(f, memory ? 503 : 400, memory ? "out_of_memory" : "bad_request", "%s: %s", file, text ? text : "it cannot be used");
}

static bool draft_of(const void *bytes, size_t size, const char *file, struct draft *d, struct failure *f)
{
    struct reply rp = {0};
    bool ok = intake_any(bytes, size, d, &rp);

    if (!ok)
        take_failure(&rp, file, f);
    reply_clear(&rp);
    return ok;
}

static void clear_all(struct serving *versions, size_t n)
{
    for (size_t i = 0; versions && i < n; i++)
        draft_clear(&versions[i].draft);
    free(versions);
}

/* The folder's files as drafts, one for each version. NULL: f. */
static struct serving *read_all(const struct repository *r, int fd, const struct folder *folder, struct failure *f)
{
    struct serving *versions = *folder->why ? NULL : calloc(folder->n, sizeof *versions);

    if (*folder->why)
        failure_set(f, 400, "bad_request", "%s", folder->why);
    else if (!versions)
        failure_set(f, 503, "out_of_memory", "out of memory for a model");
    for (size_t i = 0; versions && i < folder->n && !f->status; i++) {
        const struct found *found = &folder->file[i];
        void *bytes = NULL;
        size_t size;
        int file = openat(fd, found->file, O_RDONLY | O_CLOEXEC), error = file < 0 ? errno : 0;

        memcpy(versions[i].version, found->version, sizeof versions[i].version);
        if (!error)
            error = file_load(file, (size_t)r->ctx->config->max_upload_bytes, &bytes, &size);
        if (error)
            failure_set(f, error == ENOMEM ? 503 : 400, error == ENOMEM ? "out_of_memory" : "bad_request", "%s: %s", found->file,
                        strerror(error));
        else
            draft_of(bytes, size, found->file, &versions[i].draft, f);
        free(bytes);
    }
    if (!f->status)
        return versions;
    clear_all(versions, folder->n);
    return NULL;
}

/* ---- files of a request -------------------------------------------------------------------------------------------------- */

/* "1/model.json" -> where the name begins; NULL: it is something else. */
static const char *name_in(const char *path, char version[VERSION_MAX])
{
    const char *slash = strchr(path, '/');

    if (!slash || slash == path || slash - path >= VERSION_MAX || !slash[1] || strchr(slash + 1, '/') || slash[1] == '.')
        return NULL;
    snprintf(version, VERSION_MAX, "%.*s", (int)(slash - path), path);
    return is_version(version) ? slash + 1 : NULL;
}

/* Which files of a request are models, as a folder would be listed. */
static void list_given(const json_t *files, struct folder *folder, struct failure *f)
{
    struct stat none = {0};
    const char *path, *name;
    json_t *text;
    char version[VERSION_MAX];

    *folder = (struct folder){0};
    json_object_foreach((json_t *)files, path, text) {
        if (!(name = name_in(path, version)))
            failure_set(f, 400, "bad_request", "file:%.100s is not file:VERSION/NAME", path);
        else if (is_model_file(name))
            add(folder, version, version, name, &none);
    }
    if (folder->n)
        qsort(folder->file, folder->n, sizeof *folder->file, by_version);
    for (size_t i = 1; i < folder->n; i++)
        if (!strcmp(folder->file[i - 1].version, folder->file[i].version))
            snprintf(folder->why, sizeof folder->why, "%.100s and %.100s: which of them is the model?", folder->file[i - 1].file,
                     folder->file[i].file);
    if (!*folder->why && !folder->n)
        snprintf(folder->why, sizeof folder->why, "none of the files is a model");
    if (*folder->why)
        failure_set(f, 400, "bad_request", "%s", folder->why);
}

static struct serving *decode_all(const json_t *files, const struct folder *folder, struct failure *f)
{
    struct serving *versions = calloc(folder->n, sizeof *versions);

    if (!versions)
        failure_set(f, 503, "out_of_memory", "out of memory for a model");
    for (size_t i = 0; versions && i < folder->n && !f->status; i++) {
        const char *text = json_string_value(json_object_get(files, folder->file[i].file));
        size_t size;
        void *bytes = text ? unbase64(text, &size) : NULL;

        memcpy(versions[i].version, folder->file[i].version, sizeof versions[i].version);
        if (!bytes)
            failure_set(f, 400, "bad_request", "file:%s is not base64", folder->file[i].file);
        else
            draft_of(bytes, size, folder->file[i].file, &versions[i].draft, f);
        free(bytes);
    }
    if (!f->status)
        return versions;
    clear_all(versions, folder->n);
    return NULL;
}

/* ---- loading and unloading -------------------------------------------------------------------------------------------------- */

/* A job that changes the model would lose it. */
static bool idle(const struct repository *r, const char *name, struct failure *f)
{
    return !jobs_work_on(r->ctx->jobs, name) || failure_set(f, 409, "in_use", "a job works on model '%s'", name);
}

/* From a folder that is open. */
static bool serve_folder(struct repository *r, const char *name, int fd, struct folder *folder, struct knobs *config,
                         struct failure *f)
{
    struct serving *versions = read_all(r, fd, folder, f);
    bool ok = versions && store_serve(r->ctx->store, name, versions, folder->n, config, false, f);

    clear_all(versions, folder->n);
    return ok;
}

static struct entry *entry_named(struct repository *r, const char *name)
{
    struct entry *e = r->entries;

    while (e && strcmp(e->name, name))
        e = e->next;
    return e;
}

/* The name, made if need be. NULL: out of memory. */
static struct entry *entry_of(struct repository *r, const char *name)
{
    struct entry *e = entry_named(r, name);

    if (!e && (e = calloc(1, sizeof *e))) {
        snprintf(e->name, sizeof e->name, "%s", name);
        e->next = r->entries;
        r->entries = e;
    }
    return e;
}

static bool load_folder(struct repository *r, const char *name, int fd, struct knobs *config, struct failure *f)
{
    struct entry *e;
    struct folder folder;
    bool ok;

    pthread_mutex_lock(&r->looking);
    look_into(fd, &folder);
    ok = serve_folder(r, name, fd, &folder, config, f);
    if (ok && (e = entry_of(r, name))) {
        free(e->seen);
        e->seen = seen_of(&folder);
    }
    pthread_mutex_unlock(&r->looking);
    free(folder.file);
    return ok;
}

static bool load_given(struct repository *r, const char *name, const json_t *files, struct knobs *config, struct failure *f)
{
    struct serving *versions = NULL;
    struct folder folder;
    bool ok;

    list_given(files, &folder, f);
    ok = !f->status && (versions = decode_all(files, &folder, f)) &&
         store_serve(r->ctx->store, name, versions, folder.n, config, true, f);
    clear_all(versions, folder.n);
    free(folder.file);
    return ok;
}

/* Whether the state directory has the name. */
static bool is_kept(const struct repository *r, const char *name)
{
    struct model *m = store_get(r->ctx->store, name);
    bool kept = m && m->kept;

    store_put(m);
    return kept;
}

/* From the state directory, with nothing left of jobs that are over. */
static bool load_kept(struct repository *r, const char *name, struct knobs *config, struct failure *f)
{
    struct model *m;

    if (!store_reload(r->ctx->store, name, config, f))
        return false;
    if ((m = store_get(r->ctx->store, name)))
        train_job_forget(r->ctx, m);
    store_put(m);
    return true;
}

bool repository_load(struct repository *r, const char *name, struct knobs *config, const json_t *files, struct failure *f)
{
    bool kept = is_kept(r, name), ok;
    int fd;

    if (kept && !idle(r, name, f))
        return false;
    if (files)
        return load_given(r, name, files, config, f);
    if (kept)
        return load_kept(r, name, config, f);
    if ((fd = open_folder(r, name)) < 0)
        return failure_set(f, 404, "unknown_model", "failed to poll from model repository");
    ok = load_folder(r, name, fd, config, f);
    close(fd);
    return ok;
}

bool repository_unload(struct repository *r, const char *name, struct failure *f)
{
    bool kept = is_kept(r, name);
    int fd;

    if ((kept && !idle(r, name, f)) || !store_unload(r->ctx->store, name, f))
        return false;
    if (kept)
        return true;
    if ((fd = open_folder(r, name)) >= 0)
        close(fd);
    else
        store_withdraw(r->ctx->store, name); /* there is nothing that it could be loaded from again */
    return true;
}

/* ---- looking ------------------------------------------------------------------------------------------------------------------ */

/* The folder of a name has changed, or is new. */
static void noticed(struct repository *r, const char *name, bool is_new, int fd, struct folder *folder)
{
    struct model *present = store_get(r->ctx->store, name);
    bool load = is_new ? config_loads(r->ctx->config, name) : present && model_stage(present, NULL, 0) != MODEL_UNLOADED;
    struct failure f = {0};

    if (present && present->kept) {
        if (is_new)
            log_warning("model %s: that of the state directory is served, not that of --model-dir", name);
    } else if (!load) {
        store_name(r->ctx->store, name);
    } else if (!serve_folder(r, name, fd, folder, NULL, &f)) {
        log_error("model %s: failed to load: %s", name, f.text);
        store_fail(r->ctx->store, name, f.text);
    }
    store_put(present);
}

static void look_at(struct repository *r, const char *name)
{
    struct entry *e = entry_of(r, name);
    int fd = e ? open_folder(r, name) : -1;
    struct folder folder;
    char *seen;

    if (fd < 0)
        return;
    e->present = true;
    look_into(fd, &folder);
    if ((seen = seen_of(&folder)) && (!e->seen || strcmp(seen, e->seen))) {
        noticed(r, name, !e->seen, fd, &folder);
        free(e->seen);
        e->seen = seen;
        seen = NULL;
    }
    free(seen);
    free(folder.file);
    close(fd);
}

static void look_at_all(struct repository *r)
{
    const struct config *c = r->ctx->config;
    DIR *list = opendir(c->model_dir);
    struct dirent *entry;
    struct stat is;

    if (!list) {
        log_error("--model-dir %s: %s", c->model_dir, strerror(errno));
        return;
    }
    for (struct entry *e = r->entries; e; e = e->next)
        e->present = false;
    if (c->model_name)
        look_at(r, c->model_name);
    while (!c->model_name && (entry = readdir(list)))
        if (store_name_ok(entry->d_name) && !fstatat(dirfd(list), entry->d_name, &is, 0) && S_ISDIR(is.st_mode))
            look_at(r, entry->d_name);
    closedir(list);
    for (struct entry **at = &r->entries, *e; (e = *at);) {
        if (e->present) {
            at = &e->next;
            continue;
        }
        store_withdraw(r->ctx->store, e->name);
        *at = e->next;
        free(e->seen);
        free(e);
    }
}

static void look(struct repository *r)
{
    pthread_mutex_lock(&r->looking);
    look_at_all(r);
    pthread_mutex_unlock(&r->looking);
}

void repository_look(struct repository *r)
{
    pthread_mutex_lock(&r->lock);
    r->asked = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

static struct timespec in_seconds(double seconds)
{
    struct timespec at;
    uint64_t ns;

    clock_gettime(CLOCK_MONOTONIC, &at);
    ns = (uint64_t)at.tv_nsec + (uint64_t)(seconds * 1e9);
    at.tv_sec += (time_t)(ns / 1000000000u);
    at.tv_nsec = (long)(ns % 1000000000u);
    return at;
}

/* Looks when it is asked to, and in the mode poll from time to time. */
static void *looker(void *arg)
{
    struct repository *r = arg;
    bool polls = !strcmp(r->ctx->config->model_control_mode, "poll");

    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        struct timespec until = in_seconds(polls ? r->ctx->config->poll_seconds : 0);
        int rc = 0;

        while (!r->stop && !r->asked && rc != ETIMEDOUT)
            rc = polls ? pthread_cond_timedwait(&r->wake, &r->lock, &until) : pthread_cond_wait(&r->wake, &r->lock);
        r->asked = false;
        if (r->stop)
            break;
        pthread_mutex_unlock(&r->lock);
        look(r);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- start and end -------------------------------------------------------------------------------------------------------------- */

struct repository *repository_open(struct ctx *ctx, char *why, size_t size)
{
    struct repository *r = calloc(1, sizeof *r);
    const char *path = ctx->config->model_dir;
    pthread_condattr_t monotonic;
    int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (!r || (path && fd < 0)) {
        snprintf(why, size, r ? "--model-dir %.300s: %s" : "out of memory", path, strerror(errno));
        free(r);
        return NULL;
    }
    if (fd >= 0)
        close(fd);
    r->ctx = ctx;
    pthread_mutex_init(&r->looking, NULL);
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return r;
}

static bool wanted(const void *config, const char *name)
{
    return config_loads(config, name);
}

void repository_start(struct repository *r)
{
    const struct config *c = r->ctx->config;

    store_load(r->ctx->store, wanted, c);
    if (c->model_dir)
        look(r);
    for (size_t i = 0; i < c->n_load_model; i++) {
        struct model *m = strcmp(c->load_model[i], "*") ? store_get(r->ctx->store, c->load_model[i]) : NULL;

        if (!m && strcmp(c->load_model[i], "*"))
            log_error("--load-model %s: there is no such model", c->load_model[i]);
        store_put(m);
    }
    if (!c->model_dir)
        return;
    pthread_mutex_lock(&r->lock);
    if (!r->stop && !(r->running = !pthread_create(&r->looker, NULL, looker, r)))
        log_error("cannot start the thread that looks at --model-dir");
    pthread_mutex_unlock(&r->lock);
}

void repository_stop(struct repository *r)
{
    bool running;

    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    running = r->running;
    r->running = false;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    if (running)
        pthread_join(r->looker, NULL);
}

void repository_close(struct repository *r)
{
    if (!r)
        return;
    while (r->entries) {
        struct entry *next = r->entries->next;

        free(r->entries->seen);
        free(r->entries);
        r->entries = next;
    }
    pthread_mutex_destroy(&r->looking);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    free(r);
}
