/* Runs a program and prints the largest resident size it had, in kB, whatever it executed in between.
 *
 *   highwater FILE PROGRAM [ARGS...]
 *
 * wait4(2) knows the largest size of a process over all programs it executed, but counts what the process was
 * before the first of them too: this one is small, which a script's interpreter is not. Children that the program
 * leaves behind are not in it. Exit code: the program's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status;
    struct rusage usage;
    if (argc < 3)
        return 125;
    pid_t child = vfork();
    if (child == 0) {
        execv(argv[2], argv + 2);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) < 0)
        return 125;
    FILE *out = fopen(argv[1], "w");
    if (!out || fprintf(out, "%ld\n", usage.ru_maxrss) < 0 || fclose(out))
        return 125;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
