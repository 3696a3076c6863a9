/* head.c: reading and changing one model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store_private.h"

void time_text(char text[TIME_MAX])
{
    time_t now = time(NULL);
    struct tm utc;

    strftime(text, TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

void model_lock(struct model *model)
{
    atomic_fetch_add(&model->wanting, 1);
    pthread_mutex_lock(&model->writing);
    atomic_fetch_sub(&model->wanting, 1);
}

bool position_put(struct model *model, const char *job, json_t *position)
{
    if (!position)
        return json_object_del(model->positions, job), true;
    if (!model->positions)
        model->positions = json_object();
    return json_object_set_new(model->positions, job, position) == 0;
}

json_t *position_get(const struct model *model, const char *job)
{
    return json_object_get(model->positions, job);
}

/* ---- readers -------------------------------------------------------------------------------------------- */

static atomic_size_t live;

size_t published_live(void)
{
    return atomic_load(&live);
}

struct published *published_new(lip_snapshot *snapshot, const struct facts *facts, struct stats *stats)
{
    struct published *now = calloc(1, sizeof *now);

    if (!now)
        return NULL;
    atomic_init(&now->refs, 1);
    atomic_fetch_add(&live, 1);
    now->snapshot = lip_snapshot_get(snapshot);
    memcpy(now->epoch, facts->epoch, sizeof now->epoch);
    memcpy(now->version, facts->version, sizeof now->version);
    now->weights_revision = facts->weights_revision;
    now->stats = stats_get(stats);
    pthread_mutex_init(&now->lock, NULL);
    return now;
}

void published_put(struct published *now)
{
    if (!now || atomic_fetch_sub(&now->refs, 1) != 1)
        return;
    while (now->reports) {
        struct report *next = now->reports->next;
        free(now->reports->text);
        free(now->reports->key);
        free(now->reports);
        now->reports = next;
    }
    for (size_t i = 0; i < NORMS; i++)
        lip_certifier_free(now->certifier[i]);
    lip_snapshot_put(now->snapshot);
    stats_put(now->stats);
    pthread_mutex_destroy(&now->lock);
    free(now);
    atomic_fetch_sub(&live, 1);
}

struct published *model_now(struct model *model)
{
    struct published *now;

    pthread_mutex_lock(&model->lock);
    now = model->stage == MODEL_READY ? model->now : NULL;
    if (now)
        atomic_fetch_add(&now->refs, 1);
    pthread_mutex_unlock(&model->lock);
    return now;
}

struct knobs *model_knobs(struct model *model)
{
    struct knobs *knobs;

    pthread_mutex_lock(&model->lock);
    knobs = knobs_get(model->knobs);
    pthread_mutex_unlock(&model->lock);
    return knobs;
}

struct stats *model_stats(struct model *model)
{
    struct stats *stats;

    pthread_mutex_lock(&model->lock);
    stats = stats_get(model->stats);
    pthread_mutex_unlock(&model->lock);
    return stats;
}

struct recipe *model_recipe(struct model *model)
{
    struct recipe *recipe;

    pthread_mutex_lock(&model->lock);
    recipe = model->stage == MODEL_READY ? model->recipe : NULL;
    if (recipe)
        atomic_fetch_add(&recipe->refs, 1);
    pthread_mutex_unlock(&model->lock);
    return recipe;
}

enum model_stage model_stage(struct model *model, char *why, size_t size)
{
    enum model_stage stage;

    pthread_mutex_lock(&model->lock);
    stage = model->stage;
    if (why)
        snprintf(why, size, "%s", model->facts.damage ? model->facts.damage : "");
    pthread_mutex_unlock(&model->lock);
    return stage;
}

bool model_facts(struct model *model, struct facts *copy)
{
    bool ok;

    pthread_mutex_lock(&model->lock);
    *copy = model->facts;
    copy->description = strdup(model->facts.description ? model->facts.description : "");
    copy->damage = model->facts.damage ? strdup(model->facts.damage) : NULL;
    copy->tags = json_deep_copy(model->facts.tags); /* jansson's counting is not for several threads */
    ok = copy->description && (copy->damage || !model->facts.damage);
    pthread_mutex_unlock(&model->lock);
    if (!ok)
        facts_clear(copy);
    return ok;
}

bool model_lost(struct model *model, const char *etag)
{
    char epoch[9] = "";
    unsigned long long revision = 0;
    bool lost;

    if (sscanf(etag, "\"%8[0-9a-f]-%*[0-9]-%llu", epoch, &revision) != 2)
        return false;
    pthread_mutex_lock(&model->lock);
    lost = !strcmp(epoch, model->facts.lost_epoch) && revision > model->facts.lost_after;
    pthread_mutex_unlock(&model->lock);
    return lost;
}

void facts_clear(struct facts *facts)
{
    free(facts->description);
    free(facts->damage);
    json_decref(facts->tags);
    *facts = (struct facts){0};
}

/* ---- ahead.json ------------------------------------------------------------------------------------------ */

static void unmark_upto(struct model *model, uint64_t revision)
{
    pthread_mutex_lock(&model->marking);
    if (model->marked && model->promised <= revision) {
        disk_unmark(model);
        model->marked = false;
    }
    pthread_mutex_unlock(&model->marking);
}

bool model_before_step(struct model *model, bool publish, bool sync, struct failure *f)
{
    lip_error err = {0};
    bool ok = true;

    if (!publish && !model->served && lip_state_copy(model->state, &model->served, &err))
        return failure_lip(f, &err);
    if (sync)
        return true;
    pthread_mutex_lock(&model->marking);
    if (!model->marked)
        ok = model->marked = disk_mark(model, f);
    if (ok)
        model->promised = model->facts.state_revision + 1;
    pthread_mutex_unlock(&model->marking);
    if (!ok)
        model_unstep(model);
    return ok;
}

void model_unstep(struct model *model)
{
    uint64_t dirty;

    if (!model->unpublished) {
        lip_state_free(model->served);
        model->served = NULL;
    }
    pthread_mutex_lock(&model->lock);
    dirty = model->dirty_ns;
    pthread_mutex_unlock(&model->lock);
    pthread_mutex_lock(&model->marking);
    model->promised = model->facts.state_revision;
    pthread_mutex_unlock(&model->marking);
    if (!dirty)
        unmark_upto(model, model->facts.state_revision);
}

void model_saved(struct model *model, const struct image *image)
{
    bool same;

    pthread_mutex_lock(&model->lock);
    same = !memcmp(model->facts.epoch, image->epoch, sizeof image->epoch);
    if (same) {
        if (model->facts.checkpointed_revision < image->revision)
            model->facts.checkpointed_revision = image->revision;
        if (model->facts.state_revision <= image->revision)
            model->dirty_ns = 0;
        else if (model->dirty_ns && model->dirty_ns < image->cut_ns)
            model->dirty_ns = image->cut_ns;
    }
    pthread_mutex_unlock(&model->lock);
    if (same)
        unmark_upto(model, image->revision);
}

/* ---- writers ------------------------------------------------------------------------------------------------ */

bool model_write(struct model *model, const struct view *view, bool definition, bool training, struct image *image,
                 struct failure *f)
{
    int folder;
    bool ok;

    if (!image_make(model, view, definition, training, image, f) || (folder = disk_open(model, f)) < 0)
        return false;
    ok = disk_save(model, folder, image, f);
    close(folder);
    return ok;
}

struct view model_view(struct model *model, const struct facts *facts)
{
    return (struct view){.state = model->state,
                         .served = model->served,
                         .trainer = model->trainer,
                         .training = model->recipe ? model->recipe->config : NULL,
                         .facts = facts,
                         .optimizer_kept = model->optimizer_kept,
                         .unpublished = model->unpublished};
}

/* The facts as they will be, one revision on. Borrows description and tags, which only writers change. */
static struct facts next_facts(struct model *model, bool publish)
{
    struct facts facts;

    pthread_mutex_lock(&model->lock);
    facts = model->facts;
    pthread_mutex_unlock(&model->lock);
    facts.state_revision++;
    if (publish)
        facts.weights_revision = facts.state_revision;
    return facts;
}

static struct published *publish_state(struct model *model, const lip_state *state, const struct facts *facts,
                                       struct failure *f)
{
    lip_snapshot *snapshot = NULL;
    struct published *now = NULL;
    lip_error err = {0};

    if (lip_state_publish(state, &snapshot, &err))
        failure_lip(f, &err);
    else if (!(now = published_new(snapshot, facts, model->stats)))
        failure_set(f, 503, "out_of_memory", "out of memory for a snapshot");
    lip_snapshot_put(snapshot);
    return now;
}

/* Let readers see it: the revisions of `facts`, and `now` unless it is NULL. */
static void show(struct model *model, const struct facts *facts, struct published *now, bool saved)
{
    struct published *old = NULL;

    pthread_mutex_lock(&model->lock);
    model->facts.state_revision = facts->state_revision;
    if (now) {
        old = model->now;
        model->now = now;
        model->facts.weights_revision = now->weights_revision;
    }
    if (!saved && !model->dirty_ns)
        model->dirty_ns = now_ns();
    pthread_mutex_unlock(&model->lock);
    published_put(old);
    if (now) {
        stats_published(model->stats, true);
        batcher_published(&model->batcher, now->weights_revision);
        if (model->recipe && model->trainer)
            lip_trainer_follow(model->recipe->judge, model->trainer);
        lip_state_free(model->served);
        model->served = NULL;
        model->unpublished = 0;
        store_tell(model, NEWS_PUBLISHED);
    }
}

bool model_replace_state(struct model *model, lip_state *changed, struct failure *f)
{
    struct facts facts = next_facts(model, true);
    struct view view = model_view(model, &facts);
    struct published *now = publish_state(model, changed, &facts, f);
    struct image image = {0};
    bool ok;

    view.state = changed;
    view.served = NULL;
    view.unpublished = 0;
    ok = now && model_write(model, &view, false, false, &image, f);
    if (ok) {
        lip_state_free(model->state);
        model->state = changed;
        show(model, &facts, now, true);
        model_saved(model, &image);
    } else {
        published_put(now);
    }
    image_clear(&image);
    return ok;
}

bool model_redefine(struct model *model, lip_state *changed, struct recipe *recipe, lip_trainer *trainer,
                    bool optimizer_kept, struct failure *f)
{
    struct facts facts = next_facts(model, true);
    struct view view = {.state = changed,
                        .trainer = trainer,
                        .training = recipe ? recipe->config : NULL,
                        .facts = &facts,
                        .optimizer_kept = optimizer_kept};
    struct published *now = publish_state(model, changed, &facts, f);
    struct recipe *old = model->recipe;
    struct image image = {0};
    bool ok = now && model_write(model, &view, true, true, &image, f);

    if (ok) {
        lip_state_free(model->state);
        lip_trainer_free(model->trainer);
        model->state = changed;
        model->trainer = trainer;
        model->optimizer_kept = optimizer_kept;
        pthread_mutex_lock(&model->lock);
        model->recipe = recipe;
        pthread_mutex_unlock(&model->lock);
        show(model, &facts, now, true);
        recipe_put(old);
        model_saved(model, &image);
    } else {
        published_put(now);
    }
    image_clear(&image);
    return ok;
}

bool model_describe(struct model *model, char *description, json_t *tags, struct failure *f)
{
    struct facts facts = {0};
    struct view view = model_view(model, &facts);
    struct image image = {0};
    char *old_description;
    json_t *old_tags;
    bool ok;

    pthread_mutex_lock(&model->lock);
    facts = model->facts;
    pthread_mutex_unlock(&model->lock);
    facts.description = description;
    facts.tags = tags;
    ok = model_write(model, &view, false, false, &image, f);
    if (ok) {
        pthread_mutex_lock(&model->lock);
        old_description = model->facts.description;
        old_tags = model->facts.tags;
        model->facts.description = description;
        model->facts.tags = tags;
        pthread_mutex_unlock(&model->lock);
        free(old_description);
        json_decref(old_tags);
        model_saved(model, &image);
    }
    image_clear(&image);
    return ok;
}

void model_set_knobs(struct model *model, struct knobs *knobs)
{
    struct knobs *old;

    pthread_mutex_lock(&model->lock);
    old = model->knobs;
    model->knobs = knobs_get(knobs);
    pthread_mutex_unlock(&model->lock);
    knobs_put(old);
    batcher_configure(&model->batcher, &knobs->batch);
}

bool model_tune(struct model *model, struct knobs *knobs, struct failure *f)
{
    int folder = disk_open(model, f);
    bool ok = folder >= 0 && disk_tune(folder, knobs, f);

    if (folder >= 0)
        close(folder);
    if (!ok)
        return false;
    for (size_t i = 0; i < model->n_versions; i++)
        model_set_knobs(model->version[i], knobs);
    model_set_knobs(model, knobs);
    knobs_put(knobs);
    return true;
}

bool model_train(struct model *model, struct recipe *recipe, lip_trainer *trainer, bool optimizer_kept, struct failure *f)
{
    struct facts facts = next_facts(model, false);
    struct view view = model_view(model, &facts);
    struct image image = {0};
    struct recipe *old = model->recipe;
    bool ok;

    view.trainer = trainer;
    view.training = recipe->config;
    view.optimizer_kept = optimizer_kept;
    ok = model_write(model, &view, false, true, &image, f);
    if (ok) {
        lip_trainer_free(model->trainer);
        model->trainer = trainer;
        model->optimizer_kept = optimizer_kept;
        pthread_mutex_lock(&model->lock);
        model->recipe = recipe;
        pthread_mutex_unlock(&model->lock);
        recipe_put(old);
        show(model, &facts, NULL, true);
        model_saved(model, &image);
    }
    image_clear(&image);
    return ok;
}

bool model_stepped(struct model *model, bool publish, bool sync, struct failure *f)
{
    struct facts facts = next_facts(model, publish);
    struct published *now = publish ? publish_state(model, model->state, &facts, f) : NULL;
    struct image image = {0};

    if (publish && !now) {
        if (sync)
            return false;
        /* The step stands; what was served before goes on being served until the next one can be published. */
        log_warning("model %s: %s", model->name, f->text);
        *f = (struct failure){0};
        publish = false;
        facts = next_facts(model, false);
    }
    model->unpublished += !publish;
    if (sync) {
        struct view view = model_view(model, &facts);
        if (publish) {
            view.served = NULL;
            view.unpublished = 0;
        }
        if (!model_write(model, &view, false, false, &image, f)) {
            model->unpublished -= !publish;
            published_put(now);
            image_clear(&image);
            return false;
        }
    }
    show(model, &facts, now, sync);
    if (!publish)
        stats_published(model->stats, false);
    if (sync)
        model_saved(model, &image);
    image_clear(&image);
    return true;
}

bool model_checkpoint(struct model *model, struct failure *f)
{
    struct image image = {0};
    struct facts facts;
    struct view view;
    uint64_t dirty;
    int folder = -1;
    bool ok = true;

    model_lock(model);
    pthread_mutex_lock(&model->lock);
    facts = model->facts;
    dirty = model->dirty_ns;
    pthread_mutex_unlock(&model->lock);
    if (dirty && !model->gone && model->state) {
        view = model_view(model, &facts);
        ok = image_make(model, &view, false, false, &image, f) && (folder = disk_open(model, f)) >= 0;
    }
    pthread_mutex_unlock(&model->writing);
    if (folder >= 0) {
        if ((ok = disk_save(model, folder, &image, f)))
            model_saved(model, &image);
        close(folder);
    }
    image_clear(&image);
    return ok || model->gone;
}
