/* Runs a fuzz target over every file of the folders given: what a fuzzer once found stays tested
 * by any compiler, without a fuzzer. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input is in memory of exactly its size, so that a sanitizer sees a read beyond it. */
static bool
replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	long size;
	bool whole;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) {
		perror(path);
		if (f != NULL)
			fclose(f);
		return false;
	}
	rewind(f);
	data = xmalloc((size_t)size);
	whole = fread(data, 1, (size_t)size, f) == (size_t)size;
	fclose(f);
	if (whole)
		LLVMFuzzerTestOneInput(data, (size_t)size);
	else
		fprintf(stderr, "%s: cannot be read\n", path);
	free(data);
	return whole;
}

/* Returns how many files were replayed, -1 when something could not be read. */
static int
replay_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (dir == NULL) {
		perror(path);
		return -1;
	}
	while (count >= 0 && (entry = readdir(dir)) != NULL) {
		char *file;

		if (entry->d_name[0] == '.')
			continue;
		file = xasprintf("%s/%s", path, entry->d_name);
		count = replay_file(file) ? count + 1 : -1;
		free(file);
	}
	closedir(dir);
	return count;
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int count = replay_folder(argv[i]);

		if (count <= 0) {
			fprintf(stderr, "%s: %s\n", argv[i], count < 0 ? "failed" : "no inputs");
			return 1;
		}
		printf("%s: %d inputs replayed\n", argv[i], count);
	}
	return argc > 1 ? 0 : 2;
}
