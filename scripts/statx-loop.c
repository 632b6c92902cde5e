/* statx-loop DIRECTORY MILLISECONDS: asks the filesystem of a directory for ever, once in that time, whether
   it answers: one statx(2) that the attribute cache does not answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* musl has no struct statx before 1.2.4; what is in it does not matter here. */
#define STATX_MODE 2
#define STATX_SIZE 256

int main(int argc, char **argv)
{
    const int flags = AT_STATX_FORCE_SYNC | AT_NO_AUTOMOUNT;
    char status[STATX_SIZE];
    struct timespec pause;
    long milliseconds = argc == 3 ? atol(argv[2]) : 0;
    if (milliseconds <= 0)
        return 64;
    pause.tv_sec = milliseconds / 1000;
    pause.tv_nsec = milliseconds % 1000 * 1000000;
    for (;;) {
        if (syscall(SYS_statx, AT_FDCWD, argv[1], flags, STATX_MODE, status) != 0) {
            fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
            return 1;
        }
        nanosleep(&pause, NULL);
    }
}
