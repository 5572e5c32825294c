/*
 * Between a program and its files, by LD_PRELOAD: counts what it does to files below some roots, in one order over all
 * its threads, and fails or records it. What SQLite and libuv do goes through these functions of libc.
 *
 *   NEXUS_SHIM_ROOTS  absolute real paths, joined by ":"; what lies elsewhere is left alone
 *   NEXUS_SHIM_LOG    where each operation is recorded, in order; outside of the roots, appended to
 *   NEXUS_SHIM_DATA   1: what is written is recorded too, and what is said to sockets and pipes (the first 4 KiB);
 *                     without it, the operations that count, done or not
 *   NEXUS_SHIM_READS  1: opens and reads count as well
 *   NEXUS_SHIM_AT     the operation (from 1), or the first after it that can fail so, that
 *   NEXUS_SHIM_DO     an errno; "late" and an errno (done, and yet failed); "short" (half is written); "torn" (half,
 *                     then ENOSPC); "before" or "after" (killed)
 *   NEXUS_SHIM_ON     1: each further one as well
 *
 * A record is a line, fields divided by tabs: number (0 where it is not counted), kind, inode, offset, bytes that
 * follow the line, path, second path. "hit" follows what was failed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 65536
#define MOST_SAID 4096
#define REAL(name, type) ((type)real(#name))

enum kind { OPEN, READ, CREATE, WRITE, TRUNC, SYNC, RENAME, LINK, UNLINK, MKDIR, RMDIR, CHMOD, SAY };
static const char *const names[] = {"open", "read", "create", "write", "trunc", "sync", "rename",
                                    "link", "unlink", "mkdir", "rmdir", "chmod", "say"};
enum what { NOTHING, FAIL, LATE, SHORT, TORN, BEFORE, AFTER };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *roots, *paths[MOST_FILES];
static ino_t inodes[MOST_FILES];
static int log_fd = -1, with_data, with_reads, from_then_on, error_number, torn_fd = -1, was_hit;
static long counted, at;
static enum what what;

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) abort();
  return found;
}

static int is_set(const char *name) {
  const char *value = getenv(name);
  return value != NULL && strcmp(value, "1") == 0;
}

__attribute__((constructor)) static void begin(void) {
  roots = getenv("NEXUS_SHIM_ROOTS");
  with_data = is_set("NEXUS_SHIM_DATA");
  with_reads = is_set("NEXUS_SHIM_READS");
  from_then_on = is_set("NEXUS_SHIM_ON");
  const char *log = getenv("NEXUS_SHIM_LOG"), *n = getenv("NEXUS_SHIM_AT"), *how = getenv("NEXUS_SHIM_DO");
  if (log != NULL) {
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* High, so that it is in no program's way. */
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, fd);
    if (log_fd < 0) abort();
  }
  if (n == NULL || how == NULL) return;
  at = atol(n);
  if (strcmp(how, "short") == 0) what = SHORT;
  else if (strcmp(how, "torn") == 0) what = TORN;
  else if (strcmp(how, "before") == 0) what = BEFORE;
  else if (strcmp(how, "after") == 0) what = AFTER;
  else if (strncmp(how, "late", 4) == 0) what = LATE, error_number = atoi(how + 4);
  else what = FAIL, error_number = atoi(how);
}

/* ---- which file ---- */

static int is_below(const char *path) {
  for (const char *root = roots; root != NULL && *root != '\0';) {
    size_t length = strcspn(root, ":");
    if (strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0')) return 1;
    root += length + (root[length] == ':');
  }
  return 0;
}

/* The real path of a name below the roots; 0 for what lies elsewhere. */
static int found(int directory, const char *path, char *out) {
  char parent[PATH_MAX], absolute[PATH_MAX * 2];
  int kept = errno, is = 0;
  if (roots == NULL || path == NULL) return 0;
  if (path[0] == '/') {
    if (!is_below(path) && strncmp(path, "/proc/self/fd/", 14) != 0) return 0;
    snprintf(absolute, sizeof absolute, "%s", path);
  } else {
    char at_directory[PATH_MAX] = "/proc/self/cwd";
    if (directory != AT_FDCWD) snprintf(at_directory, sizeof at_directory, "/proc/self/fd/%d", directory);
    snprintf(absolute, sizeof absolute, "%s/%s", at_directory, path);
  }
  char *slash = strrchr(absolute, '/');
  if (slash != NULL && slash != absolute) {
    *slash = '\0';
    if (realpath(absolute, parent) != NULL) {
      snprintf(out, PATH_MAX, "%.*s/%s", PATH_MAX - 300, parent, slash + 1);
      is = is_below(out);
    }
  }
  errno = kept;
  return is;
}

/* The path that this descriptor was opened by, where it still is that file. */
static const char *path_of(int fd) {
  struct stat stat;
  if (fd < 0 || fd >= MOST_FILES || paths[fd] == NULL) return NULL;
  int kept = errno;
  /* libuv may have closed it by a system call of its own. */
  if (fstat(fd, &stat) != 0 || stat.st_ino != inodes[fd]) {
    free(paths[fd]);
    paths[fd] = NULL;
  }
  errno = kept;
  return paths[fd];
}

static ino_t inode_at(const char *path) {
  struct stat stat;
  int kept = errno;
  ino_t inode = lstat(path, &stat) == 0 ? stat.st_ino : 0;
  errno = kept;
  return inode;
}

/* ---- the record ---- */

static void put(const void *bytes, size_t length) {
  for (const char *from = bytes; length > 0;) {
    ssize_t written = syscall(SYS_write, log_fd, from, length);
    if (written <= 0) abort();
    from += written;
    length -= written;
  }
}

static void note(long n, const char *kind, ino_t inode, long offset, const void *data, size_t length,
                 const char *path, const char *other) {
  char line[PATH_MAX * 2 + 200];
  if (log_fd < 0) return;
  int kept = errno;
  int size = snprintf(line, sizeof line, "%ld\t%s\t%lu\t%ld\t%zu\t%s\t%s\n", n, kind, (unsigned long)inode, offset,
                      length, path == NULL ? "" : path, other == NULL ? "" : other);
  put(line, size);
  if (length > 0) put(data, length);
  errno = kept;
}

/* What was done, for who rebuilds it. */
static void did(enum kind kind, ino_t inode, long offset, const void *data, size_t length, const char *path,
                const char *other) {
  if (with_data) note(counted, names[kind], inode, offset, data, length, path, other);
}

/* ---- the failure ---- */

static int fits(enum kind kind) {
  int changes = kind != OPEN && kind != READ && kind != SAY;
  int is_name = kind == CREATE || kind == RENAME || kind == LINK || kind == UNLINK || kind == MKDIR || kind == RMDIR;
  switch (what) {
    case NOTHING: return 0;
    case BEFORE: case AFTER: return changes;
    case SHORT: case TORN: return kind == WRITE;
    case LATE: return is_name;
    case FAIL: break;
  }
  if (error_number == ENOSPC)
    return kind == CREATE || kind == WRITE || kind == RENAME || kind == LINK || kind == MKDIR;
  if (error_number == EACCES) return is_name || kind == OPEN || kind == CHMOD;
  return 1;
}

/* Counts one, and says what becomes of it. Under the lock. */
static enum what next(enum kind kind, int fd, const char *path) {
  if (fd >= 0 && fd == torn_fd && kind == WRITE) {
    torn_fd = -1;
    errno = ENOSPC;
    return FAIL;
  }
  if ((kind == OPEN || kind == READ) && !with_reads) return NOTHING;
  counted++;
  /* Also of what then does nothing, as a directory that is there. */
  if (!with_data) note(counted, names[kind], 0, 0, NULL, 0, path, NULL);
  if (at == 0 || counted < at || (was_hit && !from_then_on) || !fits(kind)) return NOTHING;
  if (!was_hit) note(counted, "hit", 0, 0, NULL, 0, names[kind], path);
  was_hit = 1;
  if (what == BEFORE) kill(getpid(), SIGKILL);
  if (what == TORN) torn_fd = fd;
  errno = error_number;
  return what;
}

static void done(enum what this) {
  if (this == AFTER) kill(getpid(), SIGKILL);
}

/* ---- opening and closing ---- */

static int opened(int directory, const char *path, int flags, mode_t mode) {
  char at_path[PATH_MAX];
  if (!found(directory, path, at_path)) return syscall(SYS_openat, directory, path, flags, mode);
  pthread_mutex_lock(&lock);
  ino_t before = inode_at(at_path);
  enum kind kind = (flags & O_CREAT) && before == 0 ? CREATE : OPEN;
  enum what this = next(kind, -1, at_path);
  int fd = -1;
  if (this != FAIL) {
    fd = syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 && fd < MOST_FILES) {
      struct stat stat;
      free(paths[fd]);
      paths[fd] = NULL;
      if (fstat(fd, &stat) == 0 && (S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode))) {
        paths[fd] = strdup(at_path);
        inodes[fd] = stat.st_ino;
        if (kind == CREATE) did(CREATE, stat.st_ino, 0, NULL, 0, at_path, NULL);
        else if ((flags & O_TRUNC) && S_ISREG(stat.st_mode)) did(TRUNC, stat.st_ino, 0, NULL, 0, at_path, NULL);
      }
    }
    if (this == LATE && fd >= 0) {
      syscall(SYS_close, fd);
      fd = -1;
      errno = error_number;
    }
    done(this);
  }
  pthread_mutex_unlock(&lock);
  return fd;
}

#define MODE_OF(flags)                                 \
  mode_t mode = 0;                                     \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {             \
    va_list rest;                                      \
    va_start(rest, flags);                             \
    mode = va_arg(rest, mode_t);                       \
    va_end(rest);                                      \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened(directory, path, flags, mode);
}
int openat64(int directory, const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened(directory, path, flags, mode);
}

int close(int fd) {
  if (fd == log_fd && fd >= 0) return 0;
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < MOST_FILES && paths[fd] != NULL) {
    free(paths[fd]);
    paths[fd] = NULL;
  }
  pthread_mutex_unlock(&lock);
  return REAL(close, int (*)(int))(fd);
}

/* ---- bytes ---- */

static size_t length_of(const struct iovec *pieces, int count) {
  size_t length = 0;
  for (int piece = 0; piece < count; piece++) length += pieces[piece].iov_len;
  return length;
}

static char *joined(const struct iovec *pieces, int count, size_t most) {
  char *bytes = malloc(most == 0 ? 1 : most);
  size_t used = 0;
  if (bytes == NULL) abort();
  for (int piece = 0; piece < count && used < most; piece++) {
    size_t length = pieces[piece].iov_len < most - used ? pieces[piece].iov_len : most - used;
    memcpy(bytes + used, pieces[piece].iov_base, length);
    used += length;
  }
  return bytes;
}

/* What is said to the outside, in the order in which it was said. Under the lock. */
static void said(int fd, const struct iovec *pieces, int count) {
  struct stat stat;
  int kept = errno;
  if (log_fd >= 0 && with_data && fstat(fd, &stat) == 0 && (S_ISSOCK(stat.st_mode) || S_ISFIFO(stat.st_mode))) {
    size_t length = length_of(pieces, count);
    if (length > MOST_SAID) length = MOST_SAID;
    char *bytes = joined(pieces, count, length);
    did(SAY, 0, fd, bytes, length, NULL, NULL);
    free(bytes);
  }
  errno = kept;
}

/* At `offset`, or where the descriptor stands for one below 0. */
static ssize_t written(int fd, const struct iovec *pieces, int count, off_t offset) {
  pthread_mutex_lock(&lock);
  const char *path = path_of(fd);
  ssize_t result;
  if (path == NULL) {
    said(fd, pieces, count);
    pthread_mutex_unlock(&lock);
    return offset < 0 ? syscall(SYS_writev, fd, pieces, count)
                      : syscall(SYS_pwritev, fd, pieces, count, (long)offset, 0L);
  }
  enum what this = next(WRITE, fd, path);
  if (this == FAIL) result = -1;
  else {
    int flags = fcntl(fd, F_GETFL);
    struct stat stat;
    off_t begins = offset;
    if (flags >= 0 && (flags & O_APPEND) && fstat(fd, &stat) == 0) begins = stat.st_size;
    else if (offset < 0) begins = lseek(fd, 0, SEEK_CUR);
    size_t length = length_of(pieces, count);
    if ((this == SHORT || this == TORN) && length > 1) length /= 2;
    char *bytes = joined(pieces, count, length);
    struct iovec one = {bytes, length};
    result = offset < 0 ? syscall(SYS_writev, fd, &one, 1) : syscall(SYS_pwritev, fd, &one, 1, (long)offset, 0L);
    if (result > 0) did(WRITE, inodes[fd], begins, bytes, result, path, NULL);
    free(bytes);
    done(this);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  struct iovec one = {(void *)bytes, length};
  return written(fd, &one, 1, -1);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  struct iovec one = {(void *)bytes, length};
  return written(fd, &one, 1, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) { return pwrite(fd, bytes, length, offset); }
ssize_t writev(int fd, const struct iovec *pieces, int count) { return written(fd, pieces, count, -1); }
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) {
  return written(fd, pieces, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset) {
  return written(fd, pieces, count, offset);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  pthread_mutex_lock(&lock);
  said(fd, message->msg_iov, message->msg_iovlen);
  pthread_mutex_unlock(&lock);
  return syscall(SYS_sendmsg, fd, message, flags);
}

static ssize_t was_read(int fd, const struct iovec *pieces, int count, off_t offset) {
  if (with_reads && fd >= 0 && fd < MOST_FILES && paths[fd] != NULL) {
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd);
    enum what this = path == NULL ? NOTHING : next(READ, -1, path);
    pthread_mutex_unlock(&lock);
    if (this == FAIL) return -1;
  }
  return offset < 0 ? syscall(SYS_readv, fd, pieces, count)
                    : syscall(SYS_preadv, fd, pieces, count, (long)offset, 0L);
}

ssize_t read(int fd, void *bytes, size_t length) {
  struct iovec one = {bytes, length};
  return was_read(fd, &one, 1, -1);
}
ssize_t pread(int fd, void *bytes, size_t length, off_t offset) {
  struct iovec one = {bytes, length};
  return was_read(fd, &one, 1, offset);
}
ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) { return pread(fd, bytes, length, offset); }
ssize_t readv(int fd, const struct iovec *pieces, int count) { return was_read(fd, pieces, count, -1); }
ssize_t preadv(int fd, const struct iovec *pieces, int count, off_t offset) { return was_read(fd, pieces, count, offset); }
ssize_t preadv64(int fd, const struct iovec *pieces, int count, off64_t offset) {
  return was_read(fd, pieces, count, offset);
}

/* ---- what has a descriptor ---- */

/* Runs `call` for a descriptor, counted where it is a file's of ours. */
#define ON_FILE(kind, offset, call)                                                    \
  pthread_mutex_lock(&lock);                                                                 \
  const char *path = path_of(fd);                                                            \
  enum what this = path == NULL ? NOTHING : next(kind, -1, path);                            \
  int result = this == FAIL ? -1 : (call);                                                   \
  if (path != NULL && result == 0) did(kind, inodes[fd], offset, NULL, 0, path, NULL); \
  if (this != FAIL) done(this);                                                              \
  pthread_mutex_unlock(&lock);                                                               \
  return result;

/* No power is cut for real, so nothing below the roots is synced for real: it would only take its time. */
int fsync(int fd) { ON_FILE(SYNC, 0, path == NULL ? syscall(SYS_fsync, fd) : 0) }
int fdatasync(int fd) { ON_FILE(SYNC, 0, path == NULL ? syscall(SYS_fdatasync, fd) : 0) }
int ftruncate(int fd, off_t length) { ON_FILE(TRUNC, length, syscall(SYS_ftruncate, fd, length)) }
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }
int fchmod(int fd, mode_t mode) { ON_FILE(CHMOD, mode, syscall(SYS_fchmod, fd, mode)) }

/* ---- names ---- */

/* As ON_FILE, for a name; its inode is the one that it has afterwards, or had. */
#define ON_NAME(kind, directory, given, call)                                          \
  char path[PATH_MAX];                                                                       \
  if (!found(directory, given, path)) return call;                                           \
  pthread_mutex_lock(&lock);                                                                 \
  ino_t inode = inode_at(path);                                                              \
  enum what this = next(kind, -1, path);                                                     \
  int result = this == FAIL ? -1 : (call);                                                   \
  if (result == 0) did(kind, inode == 0 ? inode_at(path) : inode, 0, NULL, 0, path, NULL); \
  if (result == 0 && this == LATE) result = -1, errno = error_number;                        \
  if (this != FAIL) done(this);                                                              \
  pthread_mutex_unlock(&lock);                                                               \
  return result;

int unlinkat(int directory, const char *given, int flags) {
  ON_NAME(flags & AT_REMOVEDIR ? RMDIR : UNLINK, directory, given,
          syscall(SYS_unlinkat, directory, given, flags))
}
int unlink(const char *given) { return unlinkat(AT_FDCWD, given, 0); }
int rmdir(const char *given) { return unlinkat(AT_FDCWD, given, AT_REMOVEDIR); }
int mkdir(const char *given, mode_t mode) {
  ON_NAME(MKDIR, AT_FDCWD, given, syscall(SYS_mkdirat, AT_FDCWD, given, mode))
}
int chmod(const char *given, mode_t mode) {
  ON_NAME(CHMOD, AT_FDCWD, given, syscall(SYS_fchmodat, AT_FDCWD, given, mode))
}

/* As ON_NAME, for two of them. */
#define ON_NAMES(kind, one, given, two, other, call)                                   \
  char path[PATH_MAX], to[PATH_MAX];                                                         \
  if (!found(one, given, path) || !found(two, other, to)) return call;                       \
  pthread_mutex_lock(&lock);                                                                 \
  ino_t inode = inode_at(path);                                                              \
  enum what this = next(kind, -1, path);                                                     \
  int result = this == FAIL ? -1 : (call);                                                   \
  if (result == 0) did(kind, inode, 0, NULL, 0, path, to);                                   \
  if (result == 0 && this == LATE) result = -1, errno = error_number;                        \
  if (this != FAIL) done(this);                                                              \
  pthread_mutex_unlock(&lock);                                                               \
  return result;

int renameat2(int one, const char *given, int two, const char *other, unsigned flags) {
  ON_NAMES(RENAME, one, given, two, other, syscall(SYS_renameat2, one, given, two, other, flags))
}
int renameat(int one, const char *given, int two, const char *other) { return renameat2(one, given, two, other, 0); }
int rename(const char *given, const char *other) { return renameat2(AT_FDCWD, given, AT_FDCWD, other, 0); }
int linkat(int one, const char *given, int two, const char *other, int flags) {
  ON_NAMES(LINK, one, given, two, other, syscall(SYS_linkat, one, given, two, other, flags))
}
int link(const char *given, const char *other) { return linkat(AT_FDCWD, given, AT_FDCWD, other, 0); }
