/* Manifests and indexes by their content: `mediaType` where it is said, else the shape of the
 * document. What is neither is a blob to us, configs (JSON, too) included. */
#include "media.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char oci_manifest[] = "application/vnd.oci.image.manifest.v1+json";
static const char docker_signed[] = "application/vnd.docker.distribution.manifest.v1+prettyjws";
static const char oci_index[] = "application/vnd.oci.image.index.v1+json";

/* image-spec media-types.md, and Docker's image manifest specifications. */
static const char *const known[] = {
    oci_manifest,
    oci_index,
    "application/vnd.oci.artifact.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+json",
    docker_signed,
};

bool
media_is_signed(const char *type)
{
	size_t n = strcspn(type, "; \t");

	return n == strlen(docker_signed) && strncmp(type, docker_signed, n) == 0;
}

/* NULL: it has none that is a manifest's. */
static const char *
said(const json_t *document)
{
	const char *type = json_string_value(json_object_get(document, "mediaType"));

	for (size_t i = 0; type != NULL && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], type) == 0)
			return known[i];
	return NULL;
}

/* Docker's schema 1 never says its type; a signed one is another. */
static const char *
shape_of_schema_1(const json_t *document)
{
	if (!json_is_array(json_object_get(document, "fsLayers")))
		return NULL;
	return json_is_array(json_object_get(document, "signatures")) ? known[6] : known[5];
}

static const char *
shape_of_schema_2(const json_t *document)
{
	if (json_is_array(json_object_get(document, "manifests")))
		return oci_index;
	if (json_is_object(json_object_get(document, "config")) &&
	    json_is_array(json_object_get(document, "layers")))
		return oci_manifest;
	return NULL;
}

static const char *
type_of(const json_t *document)
{
	const char *type = said(document);

	if (type != NULL)
		return type;
	switch (json_integer_value(json_object_get(document, "schemaVersion"))) {
	case 1:
		return shape_of_schema_1(document);
	case 2:
		return shape_of_schema_2(document);
	default:
		return NULL;
	}
}

bool
media_of_manifest(const char *text, size_t n, char out[MEDIA_TYPE_SIZE])
{
	json_t *document = n <= MEDIA_DOCUMENT_MAX ? json_loadb(text, n, 0, NULL) : NULL;
	const char *type = type_of(document);

	snprintf(out, MEDIA_TYPE_SIZE, "%s", type != NULL ? type : "");
	json_decref(document);
	return type != NULL;
}

struct naming {
	void (*each)(const char *digest, size_t n, void *arg);
	void *arg;
	unsigned left;
};

static void
name_one(struct naming *to, const json_t *digest)
{
	if (!json_is_string(digest) || to->left == 0)
		return;
	to->left--;
	to->each(json_string_value(digest), json_string_length(digest), to->arg);
}

static void
name_all(struct naming *to, const json_t *list, const char *key)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		name_one(to, json_object_get(json_array_get(list, i), key));
}

void
media_each_digest(
    const char *text, size_t n, void (*each)(const char *digest, size_t n, void *arg), void *arg)
{
	json_t *document = n <= MEDIA_DOCUMENT_MAX ? json_loadb(text, n, 0, NULL) : NULL;
	struct naming to = {each, arg, MEDIA_DESCRIPTORS_MAX};

	name_one(&to, json_object_get(json_object_get(document, "config"), "digest"));
	name_all(&to, json_object_get(document, "layers"), "digest");
	name_all(&to, json_object_get(document, "manifests"), "digest");
	name_all(&to, json_object_get(document, "fsLayers"), "blobSum");
	json_decref(document);
}
