#include "metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "common.h"
#include "handlers.h"

/* GET /metrics  ->  Prometheus's text format */
void handle_metrics(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    size_t bytes, n = 0;
    struct model **all = store_list(ctx->store, &n);
    char *text;

    (void)rq;
    for (size_t i = 0; all && i < n; i++) {
        char labels[LABELS_MAX];
        struct published *now = model_now(all[i]);
        if (now) {
            labels_of(labels, all[i]->name, now->version);
            metrics_set(ctx->metrics, "onelip_weights_revision", labels, (double)now->weights_revision);
        }
        published_put(now);
        store_put(all[i]);
    }
    free(all);
    if ((text = metrics_text(ctx->metrics, &bytes)))
        reply_bytes(rp, 200, "text/plain; version=0.0.4; charset=utf-8", text, bytes);
    else
        reply_no_memory(rp);
}
