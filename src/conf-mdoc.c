/* Prints the lists of the manual pages that come from tables: the options, or with the argument
 * "metrics" the metrics. Used by the build only. */
#include <stdio.h>
#include <string.h>

#include "conf.h"
#include "metrics.h"

static void
print_metrics(FILE *out)
{
	const struct metrics_family *f;
	const char *labels;
	char name[METRICS_NAME_SIZE];

	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; (f = metrics_describe(i, &labels)) != NULL; i++) {
		fprintf(out, ".It Cm %s\n", metrics_full_name(f, name));
		conf_put_mdoc(f->help, out);
		if (labels != NULL)
			fprintf(out, "By %s.\n", labels);
	}
	fputs(".El\n", out);
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "metrics") == 0)
		print_metrics(stdout);
	else
		conf_print_mdoc(stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
