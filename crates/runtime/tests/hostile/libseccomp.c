/* Compiles a profile by libseccomp and writes the BPF to stdout.
 *
 *   libseccomp PROFILE
 *
 * Lines: `default ACTION ERRNO`, `rule ACTION ERRNO CALL COUNT` with COUNT times `INDEX OP VALUE VALUE_TWO`.
 * For x86-64 with i386 and x32. Exit code 1 with a line on stderr when libseccomp refuses. */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t action(const char *name, unsigned number)
{
    if (!strcmp(name, "ALLOW")) return SCMP_ACT_ALLOW;
    if (!strcmp(name, "ERRNO")) return SCMP_ACT_ERRNO(number);
    if (!strcmp(name, "LOG")) return SCMP_ACT_LOG;
    if (!strcmp(name, "TRACE")) return SCMP_ACT_TRACE(number);
    if (!strcmp(name, "TRAP")) return SCMP_ACT_TRAP;
    if (!strcmp(name, "KILL_THREAD")) return SCMP_ACT_KILL_THREAD;
    return SCMP_ACT_KILL_PROCESS;
}

static enum scmp_compare op(const char *name)
{
    static const char *names[] = {"NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"};
    for (int i = 0; i < 7; i++)
        if (!strcmp(name, names[i])) return SCMP_CMP_NE + i;
    exit(2);
}

int main(int argc, char **argv)
{
    char kind[16], name[32], call[32], compare[16];
    unsigned number, count, index;
    unsigned long long value, two;
    scmp_filter_ctx filter = NULL;
    FILE *profile = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (!profile || fscanf(profile, "%15s %31s %u", kind, name, &number) != 3) return 1;
    if (!(filter = seccomp_init(action(name, number)))) return 1;
    if (seccomp_arch_add(filter, SCMP_ARCH_X86) < 0 || seccomp_arch_add(filter, SCMP_ARCH_X32) < 0) return 1;
    while (fscanf(profile, "%15s %31s %u %31s %u", kind, name, &number, call, &count) == 5) {
        struct scmp_arg_cmp args[6];
        for (unsigned i = 0; i < count && i < 6; i++) {
            if (fscanf(profile, "%u %15s %llu %llu", &index, compare, &value, &two) != 4) return 1;
            args[i] = (struct scmp_arg_cmp){index, op(compare), value, two};
        }
        int failed = seccomp_rule_add_array(filter, action(name, number), seccomp_syscall_resolve_name(call), count, args);
        if (failed) {
            fprintf(stderr, "%s %s: %s\n", name, call, strerror(-failed));
            return 1;
        }
    }
    return seccomp_export_bpf(filter, 1) < 0;
}
