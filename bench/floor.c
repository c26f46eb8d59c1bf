/* The floor under a container start: the system calls that no runtime can leave out, and nothing else.
 *
 *   floor ROOTFS NAME PROGRAM [ARGS...]
 *
 * Does what `wharf-runtime run` does with the configuration that `wharf-runtime spec` writes: cgroup directories
 * with device rules, new pid, network (its loopback up), ipc, uts, mount and cgroup namespaces, the default mounts and
 * device nodes, read-only and masked paths, a read-only root, pivot_root, capabilities, execve, wait, removal of the
 * cgroups.
 * It parses no configuration, checks nothing that could only be wrong in a real one, keeps no state, protects no
 * binary and knows one container: what a runtime costs beyond it is the runtime's own.
 *
 * Exit code: the program's; 1 with the failed line on stderr otherwise. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX 16
#define MUST(call) must((long)(call), #call, __LINE__)

static long must(long result, const char *what, int line)
{
    if (result < 0) {
        fprintf(stderr, "floor.c:%d: %s: %s\n", line, what, strerror(errno));
        _exit(1);
    }
    return result;
}

/* The kernel's interface, which C libraries learn late. */
static int clone_tree(int at, const char *path, unsigned flags)
{
    return MUST(syscall(SYS_open_tree, at, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags));
}

static void attach(int mount, int to)
{
    MUST(syscall(SYS_move_mount, mount, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

static void set_attr(int mount, unsigned flags, unsigned long set, unsigned long propagation)
{
    struct mount_attr change = {.attr_set = set, .propagation = propagation};
    MUST(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH | flags, &change, sizeof change));
}

static int filesystem(const char *type, const char *const options[], unsigned attributes)
{
    int context = MUST(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
    for (; *options; options += 2)
        MUST(options[1] ? syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, options[0], options[1], 0)
                        : syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, options[0], NULL, 0));
    MUST(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    int mount = MUST(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes));
    close(context);
    return mount;
}

/* The cgroups: one directory in each hierarchy of version 1 that a container takes part in, or the one of version 2. */
static char groups[MAX][256], names[MAX][64];
static int count, trees[MAX], tasks[MAX], group_fd = -1;

static void write_at(const char *directory, const char *file, const char *text)
{
    char path[320];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = MUST(open(path, O_WRONLY | O_CLOEXEC));
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

static void find_groups(const char *name)
{
    static const char *eager[] = {"cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids"};
    static char table[65536], unified[200];
    int fd = MUST(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    ssize_t length = 0, got;
    while ((got = MUST(read(fd, table + length, sizeof table - 1 - length))) > 0)
        length += got;
    close(fd);
    for (char *line = strtok(table, "\n"); line; line = strtok(NULL, "\n")) {
        char point[200], type[32], options[200], *tail = strstr(line, " - ");
        if (!tail || sscanf(line, "%*s %*s %*s %*s %199s", point) != 1 ||
            sscanf(tail, " - %31s %*s %199s", type, options) != 2)
            continue;
        if (!strcmp(type, "cgroup2"))
            strcpy(unified, point);
        if (strcmp(type, "cgroup") || count == MAX)
            continue;
        char *last = strrchr(options, ',');
        for (size_t i = 0; last && i < sizeof eager / sizeof *eager; i++)
            if (!strcmp(last + 1, eager[i])) {
                snprintf(groups[count], sizeof groups[0], "%s/%s", point, name);
                snprintf(names[count++], sizeof names[0], "%s", strrchr(point, '/') + 1);
            }
    }
    if (!count && *unified)
        snprintf(groups[count++], sizeof groups[0], "%s/%s", unified, name);
}

static void make_groups(void)
{
    static const char *rules[] = {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                  "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm"};
    for (int i = 0; i < count; i++) {
        MUST(mkdir(groups[i], 0755));
        trees[i] = clone_tree(AT_FDCWD, groups[i], 0);
        if (!*names[i]) {
            group_fd = MUST(open(groups[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            continue;
        }
        char path[320];
        snprintf(path, sizeof path, "%s/tasks", groups[i]);
        tasks[i] = MUST(open(path, O_WRONLY | O_CLOEXEC));
        if (strcmp(names[i], "devices"))
            continue;
        write_at(groups[i], "devices.deny", "a");
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
            write_at(groups[i], "devices.allow", rules[r]);
    }
}

static int root;

static int inside(const char *path, int flags)
{
    struct { unsigned long flags, mode, resolve; } how = {O_PATH | O_CLOEXEC | flags, 0, 0x10 /* RESOLVE_IN_ROOT */};
    return syscall(SYS_openat2, root, path, &how, sizeof how);
}

static void mount_at(const char *path, int mount)
{
    int target = MUST(inside(path, O_DIRECTORY));
    attach(mount, target);
    close(target);
    close(mount);
}

#define OPTIONS(...) (const char *const[]){__VA_ARGS__, NULL}
#define HARD (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV)

static void make_dev(void)
{
    static const struct { const char *name; int major, minor; } nodes[] = {
        {"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const char *links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
                                     {"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"}, {"pts/ptmx", "ptmx"}};
    int dev = filesystem("tmpfs", OPTIONS("source", "tmpfs", "mode", "755", "size", "65536k"),
                         MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    int target = MUST(inside("/dev", O_DIRECTORY));
    attach(dev, target);
    close(target);
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        MUST(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        MUST(symlinkat(links[i][0], dev, links[i][1]));
    MUST(mkdirat(dev, "pts", 0755));
    MUST(mkdirat(dev, "shm", 0755));
    MUST(mkdirat(dev, "mqueue", 0755));
    close(dev);
    mount_at("/dev/pts", filesystem("devpts", OPTIONS("source", "devpts", "newinstance", NULL, "ptmxmode", "0666", "mode",
                                                      "0620", "gid", "5"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
    mount_at("/dev/shm", filesystem("tmpfs", OPTIONS("source", "shm", "mode", "1777", "size", "65536k"), HARD));
    mount_at("/dev/mqueue", filesystem("mqueue", OPTIONS("source", "mqueue"), HARD));
}

static void mount_groups(void)
{
    if (group_fd >= 0) {
        set_attr(trees[0], 0, HARD | MOUNT_ATTR_RDONLY, MS_SLAVE);
        mount_at("/sys/fs/cgroup", trees[0]);
        return;
    }
    int top = filesystem("tmpfs", OPTIONS("source", "tmpfs", "mode", "755"), HARD);
    int target = MUST(inside("/sys/fs/cgroup", O_DIRECTORY));
    attach(top, target);
    close(target);
    for (int i = 0; i < count; i++) {
        MUST(mkdirat(top, names[i], 0755));
        int place = MUST(openat(top, names[i], O_PATH | O_CLOEXEC));
        set_attr(trees[i], 0, HARD | MOUNT_ATTR_RDONLY, MS_SLAVE);
        attach(trees[i], place);
        close(place);
        close(trees[i]);
    }
    set_attr(top, 0, MOUNT_ATTR_RDONLY, 0);
    close(top);
}

static void hide_paths(void)
{
    static const char *read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    static const char *masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                                   "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
    int target, null = -1, empty = -1;
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        if ((target = inside(read_only[i], 0)) < 0)
            continue;
        int copy = clone_tree(target, "", AT_RECURSIVE);
        set_attr(copy, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0);
        attach(copy, target);
        close(copy);
        close(target);
    }
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        struct stat st;
        if ((target = inside(masked[i], 0)) < 0)
            continue;
        MUST(fstat(target, &st));
        int cover;
        if (!S_ISDIR(st.st_mode)) {
            if (null < 0)
                null = MUST(open("/dev/null", O_PATH | O_CLOEXEC));
            cover = clone_tree(null, "", 0);
        } else if (empty < 0) {
            cover = empty = filesystem("tmpfs", OPTIONS("source", "tmpfs", "nr_blocks", "1", "ro", NULL), MOUNT_ATTR_RDONLY);
        } else {
            cover = clone_tree(empty, "", 0);
            set_attr(cover, 0, MOUNT_ATTR_RDONLY, 0);
        }
        attach(cover, target);
        close(target);
    }
}

static void become(void)
{
    /* What `spec` leaves: CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE. */
    unsigned long keep = 1ul << 29 | 1ul << 5 | 1ul << 10;
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (!(keep >> cap & 1))
            prctl(PR_CAPBSET_DROP, cap);
    MUST(syscall(SYS_setgroups, 0, NULL));
    MUST(syscall(SYS_setresgid, 0, 0, 0));
    MUST(syscall(SYS_setresuid, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{keep, keep, 0}, {0, 0, 0}};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(syscall(SYS_capset, &header, data));
}

static void init(int tree, const char *rootfs, char **program)
{
    for (int i = 0; i < count && group_fd < 0; i++)
        MUST(write(tasks[i], "0", 1));
    MUST(unshare(CLONE_NEWCGROUP));
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int net = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    MUST(ioctl(net, SIOCSIFFLAGS, &loopback));
    MUST(setsid());
    syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "floor");
    MUST(sethostname("floor", 5));
    umask(0);
    set_attr(MUST(open("/", O_PATH | O_CLOEXEC)), AT_RECURSIVE, 0, MS_SLAVE);
    int place = MUST(open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC));
    attach(root = tree, place);
    close(place);
    mount_at("/proc", filesystem("proc", OPTIONS("source", "proc"), 0));
    make_dev();
    mount_at("/sys", filesystem("sysfs", OPTIONS("source", "sysfs"), HARD | MOUNT_ATTR_RDONLY));
    mount_groups();
    hide_paths();
    set_attr(root, 0, MOUNT_ATTR_RDONLY, 0);
    MUST(fchdir(root));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(syscall(SYS_umount2, ".", 2 /* MNT_DETACH */));
    MUST(chdir("/"));
    MUST(syscall(SYS_close_range, 3, ~0u, 0));
    become();
    umask(022);
    MUST(execve(program[0], program, (char *[]){"PATH=/bin", "HOME=/root", NULL}));
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: floor ROOTFS NAME PROGRAM [ARGS...]\n");
        return 1;
    }
    find_groups(argv[2]);
    make_groups();
    int tree = clone_tree(AT_FDCWD, argv[1], AT_RECURSIVE), pidfd = -1;
    set_attr(tree, AT_RECURSIVE, 0, MS_SLAVE);
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS |
                 (group_fd >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (unsigned long)&pidfd, .exit_signal = SIGCHLD, .cgroup = group_fd >= 0 ? group_fd : 0};
    if (MUST(syscall(SYS_clone3, &args, sizeof args)) == 0) {
        init(tree, argv[1], argv + 3);
        return 1;
    }
    siginfo_t end;
    MUST(waitid(P_PIDFD, pidfd, &end, WEXITED));
    for (int i = 0; i < count; i++)
        for (int tries = 0; rmdir(groups[i]) < 0 && errno == EBUSY && tries < 1000; tries++)
            usleep(100);
    return end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
}
