/* unsupported.c: of the wire contract, what this build has not, in the words that its clients know. */
#include <string.h>

#include "common.h"
#include "handlers.h"

void handle_unsupported(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const struct {
        const char *part, *text; /* of the route's template; the first that is in it */
    } texts[] = {{"/{repo}/", "'repository_name' specification is not supported"},
                 {"/trace/", "the trace extension is not supported"},
                 {"sharedmemory/", "the shared memory extensions are not supported"},
                 {"/generate", "the generate extension is not supported"}};
    const char *template = rq->route->template;

    (void)ctx;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strstr(template, texts[i].part)) {
            reply_error(rp, 501, "unsupported", NULL, "%s", texts[i].text);
            return;
        }
    reply_error(rp, 501, "unsupported", NULL, "%s %s is not built in", rq->method, template);
}

/* GET /v2/systemsharedmemory/status  ->  []: clients ask, and there is none */
void handle_no_regions(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    (void)rq;
    reply_json(rp, 200, json_array());
}
