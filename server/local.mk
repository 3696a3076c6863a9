# libserver.la: all of onelipd but main.c, so that its parts can have unit tests too.
SERVER_CPPFLAGS = $(PUBLIC_CPPFLAGS) -I$(top_srcdir)/%D% $(MHD_CFLAGS) $(GNUTLS_CFLAGS) $(JANSSON_CFLAGS) $(ZLIB_CFLAGS) \
	$(SYSTEMD_CFLAGS)
SERVER_LIBS = lib/libonelip.la $(MHD_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(ZLIB_LIBS) $(SYSTEMD_LIBS) -lm

noinst_LTLIBRARIES += %D%/libserver.la
%C%_libserver_la_CPPFLAGS = $(SERVER_CPPFLAGS)
%C%_libserver_la_SOURCES = \
	%D%/disk.c %D%/files.c %D%/head.c %D%/log.c %D%/metrics.c %D%/number.c %D%/recipe.c %D%/scheduler.c %D%/sha256.c \
	%D%/store.c

noinst_HEADERS += \
	%D%/ctx.h %D%/disk.h %D%/files.h %D%/http.h %D%/listen.h %D%/log.h %D%/metrics.def %D%/metrics.h %D%/number.h \
	%D%/router.h %D%/scheduler.h %D%/settings.h %D%/sha256.h %D%/store.h %D%/store_private.h

# onelipd itself, as soon as main.c is there:
#   sbin_PROGRAMS += %D%/onelipd
#   %C%_onelipd_CPPFLAGS = $(SERVER_CPPFLAGS)
#   %C%_onelipd_SOURCES = %D%/main.c
#   %C%_onelipd_LDADD = %D%/libserver.la $(SERVER_LIBS)
