# libserver.la: all of onelipd but main.c, so that its parts can have unit tests too.
SERVER_CPPFLAGS = $(PUBLIC_CPPFLAGS) -I$(top_srcdir)/%D% $(MHD_CFLAGS) $(GNUTLS_CFLAGS) $(JANSSON_CFLAGS) $(ZLIB_CFLAGS) $(SQLITE_CFLAGS) \
	$(SYSTEMD_CFLAGS)
SERVER_LIBS = lib/libonelip.la $(MHD_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(ZLIB_LIBS) $(SQLITE_LIBS) $(SYSTEMD_LIBS) -lm

noinst_LTLIBRARIES += %D%/libserver.la
%C%_libserver_la_CPPFLAGS = $(SERVER_CPPFLAGS) -I$(top_builddir)/%D% -DWEB_ROOT='"$(webdir)"'
%C%_libserver_la_SOURCES = \
	%D%/batch.c \
	%D%/checkpoint.c \
	%D%/array.c \
	%D%/batches.c \
	%D%/captured.c \
	%D%/codec.c \
	%D%/cors.c \
	%D%/courtesy.c \
	%D%/csv.c \
	%D%/datasets.c \
	%D%/deflate.c \
	%D%/disk.c \
	%D%/documents.c \
	%D%/errors.c \
	%D%/events.c \
	%D%/figures.c \
	%D%/files.c \
	%D%/guard.c \
	%D%/head.c \
	%D%/history.c \
	%D%/http.c \
	%D%/idx.c \
	%D%/inflate.c \
	%D%/jobs.c \
	%D%/json_scan.c %D%/keys.c %D%/knobs.c \
	%D%/kept.c \
	%D%/listen.c \
	%D%/loading.c \
	%D%/log.c \
	%D%/metrics.c \
	%D%/news.c \
	%D%/notify.c \
	%D%/npy.c \
	%D%/number.c \
	%D%/probe.c \
	%D%/once.c \
	%D%/page.c \
	%D%/recipe.c \
	%D%/repository.c \
	%D%/reply.c \
	%D%/router.c \
	%D%/routes.c \
	%D%/scheduler.c \
	%D%/settings.c \
	%D%/sha256.c \
	%D%/spool.c \
	%D%/stats.c \
	%D%/store.c \
	%D%/summary.c \
	%D%/tensors_file.c \
	%D%/text.c %D%/tls.c \
	%D%/train_job.c \
	%D%/values.c \
	%D%/version.c \
	%D%/handlers/checkpoints.c \
	%D%/zip.c \
	%D%/handlers/certify.c \
	%D%/handlers/common.c \
	%D%/handlers/condense.c \
	%D%/handlers/config.c \
	%D%/handlers/datasets.c \
	%D%/handlers/export.c \
	%D%/handlers/gradients.c \
	%D%/handlers/health.c \
	%D%/handlers/intake.c \
	%D%/handlers/infer.c \
	%D%/handlers/jobs.c \
	%D%/handlers/layers.c \
	%D%/handlers/lipschitz.c \
	%D%/handlers/metrics.c \
	%D%/handlers/models.c \
	%D%/handlers/patch.c \
	%D%/handlers/refused.c \
	%D%/handlers/repository.c \
	%D%/handlers/server_config.c \
	%D%/handlers/singular_values.c \
	%D%/handlers/stats.c \
	%D%/handlers/telemetry.c \
	%D%/handlers/tensor.c \
	%D%/handlers/tighten.c \
	%D%/handlers/train.c \
	%D%/handlers/training.c \
	%D%/handlers/training_batch.c \
	%D%/handlers/web.c \
	%D%/handlers/versions.c \
	%D%/handlers/wasserstein.c \
	%D%/handlers/weights.c

noinst_HEADERS += \
	%D%/array.h \
	%D%/batch.h \
	%D%/batches.h \
	%D%/captured.h \
	%D%/codec.h \
	%D%/cors.h \
	%D%/ctx.h \
	%D%/datasets.h \
	%D%/disk.h \
	%D%/errors.def \
	%D%/events.h \
	%D%/figures.h \
	%D%/files.h \
	%D%/guard.h \
	%D%/history.h \
	%D%/http.h \
	%D%/inflate.h \
	%D%/jobs.h \
	%D%/json_scan.h %D%/keys.h %D%/knobs.h \
	%D%/kept.h \
	%D%/listen.h \
	%D%/log.h \
	%D%/metrics.def \
	%D%/metrics.h %D%/news.h \
	%D%/notify.h \
	%D%/npy.h \
	%D%/number.h \
	%D%/once.h \
	%D%/repository.h \
	%D%/router.h \
	%D%/clock.h \
	%D%/courtesy.h \
	%D%/deflate.h \
	%D%/page.h \
	%D%/probe.h \
	%D%/summary.h \
	%D%/scheduler.h \
	%D%/settings.def \
	%D%/settings.h \
	%D%/sha256.h \
	%D%/spool.h \
	%D%/stats.h \
	%D%/store.h \
	%D%/store_private.h \
	%D%/text.h %D%/tls.h \
	%D%/values.h \
	%D%/zip.h \
	%D%/handlers/common.h \
	%D%/handlers/handlers.h \
	%D%/handlers/intake.h \
	%D%/handlers/server_config.h \
	%D%/handlers/train.h \
	%D%/handlers/training_batch.h \
	%D%/handlers/training.h \
	%D%/handlers/weights.h

# The API's description is part of the program, as the bytes of an array.
BUILT_SOURCES += %D%/openapi.inc
CLEANFILES += %D%/openapi.inc
EXTRA_DIST += %D%/openapi.json
%D%/openapi.inc: %D%/openapi.json
	$(AM_V_GEN)$(MKDIR_P) %D% && od -An -v -tx1 $(srcdir)/%D%/openapi.json | sed 's/ \([0-9a-f]*\)/0x\1,/g' >$@.new && mv $@.new $@

# The dashboard: files as they are; beside those of /docs in the build folder, too, for a daemon that runs there with --web-root web.
webdir = $(pkgdatadir)/web
webuidir = $(webdir)/ui
dist_webui_DATA = $(addprefix %D%/web/ui/,index.html style.css icon.svg app.js api.js certificate.js certify.js chart.js data.js datasets.js \
	dom.js infer.js job.js jobs.js manage.js model.js models.js report.js server.js training.js versions.js)
all-local: web/ui.stamp
web/ui.stamp: $(dist_webui_DATA)
	$(AM_V_GEN)rm -rf web/ui && $(MKDIR_P) web/ui && cp $^ web/ui && touch $@
clean-local:
	rm -rf web

# /docs: our two files, and swagger-ui from its package, which is not in the source tree.
webdocsdir = $(webdir)/docs
SWAGGER_UI_FILES = swagger-ui-bundle.js swagger-ui.css LICENSE NOTICE
EXTRA_DIST += %D%/web/.prettierrc.json %D%/web/docs/index.html %D%/web/docs/docs.js %D%/web/package.json %D%/web/package-lock.json
if SWAGGER_UI
nodist_webdocs_DATA = $(addprefix web/docs/,index.html docs.js $(SWAGGER_UI_FILES))
$(nodist_webdocs_DATA): web/docs.stamp
web/docs.stamp: %D%/web/docs/index.html %D%/web/docs/docs.js %D%/web/package.json %D%/web/package-lock.json
	$(AM_V_GEN)$(MKDIR_P) web/npm web/docs && \
	cp $(srcdir)/%D%/web/package.json $(srcdir)/%D%/web/package-lock.json web/npm && \
	( cd web/npm && $(NPM) ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1 || { cat npm.log >&2; exit 1; } ) && \
	cp $(addprefix web/npm/node_modules/swagger-ui-dist/,$(SWAGGER_UI_FILES)) web/docs && \
	cp $(srcdir)/%D%/web/docs/index.html $(srcdir)/%D%/web/docs/docs.js web/docs && touch $@
endif

sbin_PROGRAMS += %D%/onelipd
%C%_onelipd_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_onelipd_SOURCES = %D%/main.c
%C%_onelipd_LDADD = %D%/libserver.la $(SERVER_LIBS)
dist_man_MANS += %D%/onelipd.8
