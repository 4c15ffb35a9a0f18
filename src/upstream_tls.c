/* Whom we trust: one certificate store a process, given to every TLS connection, so that none
 * parses a bundle again. The system's certificates join it when the first TLS connection is made:
 * from the hashed folder one by one as they are needed (a bundle costs more than a megabyte), from
 * the bundle where there is no such folder.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include "log.h"
#include "upstream_private.h"

/* The first error is the one that says most. */
static const char *
why(void)
{
	unsigned long e = ERR_peek_error();
	const char *text =
	    ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);

	return text == NULL ? "no certificate in it" : text;
}

static bool
add_file(X509_STORE *store, const char *ca_path)
{
	ERR_clear_error();
	if (ca_path == NULL || X509_STORE_load_file(store, ca_path) == 1)
		return true;
	log_error("cannot read CA certificates from %s: %s", ca_path, why());
	ERR_clear_error();
	return false;
}

X509_STORE *
trust_new(const char *ca_path, const char *more_ca_path)
{
	X509_STORE *store = X509_STORE_new();

	if (store == NULL)
		panic("cannot make a certificate store");
	if (add_file(store, ca_path) && add_file(store, more_ca_path))
		return store;
	X509_STORE_free(store);
	return NULL;
}

/* "5ed36f99.0": what c_rehash leaves for each certificate. */
static bool
is_hash_name(const char *name)
{
	for (int i = 0; i < 8; i++)
		if (!isxdigit((unsigned char)name[i]))
			return false;
	return name[8] == '.' && isdigit((unsigned char)name[9]);
}

static bool
is_hashed_folder(const char *path)
{
	DIR *dir = path == NULL ? NULL : opendir(path);
	struct dirent *e;
	bool found = false;

	if (dir == NULL)
		return false;
	while (!found && (e = readdir(dir)) != NULL)
		found = is_hash_name(e->d_name);
	closedir(dir);
	return found;
}

/* SSL_CERT_DIR and SSL_CERT_FILE, as everywhere with OpenSSL; else what libcurl was built for;
 * else OpenSSL's. */
static void
add_system(X509_STORE *store)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	const char *file = getenv(X509_get_default_cert_file_env());
	const char *folder = getenv(X509_get_default_cert_dir_env());
	int ok = 0;

	if (file == NULL && folder == NULL) {
		folder = v->capath;
		file = is_hashed_folder(folder) ? NULL : v->cainfo;
	}
	if (file != NULL)
		ok |= X509_STORE_load_file(store, file);
	if (is_hashed_folder(folder))
		ok |= X509_STORE_load_path(store, folder);
	if (!ok && X509_STORE_set_default_paths(store) != 1)
		log_warn("cannot load the system's CA certificates");
	ERR_clear_error();
}

CURLcode
trust_apply(CURL *easy, void *ssl_ctx, void *arg)
{
	struct upstream *u = arg;

	(void)easy;
	if (!u->trust_system)
		add_system(u->trust);
	u->trust_system = true;
	if (X509_STORE_up_ref(u->trust) != 1)
		return CURLE_SSL_CACERT_BADFILE;
	SSL_CTX_set_cert_store(ssl_ctx, u->trust);
	return CURLE_OK;
}
