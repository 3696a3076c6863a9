/* version.c: the frozen versions of a model, on the shelf models/NAME/versions, and the names that they have.
 *
 * The head's state.json commits a freeze: until it names the next number, what lies on the shelf under the present one is
 * swept away at the next start.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "store_private.h"

#define SHELF "versions"
#define LABELS_LIMIT ((size_t)1 << 20)

static unsigned long long number_of(const char *text)
{
    return strspn(text, "0123456789") == strlen(text) ? strtoull(text, NULL, 10) : 0;
}

static bool no_memory(struct failure *f)
{
    return failure_set(f, 503, "out_of_memory", "out of memory for a version");
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Where the version is, or n_versions. Under the head's `lock` or `writing`. */
static size_t place_of(const struct model *head, unsigned long long number)
{
    size_t i = 0;

    while (i < head->n_versions && number_of(head->version[i]->facts.version) != number)
        i++;
    return i;
}

struct model *model_version(struct model *head, const char *number)
{
    unsigned long long wanted = number_of(number);
    struct model *found = NULL;
    size_t i;

    pthread_mutex_lock(&head->lock);
    if (wanted && wanted == number_of(head->facts.version))
        found = head;
    else if ((i = place_of(head, wanted)) < head->n_versions)
        found = head->version[i];
    if (found)
        atomic_fetch_add(&found->refs, 1);
    pthread_mutex_unlock(&head->lock);
    return found;
}

struct model **model_versions(struct model *head, size_t *n)
{
    struct model **list;

    pthread_mutex_lock(&head->lock);
    *n = head->n_versions;
    list = malloc((*n + 1) * sizeof *list);
    for (size_t i = 0; list && i < *n; i++) {
        list[i] = head->version[i];
        atomic_fetch_add(&list[i]->refs, 1);
    }
    pthread_mutex_unlock(&head->lock);
    return list;
}

json_t *model_labels(struct model *head)
{
    json_t *labels;

    pthread_mutex_lock(&head->lock);
    labels = head->labels ? json_deep_copy(head->labels) : json_object();
    pthread_mutex_unlock(&head->lock);
    return labels;
}

/* ---- labels -------------------------------------------------------------------------------------------- */

static bool write_labels(struct model *head, const json_t *labels, struct failure *f)
{
    char *text = json_dumps(labels, JSON_INDENT(1));
    int folder = text ? disk_open(head, f) : -1, error = 0;

    if (!text)
        return no_memory(f);
    if (folder >= 0) {
        error = file_replace(folder, LABELS_FILE, text, strlen(text));
        close(folder);
    }
    free(text);
    return error ? failure_errno(f, error, LABELS_FILE) : f->status == 0;
}

/* labels is taken over. */
static void show_labels(struct model *head, json_t *labels)
{
    json_t *old;

    pthread_mutex_lock(&head->lock);
    old = head->labels;
    head->labels = labels;
    pthread_mutex_unlock(&head->lock);
    json_decref(old);
}

bool label_set(struct model *head, const char *label, const char *number, struct failure *f)
{
    json_t *labels = model_labels(head);
    struct model *version = number ? model_version(head, number) : NULL;
    char text[VERSION_MAX];

    if (!labels) {
        no_memory(f);
    } else if (number && !version) {
        failure_set(f, 404, "unknown_version", "Request for unknown model: '%s' version %.40s is not found", head->name, number);
    } else if (number && model_stage(version, NULL, 0) != MODEL_READY) {
        failure_set(f, 409, "in_use", "version %.40s of model '%s' is not loaded", number, head->name);
    } else if (!number && !json_object_get(labels, label)) {
        failure_set(f, 404, "not_found", "model '%s' has no label \"%.128s\"", head->name, label);
    } else {
        snprintf(text, sizeof text, "%llu", number ? number_of(number) : 0);
        if (number ? json_object_set_new(labels, label, json_string(text)) : json_object_del(labels, label))
            no_memory(f);
        else if (write_labels(head, labels, f)) {
            show_labels(head, labels);
            labels = NULL;
        }
    }
    store_put(version);
    json_decref(labels);
    return f->status == 0;
}

/* ---- freezing ------------------------------------------------------------------------------------------ */

/* The head in memory as an immutable version with these facts, whose description and tags are taken over. NULL: f. */
static struct model *frozen_copy(struct model *head, struct facts *facts, struct failure *f)
{
    struct model *v = model_new(head->store, head->name);
    lip_snapshot *snapshot = NULL;
    lip_error err = {0};

    if (!v) {
        no_memory(f);
        return NULL;
    }
    v->frozen = true;
    v->facts = *facts;
    facts->description = NULL;
    facts->tags = NULL;
    v->stage = MODEL_READY;
    model_set_knobs(v, head->knobs);
    stats_put(v->stats);
    v->stats = stats_get(head->stats);
    /* Its losses judge as they do now, whatever callbacks do to the head's. */
    if (head->recipe && recipe_twin(head->recipe, head->trainer, &v->recipe, &err)) {
        failure_lip(f, &err);
    } else if (lip_state_copy(head->state, &v->state, &err)) {
        failure_lip(f, &err);
    } else if (!head->unpublished) { /* what is served: its reports stay, too */
        atomic_fetch_add(&head->now->refs, 1);
        v->now = head->now;
    } else if (lip_state_publish(head->state, &snapshot, &err)) {
        failure_lip(f, &err);
    } else if (!(v->now = published_new(snapshot, &v->facts, v->stats))) {
        no_memory(f);
    }
    lip_snapshot_put(snapshot);
    if (!f->status)
        return v;
    model_free(v);
    return NULL;
}

/* The labels as they will be: a copy of the present ones with these names for this version. NULL: out of memory. */
static json_t *with_labels(struct model *head, const json_t *names, const char *number)
{
    json_t *labels = model_labels(head), *name;
    size_t i;

    json_array_foreach((json_t *)names, i, name) {
        if (json_object_set_new(labels, json_string_value(name), json_string(number))) {
            json_decref(labels);
            return NULL;
        }
    }
    return labels;
}

/* The head under the next number: on disk, then in memory, where v joins the versions. The commit. */
static bool advance(struct model *head, struct model *v, struct failure *f)
{
    struct model **longer = malloc((head->n_versions + 1) * sizeof *longer), **old = NULL;
    struct stats *stats = stats_new(), *old_stats = head->stats;
    struct published *now = NULL, *old_now = head->now;
    struct image image = {0};
    struct facts facts;
    struct view view;
    bool ok = false;

    pthread_mutex_lock(&head->lock);
    facts = head->facts;
    pthread_mutex_unlock(&head->lock);
    snprintf(facts.version, sizeof facts.version, "%llu", number_of(head->facts.version) + 1);
    memcpy(facts.opened_at, v->facts.frozen_at, sizeof facts.opened_at);
    view = model_view(head, &facts);
    if (!longer || !stats || !(now = published_new(old_now->snapshot, &facts, stats))) {
        no_memory(f);
    } else if (model_write(head, &view, false, false, &image, f)) {
        if (head->n_versions)
            memcpy(longer, head->version, head->n_versions * sizeof *longer);
        longer[head->n_versions] = v;
        atomic_fetch_add(&v->refs, 1);
        pthread_mutex_lock(&head->lock);
        memcpy(head->facts.version, facts.version, sizeof facts.version);
        memcpy(head->facts.opened_at, facts.opened_at, sizeof facts.opened_at);
        head->now = now;
        head->stats = stats;
        old = head->version;
        head->version = longer;
        head->n_versions++;
        pthread_mutex_unlock(&head->lock);
        model_saved(head, &image);
        now = old_now;
        stats = old_stats;
        longer = old;
        ok = true;
    }
    published_put(now);
    stats_put(stats);
    free(longer);
    image_clear(&image);
    return ok;
}

struct model *version_freeze(struct model *head, const char *description, const json_t *names, struct failure *f)
{
    json_t *labels = with_labels(head, names, head->facts.version);
    struct image image = {0};
    struct model *v = NULL;
    struct facts facts;
    struct view view;
    bool shelved = false, ok = false;

    pthread_mutex_lock(&head->lock);
    facts = head->facts;
    pthread_mutex_unlock(&head->lock);
    memcpy(facts.created_at, facts.opened_at, sizeof facts.created_at);
    time_text(facts.frozen_at);
    facts.checkpointed_revision = facts.state_revision;
    if (head->unpublished)
        facts.weights_revision = facts.state_revision;
    facts.tags = json_deep_copy(head->facts.tags);
    facts.description = strdup(description ? description : "");
    view = model_view(head, &facts);
    view.served = NULL;
    view.unpublished = 0;
    if (!labels || !facts.description)
        no_memory(f);
    else if (image_make(head, &view, true, true, &image, f) && (v = frozen_copy(head, &facts, f)) &&
             (shelved = shelf_add(head, SHELF, v->facts.version, &image, f)) &&
             (!json_array_size(names) || write_labels(head, labels, f)))
        ok = advance(head, v, f);
    if (ok && json_array_size(names)) {
        show_labels(head, labels);
        labels = NULL;
    }
    if (!ok) {
        struct failure ignored = {0};
        json_t *present = shelved && json_array_size(names) ? model_labels(head) : NULL;
        if (present)
            write_labels(head, present, &ignored);
        ignored = (struct failure){0};
        if (shelved)
            shelf_remove(head, SHELF, v->facts.version, &ignored);
        json_decref(present);
        model_free(v);
        v = NULL;
    }
    free(facts.description);
    json_decref(facts.tags);
    json_decref(labels);
    image_clear(&image);
    return v;
}

bool version_remove(struct model *head, const char *number, struct failure *f)
{
    unsigned long long wanted = number_of(number);
    json_t *labels = model_labels(head), *named;
    struct model *v;
    const char *label;
    size_t i = place_of(head, wanted);

    json_object_foreach(labels, label, named)
        if (number_of(json_string_value(named)) == wanted)
            failure_set(f, 409, "in_use", "version %llu of model '%s' has the label \"%.128s\"", wanted, head->name, label);
    if (wanted == number_of(head->facts.version))
        failure_set(f, 409, "in_use", "version %llu is the head of model '%s'", wanted, head->name);
    else if (i == head->n_versions)
        failure_set(f, 404, "unknown_version", "Request for unknown model: '%s' version %.40s is not found", head->name, number);
    json_decref(labels);
    if (f->status || !shelf_remove(head, SHELF, head->version[i]->facts.version, f))
        return false;
    pthread_mutex_lock(&head->lock);
    v = head->version[i];
    head->n_versions--;
    memmove(head->version + i, head->version + i + 1, (head->n_versions - i) * sizeof *head->version);
    pthread_mutex_unlock(&head->lock);
    store_put(v);
    return true;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

/* Takes v over. */
static void add(struct model *head, struct model *v)
{
    struct model **longer;
    size_t i;

    pthread_mutex_lock(&head->lock);
    i = head->n_versions;
    if (!(longer = realloc(head->version, (i + 1) * sizeof *longer))) {
        pthread_mutex_unlock(&head->lock);
        log_error("model %s: version %s: out of memory", head->name, v->facts.version);
        store_put(v);
        return;
    }
    head->version = longer;
    while (i > 0 && number_of(longer[i - 1]->facts.version) > number_of(v->facts.version)) {
        longer[i] = longer[i - 1];
        i--;
    }
    longer[i] = v;
    head->n_versions++;
    pthread_mutex_unlock(&head->lock);
}

static void load_one(struct model *head, const char *number)
{
    struct model *v = model_new(head->store, head->name);
    struct failure f = {0};

    if (!v) {
        log_error("model %s: version %s: out of memory", head->name, number);
        return;
    }
    v->frozen = true;
    if (shelf_load(v, head, SHELF, number, &f)) {
        v->stage = MODEL_READY;
        lip_trainer_free(v->trainer); /* it never steps */
        v->trainer = NULL;
    } else {
        v->stage = MODEL_UNAVAILABLE;
        v->facts.damage = strdup(f.text);
        log_error("model %s: version %s is unavailable: %s", head->name, number, f.text);
    }
    snprintf(v->facts.version, sizeof v->facts.version, "%s", number);
    model_set_knobs(v, head->knobs);
    add(head, v);
}

static void load_labels(struct model *head)
{
    struct failure f = {0};
    json_t *labels = NULL, *number;
    int folder = disk_open(head, &f);
    const char *label;
    void *bytes, *next;
    size_t size;

    if (folder < 0 || faccessat(folder, LABELS_FILE, F_OK, 0)) {
        ;
    } else if (file_read(folder, LABELS_FILE, LABELS_LIMIT, &bytes, &size)) {
        log_error("model %s: " LABELS_FILE " cannot be read", head->name);
    } else {
        labels = json_loadb(bytes, size, 0, NULL);
        free(bytes);
        if (!json_is_object(labels))
            log_error("model %s: " LABELS_FILE " is damaged; there are no labels", head->name);
    }
    json_object_foreach_safe(labels, next, label, number) {
        struct model *v = json_is_string(number) ? model_version(head, json_string_value(number)) : NULL;
        if (!v)
            json_object_del(labels, label);
        store_put(v);
    }
    if (folder >= 0)
        close(folder);
    show_labels(head, json_is_object(labels) ? json_incref(labels) : NULL);
    json_decref(labels);
}

void versions_load(struct model *head)
{
    json_t *names = shelf_names(head, SHELF), *name;
    unsigned long long head_number = head->stage == MODEL_READY ? number_of(head->facts.version) : ~0ull;
    size_t i;

    json_array_foreach(names, i, name) {
        const char *number = json_string_value(name);
        struct failure f = {0};
        if (!number_of(number) || strlen(number) >= VERSION_MAX)
            continue;
        if (number_of(number) >= head_number) {
            log_warning("model %s: version %s was being frozen when the daemon stopped", head->name, number);
            if (!head->store->read_only)
                shelf_remove(head, SHELF, number, &f);
        } else {
            load_one(head, number);
        }
    }
    json_decref(names);
    if (head->stage != MODEL_READY && !head->facts.version[0])
        snprintf(head->facts.version, sizeof head->facts.version, "%llu",
                 head->n_versions ? number_of(head->version[head->n_versions - 1]->facts.version) + 1 : 1);
    load_labels(head);
}
