# onelip: the command line.
bin_PROGRAMS += %D%/cli/onelip
%C%_cli_onelip_SOURCES = %D%/cli/onelip.c %D%/cli/cli.h %D%/cli/bounds.c %D%/cli/data.c %D%/cli/job.c \
	%D%/cli/http.c %D%/cli/http.h %D%/cli/idx.c %D%/cli/idx.h
%C%_cli_onelip_CPPFLAGS = $(PUBLIC_CPPFLAGS) $(JANSSON_CFLAGS) $(CURL_CFLAGS) $(ZLIB_CFLAGS)
%C%_cli_onelip_LDADD = lib/libonelip.la $(JANSSON_LIBS) $(CURL_LIBS) $(ZLIB_LIBS)
dist_man_MANS += %D%/cli/onelip.1

# onelip-bench: the load generator.
bin_PROGRAMS += %D%/bench/onelip-bench
%C%_bench_onelip_bench_SOURCES = %D%/bench/bench.c %D%/bench/load.c %D%/bench/load.h %D%/bench/wire.c %D%/bench/wire.h \
	%D%/bench/histogram.c %D%/bench/histogram.h
%C%_bench_onelip_bench_CPPFLAGS = -include config.h $(JANSSON_CFLAGS)
%C%_bench_onelip_bench_LDADD = $(JANSSON_LIBS) -lm
dist_man_MANS += %D%/bench/onelip-bench.1
