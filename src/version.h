/* What configure says of this version, also where a file is looked at without it. */
#ifndef VERSION_H
#define VERSION_H

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#endif
