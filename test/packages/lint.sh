#!/bin/bash
# What lintian and rpmlint say, but for what is not wrong with these packages.
. /test/inside.sh
cd /test/packages || exit
# Debian's own packages close a bug at first. nfpm writes the licence into the control file, too.
# The window's C code, which takes minutes, is compiled once for all builds (see the Makefile).
lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs,unknown-field,hardening-no-pie ./*.deb ||
	die "lintian"

# The names in an rpm made by nfpm are absolute, and an rpmlint of Debian 12 would unpack
# the files there instead of where it looks for them.
printf '#!/bin/sh\nexec /usr/bin/cpio --no-absolute-filenames "$@"\n' >/usr/local/bin/cpio
chmod +x /usr/local/bin/cpio
rpmlint --strict --config /test/rpmlint.toml ./*.rpm || die "rpmlint"
