/* server_config.h: what follows from the settings that may change while the daemon runs. */
#ifndef SERVER_HANDLERS_SERVER_CONFIG_H
#define SERVER_HANDLERS_SERVER_CONFIG_H

struct ctx;

/* settings_apply: the settings are as they are now: log and store go by them. For SIGHUP and PATCH /v2/config. */
void settings_apply(struct ctx *ctx);

#endif
