/* log.c: one line per event, written whole with one write(), so that lines of several threads do not mix. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum form { FORM_TEXT, FORM_JOURNAL, FORM_JSON };

#define MESSAGE_MAX 2000

static _Atomic unsigned levels = (2u << LOG_LEVEL_INFO) - 1; /* a bit for each that is written */
static _Atomic int form = FORM_TEXT;                         /* as configured */
static _Atomic bool text_anyway;                             /* FORM_TEXT nevertheless */

static const char *const level_names[] = {"error", "warning", "info", "debug"};

/* Whether stderr is the journal: it names the device and inode of its stream. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat is;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && !fstat(STDERR_FILENO, &is) &&
           is.st_dev == device && is.st_ino == inode;
}

enum log_level log_level_named(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, level_names[i]))
            return (enum log_level)i;
    return LOG_LEVEL_INFO;
}

void log_setup(enum log_level level, const char *format)
{
    levels = (2u << level) - 1;
    text_anyway = false;
    form = !strcmp(format, "json")   ? FORM_JSON
           : !strcmp(format, "text") ? FORM_TEXT
           : is_journal()            ? FORM_JOURNAL
                                     : FORM_TEXT;
}

void log_choose(unsigned chosen, bool iso)
{
    levels = chosen;
    text_anyway = iso;
}

unsigned log_chosen(bool *iso)
{
    *iso = text_anyway;
    return levels;
}

/* 2026-01-01T10:00:00.123Z, 24 characters */
static void timestamp(char *text, size_t size)
{
    struct timespec now;
    struct tm tm;
    char seconds[24];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, size, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
}

/* Copy from to `to`, at most size bytes, so that one event stays one line whatever a client sent. Returns the length. */
static size_t escape(char *to, size_t size, const char *from, bool json)
{
    size_t n = 0;

    for (; *from && n + 7 < size; from++) {
        unsigned char c = (unsigned char)*from;

        if (json && (c == '"' || c == '\\'))
            to[n++] = '\\', to[n++] = (char)c;
        else if (c < 0x20 || c == 0x7f)
            n += (size_t)sprintf(to + n, json ? "\\u%04x" : "\\x%02x", c);
        else
            to[n++] = (char)c;
    }
    to[n] = '\0';
    return n;
}

void log_line(enum log_level level, const char *format, ...)
{
    static const int priorities[] = {3, 4, 6, 7}; /* of syslog, as the journal reads them */
    char message[MESSAGE_MAX], clean[6 * MESSAGE_MAX + 8], line[6 * MESSAGE_MAX + 128], now[40];
    va_list args;
    int n, as = text_anyway ? FORM_TEXT : form;

    if (!(levels & 1u << level))
        return;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    escape(clean, sizeof clean, message, as == FORM_JSON);
    timestamp(now, sizeof now);
    if (as == FORM_JSON)
        n = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"%s\"}\n", now, level_names[level],
                     clean);
    else if (as == FORM_JOURNAL)
        n = snprintf(line, sizeof line, "<%d>%s\n", priorities[level], clean);
    else
        n = snprintf(line, sizeof line, "%s %s: %s\n", now, level_names[level], clean);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody reads stderr: there is nowhere left to say so */
}
