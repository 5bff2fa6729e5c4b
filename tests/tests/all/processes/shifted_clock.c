/* A system clock that is ahead by REKEY_TEST_CLOCK_AHEAD seconds, for a process that has this preloaded. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = syscall(SYS_clock_gettime, clock, time);
  const char *ahead = getenv("REKEY_TEST_CLOCK_AHEAD");
  if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    time->tv_sec += atol(ahead);
  return failed;
}
