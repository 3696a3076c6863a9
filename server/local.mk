# libserver.la: all of onelipd but main.c, so that its parts can have unit tests too.
SERVER_CPPFLAGS = $(PUBLIC_CPPFLAGS) -I$(top_srcdir)/%D% $(MHD_CFLAGS) $(GNUTLS_CFLAGS) $(JANSSON_CFLAGS) $(ZLIB_CFLAGS) \
	$(SYSTEMD_CFLAGS)
SERVER_LIBS = lib/libonelip.la $(MHD_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(ZLIB_LIBS) $(SYSTEMD_LIBS) -lm

noinst_LTLIBRARIES += %D%/libserver.la
%C%_libserver_la_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_libserver_la_SOURCES = \
	%D%/checkpoint.c \
	%D%/codec.c \
	%D%/cors.c \
	%D%/disk.c \
	%D%/documents.c \
	%D%/errors.c \
	%D%/files.c \
	%D%/guard.c \
	%D%/head.c \
	%D%/http.c \
	%D%/inflate.c \
	%D%/json_scan.c %D%/keys.c \
	%D%/listen.c \
	%D%/log.c \
	%D%/metrics.c \
	%D%/notify.c \
	%D%/npy.c \
	%D%/number.c \
	%D%/recipe.c \
	%D%/reply.c \
	%D%/router.c \
	%D%/routes.c \
	%D%/scheduler.c \
	%D%/settings.c \
	%D%/sha256.c \
	%D%/stats.c \
	%D%/store.c \
	%D%/text.c %D%/tls.c \
	%D%/values.c \
	%D%/handlers/checkpoints.c \
	%D%/handlers/common.c \
	%D%/handlers/condense.c \
	%D%/handlers/export.c \
	%D%/handlers/health.c \
	%D%/handlers/infer.c \
	%D%/handlers/layers.c \
	%D%/handlers/lipschitz.c \
	%D%/handlers/metrics.c \
	%D%/handlers/models.c \
	%D%/handlers/patch.c \
	%D%/handlers/singular_values.c \
	%D%/handlers/stats.c \
	%D%/handlers/telemetry.c \
	%D%/handlers/tensor.c \
	%D%/handlers/train.c \
	%D%/handlers/training.c \
	%D%/handlers/unsupported.c \
	%D%/handlers/weights.c

noinst_HEADERS += \
	%D%/codec.h \
	%D%/cors.h \
	%D%/ctx.h \
	%D%/disk.h \
	%D%/errors.def \
	%D%/files.h \
	%D%/guard.h \
	%D%/http.h \
	%D%/inflate.h \
	%D%/json_scan.h %D%/keys.h \
	%D%/listen.h \
	%D%/log.h \
	%D%/metrics.def \
	%D%/metrics.h \
	%D%/notify.h \
	%D%/npy.h \
	%D%/number.h \
	%D%/router.h \
	%D%/scheduler.h \
	%D%/settings.def \
	%D%/settings.h \
	%D%/sha256.h \
	%D%/stats.h \
	%D%/store.h \
	%D%/store_private.h \
	%D%/text.h %D%/tls.h \
	%D%/values.h \
	%D%/handlers/common.h \
	%D%/handlers/handlers.h \
	%D%/handlers/training.h \
	%D%/handlers/weights.h

sbin_PROGRAMS += %D%/onelipd
%C%_onelipd_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_onelipd_SOURCES = %D%/main.c
%C%_onelipd_LDADD = %D%/libserver.la $(SERVER_LIBS)
dist_man_MANS += %D%/onelipd.8
