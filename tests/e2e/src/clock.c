/* Moves the time of a program that is started with this in $LD_PRELOAD by $CLOCK_AHEAD seconds. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    const char *ahead = getenv("CLOCK_AHEAD");
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (failed == 0 && clock == CLOCK_REALTIME && ahead != NULL)
        now->tv_sec += atol(ahead);
    return (int)failed;
}
