/* Records what a process does to files below $RECORD_ROOT, in order, into $RECORD_LOG. Loaded with LD_PRELOAD.

   A record is a line "operation descriptor a b size path_size other_size\n", then the path, the other path and the data:
     open fd created 0 0 path | write fd offset 0 data | truncate fd length | sync fd | close fd
     rename path other | unlink path | mkdir path | mark number
   It is written after the operation has succeeded. Opening a folder is recorded like opening a file. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_FD 4096
static char watched[MAX_FD];
static int log_fd = -1;
static const char *root;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    root = getenv("RECORD_ROOT");
    const char *path = getenv("RECORD_LOG");
    if (root && path) log_fd = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int below(const char *path) { return log_fd >= 0 && path && !strncmp(path, root, strlen(root)); }

static int known(int fd) { return log_fd >= 0 && fd >= 0 && fd < MAX_FD && watched[fd]; }

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t n = REAL(write)(log_fd, at, size);
        if (n <= 0) abort();
        at += n, size -= n;
    }
}

static void record(const char *op, int fd, long long a, long long b, const char *path, const char *other,
                   const void *data, size_t size) {
    char line[160];
    size_t p = path ? strlen(path) : 0, o = other ? strlen(other) : 0;
    put(line, snprintf(line, sizeof line, "%s %d %lld %lld %zu %zu %zu\n", op, fd, a, b, size, p, o));
    if (p) put(path, p);
    if (o) put(other, o);
    if (size) put(data, size);
}

void record_mark(int number) { record("mark", 0, number, 0, 0, 0, 0, 0); }

static int opened(int fd, const char *path, int flags, int existed) {
    if (fd >= MAX_FD) abort();
    if (fd >= 0) watched[fd] = below(path);
    if (fd >= 0 && watched[fd]) {
        record("open", fd, !existed, 0, path, 0, 0, 0);
        if (existed && (flags & O_TRUNC)) record("truncate", fd, 0, 0, 0, 0, 0, 0);
    }
    return fd;
}

#define OPEN(name)                                                    \
    int name(const char *path, int flags, ...) {                      \
        mode_t mode = 0;                                              \
        if (flags & (O_CREAT | __O_TMPFILE)) {                        \
            va_list rest;                                             \
            va_start(rest, flags);                                    \
            mode = va_arg(rest, mode_t);                              \
            va_end(rest);                                             \
        }                                                             \
        int existed = !access(path, F_OK);                            \
        return opened(REAL(name)(path, flags, mode), path, flags, existed); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                  \
    int name(int folder, const char *path, int flags, ...) {          \
        mode_t mode = 0;                                              \
        if (flags & (O_CREAT | __O_TMPFILE)) {                        \
            va_list rest;                                             \
            va_start(rest, flags);                                    \
            mode = va_arg(rest, mode_t);                              \
            va_end(rest);                                             \
        }                                                             \
        int existed = !access(path, F_OK);                            \
        return opened(REAL(name)(folder, path, flags, mode), path, flags, existed); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (known(fd)) record("close", fd, 0, 0, 0, 0, 0, 0), watched[fd] = 0;
    return REAL(close)(fd);
}

static ssize_t wrote(int fd, const void *data, ssize_t n, long long offset) {
    if (n > 0 && known(fd)) record("write", fd, offset, 0, 0, 0, data, n);
    return n;
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t n = REAL(write)(fd, data, size);
    return wrote(fd, data, n, known(fd) ? lseek(fd, 0, SEEK_CUR) - n : 0);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return wrote(fd, data, REAL(pwrite)(fd, data, size, offset), offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return wrote(fd, data, REAL(pwrite64)(fd, data, size, offset), offset);
}

#define AFTER(call, condition, ...)         \
    int result = call;                      \
    if (!result && (condition)) record(__VA_ARGS__); \
    return result

int ftruncate(int fd, off_t size) { AFTER(REAL(ftruncate)(fd, size), known(fd), "truncate", fd, size, 0, 0, 0, 0, 0); }
int ftruncate64(int fd, off64_t size) { AFTER(REAL(ftruncate64)(fd, size), known(fd), "truncate", fd, size, 0, 0, 0, 0, 0); }
int fsync(int fd) { AFTER(REAL(fsync)(fd), known(fd), "sync", fd, 0, 0, 0, 0, 0, 0); }
int fdatasync(int fd) { AFTER(REAL(fdatasync)(fd), known(fd), "sync", fd, 0, 0, 0, 0, 0, 0); }
int rename(const char *from, const char *to) { AFTER(REAL(rename)(from, to), below(from), "rename", 0, 0, 0, from, to, 0, 0); }
int unlink(const char *path) { AFTER(REAL(unlink)(path), below(path), "unlink", 0, 0, 0, path, 0, 0, 0); }
int mkdir(const char *path, mode_t mode) { AFTER(REAL(mkdir)(path, mode), below(path), "mkdir", 0, 0, 0, path, 0, 0, 0); }

int renameat(int a, const char *from, int b, const char *to) {
    AFTER(REAL(renameat)(a, from, b, to), below(from), "rename", 0, 0, 0, from, to, 0, 0);
}
int unlinkat(int folder, const char *path, int flags) {
    AFTER(REAL(unlinkat)(folder, path, flags), below(path), "unlink", 0, 0, 0, path, 0, 0, 0);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    AFTER(REAL(mkdirat)(folder, path, mode), below(path), "mkdir", 0, 0, 0, path, 0, 0, 0);
}
