/* spawn-time COMMAND...: runs it once, and writes how many nanoseconds passed from before posix_spawn to
   after waitpid, and its wait status. Its own start does not count. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

int main(int argc, char **argv, char **env)
{
    struct timespec began, ended;
    int error, status;
    pid_t pid;
    (void)argc;
    clock_gettime(CLOCK_MONOTONIC, &began);
    error = posix_spawnp(&pid, argv[1], NULL, NULL, argv + 1, env);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerror(error));
        return 1;
    }
    while (waitpid(pid, &status, 0) != pid)
        ;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%lld %d\n", (ended.tv_sec - began.tv_sec) * 1000000000LL + (ended.tv_nsec - began.tv_nsec),
           status);
    return 0;
}
