/* The clocks, each named for what it is good for. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* Milliseconds on CLOCK_BOOTTIME: the same in every process, never steps back, goes on in
 * suspend. */
uint64_t clock_ms(void);
/* Microseconds on the same clock. */
uint64_t clock_us(void);
/* Seconds since 1970 (CLOCK_REALTIME): for records that outlive a boot. */
int64_t clock_wall(void);
/* The same in milliseconds. */
int64_t clock_wall_ms(void);

#endif
