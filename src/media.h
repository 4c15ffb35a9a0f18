/* What a stored document is, told from its content alone: for objects whose record was lost. */
#ifndef MEDIA_H
#define MEDIA_H

#include <stdbool.h>
#include <stddef.h>

enum {
	MEDIA_DOCUMENT_MAX = 4 << 20, /* bytes; distribution-spec: registries accept manifests of 4 MiB */
	MEDIA_TYPE_SIZE = 128,
};

/* Is `text` a manifest or an index? Then its media type is written: its `mediaType`, else what its
 * shape says (image-spec manifest.md and image-index.md; Docker's schema 1 has none). "" when not. */
bool media_of_manifest(const char *text, size_t n, char out[MEDIA_TYPE_SIZE])
    __attribute__((warn_unused_result));

#endif
