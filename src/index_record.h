/* How records are written in the index: a version byte, then the fields in order, integers
 * little-endian. No LMDB here. */
#ifndef INDEX_RECORD_H
#define INDEX_RECORD_H

#include "index.h"

enum { INDEX_RECORD_MAX = 32 + INDEX_MEDIA_TYPE_SIZE };

/* Each encoder returns how many bytes of `out` it used. Each decoder is false for an unknown
 * version, a record that is too short and a value that cannot be; *out is zeroed then. */
size_t index_record_encode_object(const struct index_object *o, uint8_t out[INDEX_RECORD_MAX]);
bool index_record_decode_object(const void *data, size_t len, struct index_object *out);

size_t index_record_encode_lease(const struct index_lease *l, uint8_t out[INDEX_RECORD_MAX]);
bool index_record_decode_lease(const void *data, size_t len, struct index_lease *out);

size_t index_record_encode_name(
    const struct digest *d, int64_t seen_at, uint8_t out[INDEX_RECORD_MAX]);
bool index_record_decode_name(const void *data, size_t len, struct digest *d, int64_t *seen_at);

#endif
