#include "common.h"
#include "handlers.h"

/* Paths of the wire contract that this build has not. */
void handle_unsupported(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    reply_error(rp, 501, "unsupported", NULL, "%s %s is not built in", rq->method, rq->route->template);
}
