/* server_config.c: the daemon's settings, and what Triton's clients call logging. */
#include "server_config.h"

#include <stdio.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "history.h"
#include "log.h"
#include "settings.h"

void settings_apply(struct ctx *ctx)
{
    struct config *c = ctx->config;

    pthread_rwlock_rdlock(&c->lock);
    log_setup(log_level_named(c->log_level), c->log_format);
    pthread_rwlock_unlock(&c->lock);
    store_pace(ctx->store, c->checkpoint_seconds);
}

/* ---- /v2/config ------------------------------------------------------------------------------------------------- */

static json_t *document(struct ctx *ctx)
{
    return json_pack("{s:o, s:o, s:b}", "settings", config_json(ctx->config, false), "mutable", config_mutable(),
                     "history_kept", history_kept() && !ctx->config->read_only);
}

/* GET /v2/config  ->  {"settings", "mutable", "history_kept"} */
void handle_settings(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};

    if (codec_queries(rq, rp, none))
        reply_json_tagged(rq, rp, document(ctx));
}

static bool patch(struct ctx *ctx, const json_t *changes, bool dry, struct reply *rp)
{
    struct settings_fault fault;
    bool good = config_patch(ctx->config, changes, dry, &fault);

    if (!good)
        reply_at(rp, fault.status, fault.code, fault.pointer, "%s", fault.text);
    return good;
}

/* PATCH /v2/config  {"log_level":"debug"}  ->  the same, until a restart or SIGHUP */
void handle_settings_patch(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    json_t *body = NULL, *present = NULL;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (!(present = document(ctx))) {
        reply_no_memory(rp);
    } else if (patch(ctx, body, true, rp) && codec_precondition_json(rq, rp, present) && patch(ctx, body, false, rp)) {
        settings_apply(ctx);
        reply_json_tagged(rq, rp, document(ctx));
    }
    json_decref(present);
    json_decref(body);
}

/* ---- /v2/logging: Triton's, of which log_verbose_level 1 is what onelipd calls debug --------------------------------- */

static const struct {
    const char *member;
    enum log_level level;
} switches[] = {{"log_error", LOG_LEVEL_ERROR}, {"log_warning", LOG_LEVEL_WARNING}, {"log_info", LOG_LEVEL_INFO}};
enum { SWITCHES = sizeof switches / sizeof *switches };

static json_t *logging(void)
{
    bool iso;
    unsigned levels = log_chosen(&iso);
    json_t *json = json_pack("{s:s}", "log_file", "");

    for (size_t i = SWITCHES; i-- > 0;)
        json_object_set_new(json, switches[i].member, json_boolean(levels & 1u << switches[i].level));
    json_object_set_new(json, "log_verbose_level", json_integer(levels & 1u << LOG_LEVEL_DEBUG ? 1 : 0));
    json_object_set_new(json, "log_format", json_string(iso ? "ISO8601" : "default"));
    return json;
}

/* GET /v2/logging */
void handle_logging(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)ctx;
    (void)rq;
    reply_json(rp, 200, logging());
}

static bool wrong(struct reply *rp, const char *member, const char *what)
{
    char pointer[64];

    snprintf(pointer, sizeof pointer, "/%s", member);
    reply_at(rp, 400, "bad_parameter", pointer, "log setting '%s' needs %s", member, what);
    return false;
}

/* The body over what is in force. */
static bool read_logging(const json_t *body, unsigned *levels, bool *iso, struct reply *rp)
{
    const json_t *value;
    const char *text;

    for (size_t i = 0; i < SWITCHES; i++) {
        if (!(value = json_object_get(body, switches[i].member)))
            continue;
        if (!json_is_boolean(value))
            return wrong(rp, switches[i].member, "true or false");
        *levels = (*levels & ~(1u << switches[i].level)) | (unsigned)json_is_true(value) << switches[i].level;
    }
    if ((value = json_object_get(body, "log_verbose_level"))) {
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return wrong(rp, "log_verbose_level", "an integer from 0");
        *levels = (*levels & ~(1u << LOG_LEVEL_DEBUG)) | (unsigned)(json_integer_value(value) > 0) << LOG_LEVEL_DEBUG;
    }
    if ((value = json_object_get(body, "log_format"))) {
        text = json_string_value(value);
        if (!text || (strcmp(text, "default") && strcmp(text, "ISO8601")))
            return wrong(rp, "log_format", "default or ISO8601");
        *iso = !strcmp(text, "ISO8601");
    }
    if ((value = json_object_get(body, "log_file"))) {
        if (!(text = json_string_value(value)))
            return wrong(rp, "log_file", "a text");
        if (*text) {
            reply_at(rp, 501, "unsupported", "/log_file", "log file location can not be updated through network protocol");
            return false;
        }
    }
    return true;
}

/* POST /v2/logging  any subset  ->  the whole */
void handle_logging_post(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    json_t *body = codec_document(rq, rp);
    unsigned levels;
    bool iso;

    (void)ctx;
    levels = log_chosen(&iso);
    if (body && read_logging(body, &levels, &iso, rp)) {
        log_choose(levels, iso);
        reply_json(rp, 200, logging());
    }
    json_decref(body);
}
