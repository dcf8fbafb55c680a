#!/bin/bash
# What lintian and rpmlint say.
. /test/inside.sh
cd /test/packages || exit
lintian --allow-root --fail-on error ./*.deb || die "lintian"

# The names in an rpm made by nfpm are absolute, and an rpmlint of Debian 12 would unpack
# the files there instead of where it looks for them.
printf '#!/bin/sh\nexec /usr/bin/cpio --no-absolute-filenames "$@"\n' >/usr/local/bin/cpio
chmod +x /usr/local/bin/cpio
rpmlint --config /test/rpmlint.toml ./*.rpm || die "rpmlint"
