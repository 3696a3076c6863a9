/* loading.c: what a name means, exchanged as a whole: loaded, loaded again, unloaded, served from files.
 *
 * Requests that have found a model keep it: they are answered by what they found, so an exchange fails none of them. Nobody
 * changes what was exchanged: who waited for its head finds it gone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "metrics.h"
#include "store_private.h"

static bool no_memory(struct failure *f)
{
    return failure_set(f, 503, "out_of_memory", "out of memory for a model");
}

static bool unknown(struct failure *f, const char *name)
{
    return failure_set(f, 404, "unknown_model", "Request for unknown model: '%s' is not found", name);
}

static void take_stats(struct model *m, struct model *old)
{
    struct stats *stats = model_stats(old);

    stats_put(m->stats);
    m->stats = stats;
    if (m->now) {
        stats_put(m->now->stats);
        m->now->stats = stats_get(stats);
    }
}

static struct model *numbered(struct model *head, const char *version)
{
    for (size_t i = 0; i < head->n_versions; i++)
        if (!strcmp(head->version[i]->facts.version, version))
            return head->version[i];
    return strcmp(head->facts.version, version) ? NULL : head;
}

/* Each version counts on where the old one of its number stopped. Nobody else knows m yet. */
static void inherit_stats(struct model *m, struct model *old)
{
    struct model *same;

    for (size_t i = 0; i < m->n_versions; i++)
        if ((same = numbered(old, m->version[i]->facts.version)))
            take_stats(m->version[i], same);
    if ((same = numbered(old, m->facts.version)))
        take_stats(m, same);
}

/* ---- from the state directory --------------------------------------------------------------------------------- */

/* Nobody else knows the model. */
static bool load(struct model *m)
{
    struct failure f = {0};
    bool ok = disk_load(m, &f);

    m->kept = true;
    m->stage = ok ? MODEL_READY : MODEL_UNAVAILABLE;
    m->facts.damage = ok ? NULL : strdup(f.text);
    versions_load(m);
    if (ok)
        log_info("model %s loaded at revision %llu", m->name, (unsigned long long)m->facts.state_revision);
    else
        log_error("model %s is unavailable: %s", m->name, f.text);
    return ok;
}

struct model *model_load(struct store *s, struct model *old)
{
    struct model *m = model_new(s, old->name);

    if (!m)
        return NULL;
    load(m);
    inherit_stats(m, old);
    return m;
}

void store_load(struct store *s, bool (*wanted)(const void *ctx, const char *name), const void *ctx)
{
    int fd = s->models < 0 ? -1 : openat(s->models, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct model **all;
    size_t n;

    pthread_mutex_lock(&s->changing);
    if (!list && fd >= 0)
        close(fd);
    while (list && (entry = readdir(list))) {
        struct stat st;
        if (!strncmp(entry->d_name, ".new.", 5) || !strncmp(entry->d_name, ".gone.", 6)) {
            if (!s->read_only)
                folder_remove(s->models, entry->d_name);
            continue;
        }
        if (!store_name_ok(entry->d_name) || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode))
            continue;
        struct model *m = model_new(s, entry->d_name);
        if (m) {
            m->kept = true;
            m->stage = wanted(ctx, m->name) ? MODEL_LOADING : MODEL_UNLOADED;
        }
        if (!m || !store_insert(s, m)) {
            log_error("model %s: out of memory", entry->d_name);
            model_free(m);
        }
    }
    if (list)
        closedir(list);
    all = store_list(s, &n);
    for (size_t i = 0; all && i < n; i++) {
        struct model *m = all[i]->stage == MODEL_LOADING ? model_load(s, all[i]) : NULL;
        if (m)
            store_exchange(s, all[i], m);
        store_put(all[i]);
    }
    free(all);
    pthread_mutex_unlock(&s->changing);
}

/* ---- unloading ------------------------------------------------------------------------------------------------- */

/* What is still known of a model when its memory is free. NULL: out of memory. */
static struct model *shell_of(struct model *m, const char *why)
{
    struct model *shell = model_new(m->store, m->name);
    struct knobs *knobs = model_knobs(m);

    if (!shell || !model_facts(m, &shell->facts)) {
        knobs_put(knobs);
        model_free(shell);
        return NULL;
    }
    take_stats(shell, m);
    shell->frozen = m->frozen;
    shell->served_only = m->served_only;
    shell->kept = m->kept;
    shell->stage = MODEL_UNLOADED;
    free(shell->facts.damage);
    shell->facts.damage = strdup(why);
    model_set_knobs(shell, knobs);
    knobs_put(knobs);
    if (!m->n_versions)
        return shell;
    shell->labels = model_labels(m);
    if ((shell->version = calloc(m->n_versions, sizeof *shell->version)))
        while (shell->n_versions < m->n_versions &&
               (shell->version[shell->n_versions] = shell_of(m->version[shell->n_versions], why)))
            shell->n_versions++;
    if (shell->n_versions == m->n_versions)
        return shell;
    model_free(shell);
    return NULL;
}

/* Every unsaved step on disk. Under `writing`. */
static bool save_head(struct model *m, struct failure *f)
{
    struct image image = {0};
    struct facts facts;
    struct view view;
    bool ok = true;

    pthread_mutex_lock(&m->lock);
    facts = m->facts;
    pthread_mutex_unlock(&m->lock);
    view = model_view(m, &facts);
    if (m->dirty_ns && m->state && (ok = model_write(m, &view, false, false, &image, f)))
        model_saved(m, &image);
    image_clear(&image);
    return ok;
}

static void forget_series(struct store *s, const char *name)
{
    char labels[MODEL_NAME_MAX + 16];

    snprintf(labels, sizeof labels, "model=\"%s\"", name);
    if (s->metrics)
        metrics_drop(s->metrics, labels);
}

bool store_unload(struct store *s, const char *name, struct failure *f)
{
    struct model *m, *shell = NULL;
    bool ok = false;

    pthread_mutex_lock(&s->changing);
    if (!(m = store_get(s, name))) {
        unknown(f, name);
    } else if (m->stage == MODEL_UNLOADED) {
        ok = true;
    } else {
        model_lock(m);
        if (save_head(m, f)) {
            ok = (shell = shell_of(m, "unloaded")) || no_memory(f);
            if (ok)
                store_exchange(s, m, shell);
        }
        pthread_mutex_unlock(&m->writing);
        if (ok) {
            forget_series(s, name);
            log_info("model %s unloaded", name);
        }
    }
    store_put(m);
    pthread_mutex_unlock(&s->changing);
    return ok;
}

bool store_reload(struct store *s, const char *name, struct knobs *knobs, struct failure *f)
{
    struct model *m, *fresh = NULL;
    bool ok = false;

    pthread_mutex_lock(&s->changing);
    if (!(m = store_get(s, name)) || !m->kept) {
        unknown(f, name);
    } else {
        model_lock(m);
        if (save_head(m, f)) {
            if (!(fresh = model_load(s, m))) {
                no_memory(f);
            } else if (fresh->stage != MODEL_READY) {
                failure_set(f, 503, "unavailable", "%s", fresh->facts.damage ? fresh->facts.damage : "out of memory");
            } else {
                for (size_t i = 0; knobs && i < fresh->n_versions; i++)
                    model_set_knobs(fresh->version[i], knobs);
                if (knobs)
                    model_set_knobs(fresh, knobs);
                store_exchange(s, m, fresh);
                fresh = NULL;
                ok = true;
            }
        }
        pthread_mutex_unlock(&m->writing);
    }
    model_free(fresh);
    store_put(m);
    pthread_mutex_unlock(&s->changing);
    return ok;
}

/* ---- from files of others --------------------------------------------------------------------------------------- */

/* One version that is served and never written; its draft is taken over on success. */
static struct model *served(struct store *s, const char *name, struct serving *version, bool frozen, uint64_t revision,
                            struct knobs *knobs)
{
    struct draft *d = &version->draft;
    struct model *m = model_new(s, name);

    if (!m)
        return NULL;
    m->frozen = frozen;
    m->served_only = true;
    time_text(m->facts.created_at);
    memcpy(m->facts.opened_at, m->facts.created_at, sizeof m->facts.opened_at);
    if (frozen)
        memcpy(m->facts.frozen_at, m->facts.created_at, sizeof m->facts.frozen_at);
    memcpy(m->facts.version, version->version, sizeof m->facts.version);
    m->facts.state_revision = m->facts.weights_revision = m->facts.checkpointed_revision = revision;
    epoch_draw(m->facts.epoch, "");
    if (!(m->now = published_new(d->snapshot, &m->facts, m->stats))) {
        model_free(m);
        return NULL;
    }
    m->state = d->state;
    m->recipe = d->recipe;
    m->facts.description = d->description;
    m->facts.tags = d->tags;
    m->stage = MODEL_READY;
    d->state = NULL;
    d->recipe = NULL;
    d->description = NULL;
    d->tags = NULL;
    if (knobs)
        model_set_knobs(m, knobs);
    return m;
}

/* The head with its versions. NULL: out of memory. */
static struct model *served_all(struct store *s, const char *name, struct serving *versions, size_t n, struct knobs *knobs,
                                struct model *old)
{
    uint64_t revision = old ? old->facts.state_revision + 1 : 1;
    struct knobs *all = knobs ? knobs : versions[n - 1].draft.knobs;
    struct model *head = served(s, name, &versions[n - 1], false, revision, all);

    if (!head || !(head->version = calloc(n, sizeof *head->version))) {
        model_free(head);
        return NULL;
    }
    for (; head->n_versions < n - 1; head->n_versions++)
        if (!(head->version[head->n_versions] = served(s, name, &versions[head->n_versions], true, revision, all))) {
            model_free(head);
            return NULL;
        }
    return head;
}

/* Under the `writing` of old and `changing`. */
static bool put_in(struct store *s, struct model *old, struct model *fresh, struct failure *f)
{
    if (old) {
        fresh->kept = old->kept;
        inherit_stats(fresh, old);
        store_exchange(s, old, fresh);
        return true;
    }
    if (!store_insert(s, fresh))
        return no_memory(f);
    store_tell(fresh, NEWS_LOADED);
    return true;
}

bool store_serve(struct store *s, const char *name, struct serving *versions, size_t n, struct knobs *knobs, bool anyway,
                 struct failure *f)
{
    struct model *old, *fresh = NULL;
    bool ok = false;

    pthread_mutex_lock(&s->changing);
    if ((old = store_get(s, name)))
        model_lock(old);
    if (old && old->kept && !anyway)
        failure_set(f, 403, "read_only", "the state directory has a model '%s' of its own", name);
    else if (!old || save_head(old, f))
        ok = ((fresh = served_all(s, name, versions, n, knobs, old)) || no_memory(f)) && put_in(s, old, fresh, f);
    if (old)
        pthread_mutex_unlock(&old->writing);
    if (ok)
        log_info("model %s is served from files, version %s", name, fresh->facts.version);
    else
        model_free(fresh);
    store_put(old);
    pthread_mutex_unlock(&s->changing);
    return ok;
}

/* A name of files without anything to serve. */
static void put_name(struct store *s, const char *name, enum model_stage stage, const char *why)
{
    struct model *old, *m;
    bool ok = false;

    pthread_mutex_lock(&s->changing);
    old = store_get(s, name);
    if (!old || (stage == MODEL_UNAVAILABLE && old->served_only && old->stage != MODEL_READY)) {
        if ((m = model_new(s, name))) {
            m->served_only = true;
            m->stage = stage;
            m->kept = old && old->kept;
            m->facts.damage = why ? strdup(why) : NULL;
            if (old)
                store_exchange(s, old, m);
            ok = old || store_insert(s, m);
            if (!ok)
                model_free(m);
        }
        if (!ok)
            log_error("model %s: out of memory", name);
    }
    store_put(old);
    pthread_mutex_unlock(&s->changing);
}

void store_fail(struct store *s, const char *name, const char *why)
{
    put_name(s, name, MODEL_UNAVAILABLE, why);
}

void store_name(struct store *s, const char *name)
{
    put_name(s, name, MODEL_UNLOADED, NULL);
}

void store_withdraw(struct store *s, const char *name)
{
    struct model *m;

    pthread_mutex_lock(&s->changing);
    m = store_get(s, name);
    if (m && m->served_only && !m->kept) {
        m->gone = true;
        store_tell(m, NEWS_DELETED);
        store_take_out(s, m);
        forget_series(s, name);
        log_info("model %s is gone", name);
    }
    store_put(m);
    pthread_mutex_unlock(&s->changing);
}
