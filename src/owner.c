/* Whose a store is. */
#include "owner.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool
owner_become(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		fprintf(stderr, "dataPath %s: %s\n", path, strerror(errno));
		return false;
	}
	if (geteuid() != 0 || st.st_uid == 0)
		return true;
	if (setgroups(0, NULL) == 0 && setegid(st.st_gid) == 0 && seteuid(st.st_uid) == 0)
		return true;
	fprintf(stderr, "cannot become the owner of %s: %s\n", path, strerror(errno));
	return false;
}
