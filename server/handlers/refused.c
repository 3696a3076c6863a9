/* refused.c: extensions of Triton that are not offered, in the words that its clients know. */
#include <string.h>

#include "common.h"
#include "handlers.h"

void handle_refused(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const struct {
        const char *part, *text; /* of the route's template; the first that is in it */
    } texts[] = {{"/{repo}/", "'repository_name' specification is not supported"},
                 {"/trace/", "the server does not support tracing"},
                 {"sharedmemory/", "the server does not support shared memory: send tensors in the body"},
                 {"/generate", "the server does not support the generate extension: use infer"}};
    size_t i = 0;

    (void)ctx;
    while (!strstr(rq->route->template, texts[i].part)) /* one of them is in each of the table's */
        i++;
    reply_error(rp, 501, "unsupported", NULL, "%s", texts[i].text);
}

/* GET /v2/systemsharedmemory/status  ->  []: clients ask, and there is none */
void handle_no_regions(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    (void)rq;
    reply_json(rp, 200, json_array());
}

/* POST /v2/systemsharedmemory/unregister  ->  {}: clients do so before they begin, and Triton does not mind that there was none */
void handle_unregister(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    (void)rq;
    reply_json(rp, 200, json_object());
}
