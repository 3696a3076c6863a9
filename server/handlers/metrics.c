#include "metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "common.h"
#include "handlers.h"

static void set_revision(struct ctx *ctx, struct model *model)
{
    struct published *now = model_now(model);
    char labels[LABELS_MAX];

    if (now) {
        labels_of(labels, model->name, now->version);
        metrics_set(ctx->metrics, "onelip_weights_revision", labels, (double)now->weights_revision);
    }
    published_put(now);
}

/* GET /metrics  ->  Prometheus's text format */
void handle_metrics(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    size_t bytes, n = 0;
    struct model **all = store_list(ctx->store, &n);
    char *text;

    (void)rq;
    for (size_t i = 0; all && i < n; i++) {
        size_t frozen = 0;
        struct model **versions = model_versions(all[i], &frozen);
        for (size_t k = 0; versions && k < frozen; k++) {
            set_revision(ctx, versions[k]);
            store_put(versions[k]);
        }
        free(versions);
        set_revision(ctx, all[i]);
        store_put(all[i]);
    }
    free(all);
    if ((text = metrics_text(ctx->metrics, &bytes)))
        reply_bytes(rp, 200, "text/plain; version=0.0.4; charset=utf-8", text, bytes);
    else
        reply_no_memory(rp);
}
