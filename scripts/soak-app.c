/* soak-app FILE: an app for scripts/soak. Serves at descriptor 3 (sd_listen_fds(3)): each connection gets a
   line with the time at which this process started, in nanoseconds, and what FILE holds now, or the error
   number of reading it.
   Says that it is ready, and gives a heartbeat twice a second (sd_notify(3)). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LISTENER 3
#define BEAT_MS 500

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int notify_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = getenv("NOTIFY_SOCKET");
    size_t length = name ? strlen(name) : 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || length == 0 || length >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, name, length);
    address.sun_path[0] = 0;
    length += offsetof(struct sockaddr_un, sun_path);
    return connect(fd, (struct sockaddr *)&address, length) ? -1 : fd;
}

static void answer(int client, const char *path, long long started)
{
    char line[128], text[32] = "";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length < 0)
        snprintf(text, sizeof text, "error %d", errno);
    if (file >= 0)
        close(file);
    text[strcspn(text, "\n")] = 0;
    length = snprintf(line, sizeof line, "%lld %s\n", started, text);
    send(client, line, length, MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
    long long started = now_ns(), beaten = started;
    int notify = notify_socket();
    struct pollfd listener = {.fd = LISTENER, .events = POLLIN};
    if (argc != 2 || notify < 0)
        return 64;
    send(notify, "READY=1\nWATCHDOG=1", 18, 0);
    for (;;) {
        if (poll(&listener, 1, BEAT_MS) > 0) {
            int client = accept4(LISTENER, NULL, NULL, SOCK_CLOEXEC);
            if (client >= 0) {
                answer(client, argv[1], started);
                close(client);
            }
        }
        if (now_ns() - beaten >= BEAT_MS * 1000000LL) {
            send(notify, "WATCHDOG=1", 10, 0);
            beaten = now_ns();
        }
    }
}
