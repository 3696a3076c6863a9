# The unit of onelipd. Paths are known only to make, so make writes them.
EXTRA_DIST += %D%/onelipd.service.in
CLEANFILES += %D%/onelipd.service
if SYSTEMD_UNIT
nodist_systemdsystemunit_DATA = %D%/onelipd.service
endif

%D%/onelipd.service: %D%/onelipd.service.in
	@$(MKDIR_P) %D%
	$(AM_V_GEN)sed 's|@sbindir[@]|$(sbindir)|g' $(srcdir)/%D%/onelipd.service.in >$@.tmp && mv $@.tmp $@
