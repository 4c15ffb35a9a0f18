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

/* A signed manifest of Docker's schema 1? `type` is a Content-Type, with parameters or without. Its digest is not that of its bytes, but of what was signed (the payload
 * without its signatures: manifest/schema1 of distribution), so the cache cannot check it. */
bool media_is_signed(const char *type);

/* Calls `each` for the digest of every descriptor that a manifest or an index names (config, layers,
 * manifests), as it is written there; for schema 1, its blobs. At most MEDIA_DESCRIPTORS_MAX of
 * them. */
enum { MEDIA_DESCRIPTORS_MAX = 1024 };
void media_each_digest(
    const char *text, size_t n, void (*each)(const char *digest, size_t n, void *arg), void *arg);

#endif
