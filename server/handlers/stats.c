/* stats.c: Triton's statistics extension. */
#include "stats.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

/* Every variable three times: the head, its spare copy for changes that may fail, and what is published. */
static size_t memory_of(struct model *model)
{
    struct published *now = model_now(model);
    const lip_model *m = now ? lip_snapshot_model(now->snapshot) : NULL;
    size_t bytes = 0;

    for (size_t i = 0; m && i < lip_model_variables(m); i++)
        bytes += 3 * sizeof(float) * lip_shape_count(&lip_model_variable(m, i)->shape);
    published_put(now);
    return bytes;
}

static json_t *stats_of(struct model *model)
{
    struct stats *stats;
    char version[VERSION_MAX];
    json_t *json;

    pthread_mutex_lock(&model->lock);
    stats = stats_get(model->stats);
    memcpy(version, model->facts.version, sizeof version);
    pthread_mutex_unlock(&model->lock);
    json = stats_json(stats, model->name, version, memory_of(model));
    stats_put(stats);
    return json;
}

static void add_versions(json_t *list, struct model *head)
{
    size_t n = 0;
    struct model **all = model_versions(head, &n);

    for (size_t i = 0; all && i < n; i++) {
        json_array_append_new(list, stats_of(all[i]));
        store_put(all[i]);
    }
    free(all);
}

/* GET /v2/models/{m}[/versions/{v}]/stats  ->  {"model_stats":[…]} */
void handle_model_stats(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *model = find_model(ctx, rq, rp);

    json_t *list;

    if (!model)
        return;
    list = json_array();
    if (!path_param(rq, "{v}") && !path_param(rq, "{label}"))
        add_versions(list, model);
    json_array_append_new(list, stats_of(model));
    reply_json(rp, 200, json_pack("{s:o}", "model_stats", list));
    store_put(model);
}

/* GET /v2/models/stats  ->  the same of all models */
void handle_stats(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    json_t *list = json_array();
    size_t n = 0;
    struct model **all = store_list(ctx->store, &n);

    (void)rq;
    for (size_t i = 0; all && i < n; i++) {
        add_versions(list, all[i]);
        json_array_append_new(list, stats_of(all[i]));
        store_put(all[i]);
    }
    free(all);
    reply_json(rp, 200, json_pack("{s:o}", "model_stats", list));
}
