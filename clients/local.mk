# onelip: the command line.
bin_PROGRAMS += %D%/cli/onelip
%C%_cli_onelip_SOURCES = %D%/cli/onelip.c %D%/cli/http.c %D%/cli/http.h %D%/cli/idx.c %D%/cli/idx.h
%C%_cli_onelip_CPPFLAGS = $(PUBLIC_CPPFLAGS) $(JANSSON_CFLAGS) $(CURL_CFLAGS) $(ZLIB_CFLAGS)
%C%_cli_onelip_LDADD = lib/libonelip.la $(JANSSON_LIBS) $(CURL_LIBS) $(ZLIB_LIBS)
dist_man_MANS += %D%/cli/onelip.1
