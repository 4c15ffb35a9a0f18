/* Tokens of registries that the cache has been given, for all listeners: each is asked for once. They are
 * in memory that no core dump has, and are overwritten when they are dropped, expire or make room.
 *
 * A key:   nothing    -> claimed by one listener, who asks; the others look again after a while
 *          claimed    -> a token, refused (for a while), or nothing again: its owner says, or has died,
 *                        or SHM_TOKEN_CLAIM_MS have passed
 *          a token    -> nothing, when it is dropped or has expired; from `renew` on one may claim the
 *                        key again while the token is still used */
#ifndef SHM_TOKEN_H
#define SHM_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

struct shm;

enum {
	SHM_TOKEN_KEY_BYTES = 16,
	SHM_TOKEN_SIZE = 12288, /* with its NUL; what is longer is not kept */
	SHM_TOKEN_CLAIM_MS = 30000,
};

enum shm_token_state {
	SHM_TOKEN_NONE,
	SHM_TOKEN_VALID,
	SHM_TOKEN_REFUSED, /* whoever gives it said no, a moment ago */
};

/* `now` is clock_ms(). `text` is written for VALID only; *renew: a new one may be asked for. */
enum shm_token_state shm_token_get(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES],
    uint64_t now, char text[SHM_TOKEN_SIZE], bool *renew);
/* True: this listener asks, and ends that by _put(), _refuse() or _release(), which keeps all from asking again
 * before `until` (0: at once). */
bool shm_token_claim(const struct shm *s, unsigned listener,
    const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t now) __attribute__((warn_unused_result));
void shm_token_put(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], const char *text,
    uint64_t renew, uint64_t expires);
void shm_token_refuse(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t until);
void shm_token_release(
    const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t until);
/* If it is still this one. */
void shm_token_drop(
    const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], const char *text);

#endif
