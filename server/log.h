/* log.h: one line per event, to stderr; with <N> prefixes under the journal, as JSON on request. Threads: safe. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* log_setup: the least important level that is written, and how: "auto", "text", "json". log_choose: these levels alone, a bit
 * 1 << level for each, and with iso as text whatever the format; until the next log_setup. log_chosen: the bits now. */
void log_setup(enum log_level level, const char *format);
void log_choose(unsigned levels, bool iso);
unsigned log_chosen(bool *iso);
enum log_level log_level_named(const char *name);         /* "error" … "debug"; info for anything else */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
