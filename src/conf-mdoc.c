/* Prints the list of options for the manual page. Used by the build only; the work is conf's. */
#include <stdio.h>

#include "conf.h"

int
main(void)
{
	conf_print_mdoc(stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
