/* store.c: the table of models, their creation and end, and the thread that writes unsaved steps. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "files.h"
#include "metrics.h"
#include "store_private.h"

/* ---- names and the table ------------------------------------------------------------------------------- */

bool store_name_ok(const char *name)
{
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_",
                      rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t n = strlen(name);
    return n >= 1 && n <= MODEL_NAME_MAX && strspn(name, first) >= 1 && strspn(name, rest) == n && strcmp(name, "stats");
}

static struct model *model_of(struct batcher *b)
{
    return (struct model *)(void *)((char *)b - offsetof(struct model, batcher));
}

uint64_t model_published(struct batcher *b)
{
    struct published *now = model_now(model_of(b));
    uint64_t revision = now ? now->weights_revision : 0;

    published_put(now);
    return revision;
}

static void hold(struct batcher *b)
{
    atomic_fetch_add(&model_of(b)->refs, 1);
}

static void release(struct batcher *b)
{
    store_put(model_of(b));
}

struct model *model_new(struct store *store, const char *name)
{
    struct model *m = calloc(1, sizeof *m);

    struct knobs_fault ignored;

    if (!m || !(m->stats = stats_new()) || !(m->knobs = knobs_make(NULL, &ignored))) {
        if (m)
            stats_put(m->stats);
        free(m);
        return NULL;
    }
    atomic_init(&m->refs, 1);
    m->store = store;
    memcpy(m->name, name, strnlen(name, MODEL_NAME_MAX));
    batcher_init(&m->batcher, hold, release);
    pthread_mutex_init(&m->writing, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->marking, NULL);
    pthread_mutex_init(&m->saving, NULL);
    return m;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    published_put(m->now);
    recipe_put(m->recipe);
    lip_trainer_free(m->trainer);
    lip_state_free(m->served);
    lip_state_free(m->state);
    facts_clear(&m->facts);
    json_decref(m->positions);
    stats_put(m->stats);
    knobs_put(m->knobs);
    for (size_t i = 0; i < m->n_versions; i++)
        store_put(m->version[i]);
    free(m->version);
    json_decref(m->labels);
    batcher_clear(&m->batcher);
    pthread_mutex_destroy(&m->writing);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->marking);
    pthread_mutex_destroy(&m->saving);
    free(m);
}

void store_put(struct model *m)
{
    if (m && atomic_fetch_sub(&m->refs, 1) == 1)
        model_free(m);
}

void store_listen(struct store *s, store_listener *told, void *ctx)
{
    s->told = told;
    s->told_ctx = ctx;
}

void store_tell(struct model *m, enum model_news what)
{
    struct facts facts;

    if (!m->store || !m->store->told)
        return;
    pthread_mutex_lock(&m->lock);
    facts = m->facts;
    pthread_mutex_unlock(&m->lock);
    m->store->told(m->store->told_ctx, what, m->name, &facts);
}

/* Where a name stands in the table, or would. */
static size_t place(const struct store *s, const char *name)
{
    size_t low = 0, high = s->n_models;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(s->model[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct model *find(const struct store *s, const char *name)
{
    size_t i = place(s, name);
    return i < s->n_models && !strcmp(s->model[i]->name, name) ? s->model[i] : NULL;
}

struct model *store_get(struct store *s, const char *name)
{
    struct model *m;

    pthread_mutex_lock(&s->lock);
    m = find(s, name);
    if (m)
        atomic_fetch_add(&m->refs, 1);
    pthread_mutex_unlock(&s->lock);
    return m;
}

struct model **store_list(struct store *s, size_t *n)
{
    struct model **list;

    pthread_mutex_lock(&s->lock);
    *n = s->n_models;
    list = malloc((*n + 1) * sizeof *list);
    for (size_t i = 0; list && i < *n; i++) {
        list[i] = s->model[i];
        atomic_fetch_add(&list[i]->refs, 1);
    }
    pthread_mutex_unlock(&s->lock);
    return list;
}

bool store_insert(struct store *s, struct model *m)
{
    bool ok = true;

    pthread_mutex_lock(&s->lock);
    if (s->n_models == s->capacity) {
        size_t more = s->capacity ? 2 * s->capacity : 16;
        struct model **table = realloc(s->model, more * sizeof *table);
        if ((ok = table != NULL)) {
            s->model = table;
            s->capacity = more;
        }
    }
    if (ok) {
        size_t at = place(s, m->name);
        memmove(s->model + at + 1, s->model + at, (s->n_models - at) * sizeof *s->model);
        s->model[at] = m;
        s->n_models++;
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

void store_exchange(struct store *s, struct model *old, struct model *fresh)
{
    pthread_mutex_lock(&s->lock);
    s->model[place(s, old->name)] = fresh;
    pthread_mutex_unlock(&s->lock);
    old->gone = true;
    store_put(old);
    if (fresh->stage == MODEL_READY || fresh->stage == MODEL_UNLOADED)
        store_tell(fresh, fresh->stage == MODEL_READY ? NEWS_LOADED : NEWS_UNLOADED);
}

void store_take_out(struct store *s, struct model *m)
{
    size_t at;

    pthread_mutex_lock(&s->lock);
    at = place(s, m->name);
    s->n_models--;
    memmove(s->model + at, s->model + at + 1, (s->n_models - at) * sizeof *s->model);
    pthread_mutex_unlock(&s->lock);
    store_put(m);
}

/* ---- drafts --------------------------------------------------------------------------------------------- */

void draft_clear(struct draft *d)
{
    lip_snapshot_put(d->snapshot);
    lip_state_free(d->state);
    lip_trainer_free(d->trainer);
    recipe_put(d->recipe);
    free(d->description);
    json_decref(d->tags);
    knobs_put(d->knobs);
    *d = (struct draft){0};
}

static struct facts facts_of(const struct draft *d)
{
    struct facts facts = {.description = d->description, .tags = d->tags};

    time_text(facts.created_at);
    memcpy(facts.opened_at, facts.created_at, sizeof facts.opened_at);
    memcpy(facts.version, "1", 2);
    return facts;
}

/* The draft becomes the model: what it held is freed. The caller holds `writing`, or nobody else knows the model. */
static void adopt(struct model *m, struct draft *d, const struct facts *facts, struct published *now)
{
    struct published *old_now;
    struct recipe *old_recipe;
    struct facts old;

    lip_state_free(m->state);
    lip_state_free(m->served);
    lip_trainer_free(m->trainer);
    m->state = d->state;
    m->served = NULL;
    m->trainer = d->trainer;
    m->optimizer_kept = false;
    m->unpublished = 0;
    pthread_mutex_lock(&m->lock);
    old_now = m->now;
    old_recipe = m->recipe;
    old = m->facts;
    m->now = now;
    m->recipe = d->recipe;
    m->facts = *facts;
    m->facts.checkpointed_revision = facts->state_revision;
    m->stage = MODEL_READY;
    m->dirty_ns = 0;
    pthread_mutex_unlock(&m->lock);
    batcher_published(&m->batcher, now->weights_revision);
    stats_published(m->stats, true);
    published_put(old_now);
    recipe_put(old_recipe);
    facts_clear(&old);
    if (d->knobs)
        model_set_knobs(m, d->knobs);
    knobs_put(d->knobs);
    lip_snapshot_put(d->snapshot);
    *d = (struct draft){0};
}

/* ---- create, replace, delete ----------------------------------------------------------------------------- */

static bool write_new(struct store *s, struct model *m, const struct draft *d, const struct view *view, struct failure *f)
{
    char beside[MODEL_NAME_MAX + 8], head[MODEL_NAME_MAX + 16];
    struct image image = {0};
    int folder = -1, error = 0;
    bool ok = false;

    snprintf(beside, sizeof beside, ".new.%s", m->name);
    snprintf(head, sizeof head, "%s/head", beside);
    folder_remove(s->models, beside);
    if (mkdirat(s->models, beside, 0700) || mkdirat(s->models, head, 0700) ||
        (folder = openat(s->models, beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        failure_errno(f, errno, m->name);
    else if (image_make(m, view, true, true, &image, f) && disk_save(m, folder, &image, f) &&
             (!d->knobs || disk_tune(folder, d->knobs, f))) {
        if (renameat(s->models, beside, s->models, m->name))
            error = errno;
        else
            error = folder_sync(s->models, ".");
        ok = error ? failure_errno(f, error, m->name) : true;
    }
    if (folder >= 0)
        close(folder);
    if (!ok) {
        folder_remove(s->models, beside);
        if (error)
            folder_remove(s->models, m->name);
    }
    image_clear(&image);
    return ok;
}

static struct model *create(struct store *s, const char *name, struct draft *d, struct failure *f)
{
    struct model *m = model_new(s, name);
    struct facts facts = facts_of(d);
    struct published *now = NULL;
    struct view view = {.state = d->state,
                        .trainer = d->trainer,
                        .training = d->recipe ? d->recipe->config : NULL,
                        .facts = &facts};

    facts.state_revision = facts.weights_revision = 1;
    epoch_draw(facts.epoch, "");
    if (!m || !(now = published_new(d->snapshot, &facts, m->stats))) {
        failure_set(f, 503, "out_of_memory", "out of memory");
    } else if (write_new(s, m, d, &view, f)) {
        adopt(m, d, &facts, now);
        atomic_fetch_add(&m->refs, 1); /* the table's */
        m->kept = true;
        if (store_insert(s, m)) {
            store_tell(m, NEWS_CREATED);
            return m;
        }
        folder_remove(s->models, name);
        failure_set(f, 503, "out_of_memory", "out of memory");
        now = NULL;
    }
    published_put(now);
    model_free(m);
    return NULL;
}

/* Whether the model, or its newest version when the head is damaged, has this very definition. */
static bool same_definition(const struct model *m, const lip_model *other)
{
    const lip_state *state = m->state;
    char *a, *b;
    bool same;

    for (size_t i = m->n_versions; !state && i-- > 0;)
        state = m->version[i]->state;
    if (!state)
        return false;
    a = lip_model_definition(lip_state_model(state), false);
    b = lip_model_definition(other, false);
    same = a && b && !strcmp(a, b);
    lip_free(a);
    lip_free(b);
    return same;
}

/* Under `changing` and the model's `writing`. */
static bool replace_model(struct model *m, struct draft *d, struct failure *f)
{
    struct facts facts = facts_of(d);
    struct published *now;
    struct image image = {0};
    struct view view = {.state = d->state,
                        .trainer = d->trainer,
                        .training = d->recipe ? d->recipe->config : NULL,
                        .facts = &facts};
    struct knobs *before = NULL;
    int folder;
    bool ok = false;

    if (m->n_versions && !same_definition(m, lip_state_model(d->state)))
        return failure_set(f, 409, "has_versions", "model '%s' has frozen versions of another definition", m->name);
    if ((folder = disk_open(m, f)) < 0)
        return false;
    facts.state_revision = facts.weights_revision = m->facts.state_revision + 1;
    if (m->facts.created_at[0])
        memcpy(facts.created_at, m->facts.created_at, sizeof facts.created_at);
    if (m->facts.version[0]) {
        memcpy(facts.version, m->facts.version, sizeof facts.version);
        memcpy(facts.opened_at, m->facts.opened_at, sizeof facts.opened_at);
    }
    epoch_draw(facts.epoch, m->facts.epoch);
    if (d->knobs) {
        before = model_knobs(m);
        if (!model_tune(m, d->knobs, f))
            goto done;
        d->knobs = NULL;
    }
    if (mkdirat(folder, "head", 0700) && errno != EEXIST) {
        failure_errno(f, errno, "head");
    } else if (!(now = published_new(d->snapshot, &facts, m->stats))) {
        failure_set(f, 503, "out_of_memory", "out of memory");
    } else if (!image_make(m, &view, true, true, &image, f) || !disk_save(m, folder, &image, f)) {
        published_put(now);
    } else {
        adopt(m, d, &facts, now);
        pthread_mutex_lock(&m->marking);
        m->promised = 0;
        m->marked = false;
        disk_unmark(m);
        pthread_mutex_unlock(&m->marking);
        pthread_mutex_lock(&m->saving);
        disk_sweep(m, folder);
        pthread_mutex_unlock(&m->saving);
        store_tell(m, NEWS_REPLACED);
        ok = true;
    }
done:
    if (!ok && before) {
        struct failure ignored = {0};
        if (model_tune(m, before, &ignored))
            before = NULL;
    }
    knobs_put(before);
    image_clear(&image);
    close(folder);
    return ok;
}

/* Files that are served only are not the store's to write. */
static bool changes_files(const struct model *m, struct failure *f)
{
    return !m->served_only || failure_set(f, 403, "read_only", "model '%s' is served from files that are never written", m->name);
}

/* An unloaded model as it is on disk, so that its revisions and versions go on; takes over and gives a reference. */
static struct model *load_for_replacing(struct store *s, struct model *m)
{
    struct model *fresh = m->served_only || m->stage != MODEL_UNLOADED ? NULL : model_load(s, m);

    if (!fresh)
        return m;
    atomic_fetch_add(&fresh->refs, 1);
    store_exchange(s, m, fresh);
    store_put(m);
    return fresh;
}

struct model *store_create(struct store *s, const char *name, struct draft *d, bool replace,
                           bool (*check)(void *ctx, struct model *present), void *ctx, bool *created, struct failure *f)
{
    struct model *m;

    pthread_mutex_lock(&s->changing);
    m = store_get(s, name);
    *created = m == NULL;
    if (m && !replace) {
        failure_set(f, 409, "already_exists", "a model named '%s' already exists", name);
        store_put(m);
        m = NULL;
    } else if (m) {
        m = load_for_replacing(s, m);
        model_lock(m);
        bool ok = changes_files(m, f) && (!check || check(ctx, m)) && replace_model(m, d, f);
        pthread_mutex_unlock(&m->writing);
        if (!ok) {
            store_put(m);
            m = NULL;
        }
    } else if (!check || check(ctx, NULL)) {
        m = create(s, name, d, f);
    }
    pthread_mutex_unlock(&s->changing);
    return m;
}

bool store_delete(struct store *s, struct model *m, bool (*check)(void *ctx, struct model *present), void *ctx,
                  struct failure *f)
{
    char away[MODEL_NAME_MAX + 8], labels[MODEL_NAME_MAX + 16];
    bool ok = false;
    int error = 0;

    snprintf(away, sizeof away, ".gone.%s", m->name);
    pthread_mutex_lock(&s->changing);
    model_lock(m);
    if (m->gone) {
        failure_set(f, 404, "unknown_model", "Request for unknown model: '%s' is not found", m->name);
    } else if ((m->kept || changes_files(m, f)) && (!check || check(ctx, m))) {
        pthread_mutex_lock(&m->saving);
        folder_remove(s->models, away);
        if (renameat(s->models, m->name, s->models, away) || (error = folder_sync(s->models, "."))) {
            failure_errno(f, error ? error : errno, m->name);
        } else {
            folder_remove(s->models, away);
            m->gone = ok = true;
        }
        pthread_mutex_unlock(&m->saving);
    }
    pthread_mutex_unlock(&m->writing);
    if (ok) {
        store_tell(m, NEWS_DELETED);
        store_take_out(s, m);
        snprintf(labels, sizeof labels, "model=\"%s\"", m->name);
        if (s->metrics)
            metrics_drop(s->metrics, labels);
    }
    pthread_mutex_unlock(&s->changing);
    return ok;
}

/* ---- the keeper: every unsaved step within checkpoint_seconds --------------------------------------------- */

static void keep(struct store *s, bool all)
{
    size_t n;
    struct model **list = store_list(s, &n);
    uint64_t limit = (uint64_t)(s->checkpoint_seconds * 0.5e9);

    for (size_t i = 0; list && i < n; i++) {
        struct failure f = {0};
        uint64_t dirty;
        pthread_mutex_lock(&list[i]->lock);
        dirty = list[i]->dirty_ns;
        pthread_mutex_unlock(&list[i]->lock);
        if (dirty && (all || now_ns() - dirty >= limit) && !model_checkpoint(list[i], &f))
            log_error("model %s: unsaved training steps: %s", list[i]->name, f.text);
        store_put(list[i]);
    }
    free(list);
}

static void *keeper(void *arg)
{
    struct store *s = arg;
    pthread_mutex_lock(&s->keeping);
    while (!s->stop) {
        double quarter = s->checkpoint_seconds / 4, period = quarter > 1 ? 1 : quarter < 0.02 ? 0.02 : quarter;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)(period * 1e9);
        until.tv_sec += (time_t)(ns / 1000000000u);
        until.tv_nsec = (long)(ns % 1000000000u);
        pthread_cond_timedwait(&s->wake, &s->keeping, &until);
        if (s->stop)
            break;
        pthread_mutex_unlock(&s->keeping);
        keep(s, false);
        pthread_mutex_lock(&s->keeping);
    }
    pthread_mutex_unlock(&s->keeping);
    return NULL;
}

/* ---- start and end ------------------------------------------------------------------------------------------ */

static int make_folders(const char *path)
{
    char part[PATH_MAX];

    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return ENAMETOOLONG;
    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (mkdir(part, 0755) && errno != EEXIST)
            return errno;
        *p = '/';
    }
    return mkdir(part, 0700) && errno != EEXIST ? errno : 0;
}

/* The folders, with a lock on them. 0 or an errno. */
static int take_folders(struct store *s, const char *state_dir)
{
    int error = make_folders(state_dir);

    if (error)
        return error;
    if ((s->root = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        (s->lock_file = openat(s->root, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0 ||
        flock(s->lock_file, LOCK_EX | LOCK_NB) || (mkdirat(s->root, "models", 0700) && errno != EEXIST) ||
        (s->models = openat(s->root, "models", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return errno;
    return 0;
}

/* The same where nothing may be written: what is missing stays so, and others may read as well. */
static int look_at_folders(struct store *s, const char *state_dir)
{
    if (!state_dir || (s->root = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return state_dir && errno != ENOENT ? errno : 0;
    if ((s->lock_file = openat(s->root, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0 ? errno != ENOENT
                                                                                        : flock(s->lock_file, LOCK_SH | LOCK_NB))
        return errno;
    if ((s->models = openat(s->root, "models", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 && errno != ENOENT)
        return errno;
    return 0;
}

/* Closes the folders, and with the last of them the lock; frees. */
static void leave(struct store *s)
{
    if (s->models >= 0)
        close(s->models);
    if (s->lock_file >= 0)
        close(s->lock_file);
    if (s->root >= 0)
        close(s->root);
    free(s);
}

struct store *store_open(const char *state_dir, bool read_only, double checkpoint_seconds, struct metrics *metrics, char *why,
                         size_t size)
{
    struct store *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;
    int error;

    if (!s) {
        snprintf(why, size, "out of memory");
        return NULL;
    }
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write, not an end of the daemon */
    s->root = s->models = s->lock_file = -1;
    s->checkpoint_seconds = checkpoint_seconds;
    s->metrics = metrics;
    s->read_only = read_only;
    if ((error = read_only ? look_at_folders(s, state_dir) : take_folders(s, state_dir))) {
        snprintf(why, size, "state directory %s: %s", state_dir,
                 error == EWOULDBLOCK ? "another onelipd is using it" : strerror(error));
    } else {
        pthread_mutex_init(&s->changing, NULL);
        pthread_mutex_init(&s->lock, NULL);
        pthread_mutex_init(&s->keeping, NULL);
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&s->wake, &monotonic);
        pthread_condattr_destroy(&monotonic);
        if (!(error = pthread_create(&s->keeper, NULL, keeper, s)))
            return s;
        snprintf(why, size, "cannot start a thread: %s", strerror(error));
    }
    leave(s);
    return NULL;
}

void store_pace(struct store *s, double checkpoint_seconds)
{
    s->checkpoint_seconds = checkpoint_seconds;
}

int store_folder(const struct store *s)
{
    return s->root;
}

bool store_read_only(const struct store *s)
{
    return s->read_only;
}

void store_save(struct store *s)
{
    keep(s, true);
}

bool store_close(struct store *s)
{
    bool saved = true;

    pthread_mutex_lock(&s->keeping);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->keeping);
    pthread_join(s->keeper, NULL);
    keep(s, true);
    for (size_t i = 0; i < s->n_models; i++) {
        saved &= s->model[i]->dirty_ns == 0;
        store_put(s->model[i]);
    }
    free(s->model);
    pthread_mutex_destroy(&s->changing);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->keeping);
    pthread_cond_destroy(&s->wake);
    leave(s);
    return saved;
}
