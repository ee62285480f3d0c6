/* meter --result FILE --timeout S [--stop-after S] [--poll-ms N] -- COMMAND ARGS...
 *
 * Runs a command and writes what its whole process tree cost as one JSON object:
 *   start, wall          time of the fork; seconds until the command's exit, or of its last descendant's when later
 *   user, system         CPU seconds of the tree, by wait4. The meter is a subreaper: a process whose parent has died
 *                        becomes the meter's child, and is counted
 *   polled_cpu           the same summed from /proc at the last poll of each process: a lower bound, a cross-check
 *   peak_pss, peak_rss   most bytes that the tree held at one poll. Pss counts a page shared by n processes as 1/n in
 *                        each, so shared memory is counted once; 0 when polling is off
 *   processes            most processes at one poll
 *   exit, signal         how the command ended
 *   stopped              "" or "timeout" (SIGKILL to all) or "asked" (SIGTERM at --stop-after)
 *   left_behind          descendants that outlived the command by 5 s and were killed */
#include "common.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MAX_PROCESSES 4096
#define GRACE_S 5.0   /* for the tree to end after the command has */
#define SAVING_S 10.0 /* for the command to end after SIGTERM */

struct process {
    int pid, parent, in_tree;
    double cpu;
};

static struct process table[MAX_PROCESSES];
static int table_size;
static struct process seen[MAX_PROCESSES]; /* all that were ever in the tree, with their latest CPU time */
static int seen_count;
static double peak_pss, peak_rss;
static int peak_processes;

static void read_table(void)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    table_size = 0;
    while (proc && (entry = readdir(proc)) && table_size < MAX_PROCESSES) {
        char path[300], line[1024];
        int pid = atoi(entry->d_name), parent;
        unsigned long user, system;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *file = pid > 0 ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        char *rest = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL; /* the name may hold anything */
        fclose(file);
        if (rest && sscanf(rest + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &parent, &user, &system) == 3)
            table[table_size++] = (struct process){pid, parent, pid == getpid(), (double)(user + system) / (double)sysconf(_SC_CLK_TCK)};
    }
    if (proc)
        closedir(proc);
    for (int changed = 1; changed;) { /* children may stand before their parents */
        changed = 0;
        for (int i = 0; i < table_size; i++)
            for (int j = 0; !table[i].in_tree && j < table_size; j++)
                if (table[j].in_tree && table[j].pid == table[i].parent)
                    table[i].in_tree = changed = 1;
    }
}

static void note_cpu(const struct process *process)
{
    int at = 0;
    while (at < seen_count && seen[at].pid != process->pid)
        at++;
    if (at == MAX_PROCESSES)
        return;
    if (at == seen_count)
        seen_count++;
    seen[at] = *process;
}

static void add_memory(int pid, double *pss, double *rss)
{
    char path[64], line[256];
    unsigned long kib;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "Rss: %lu", &kib) == 1)
            *rss += (double)kib * 1024;
        else if (sscanf(line, "Pss: %lu", &kib) == 1)
            *pss += (double)kib * 1024;
    }
    if (file)
        fclose(file);
}

static void poll_tree(int memory)
{
    double pss = 0, rss = 0;
    int count = 0;
    read_table();
    for (int i = 0; i < table_size; i++) {
        if (!table[i].in_tree || table[i].pid == getpid())
            continue;
        count++;
        note_cpu(&table[i]);
        if (memory)
            add_memory(table[i].pid, &pss, &rss);
    }
    peak_pss = pss > peak_pss ? pss : peak_pss;
    peak_rss = rss > peak_rss ? rss : peak_rss;
    peak_processes = count > peak_processes ? count : peak_processes;
}

/* Kills all descendants; returns how many there were. */
static int kill_tree(void)
{
    int count = 0;
    read_table();
    for (int i = 0; i < table_size; i++)
        if (table[i].in_tree && table[i].pid != getpid())
            count += kill(table[i].pid, SIGKILL) == 0;
    return count;
}

int main(int argc, char **argv)
{
    int command = 1;
    while (command < argc && strcmp(argv[command], "--"))
        command++;
    const char *result = option(command, argv, "--result", NULL);
    double timeout = atof(option(command, argv, "--timeout", NULL)), stop_after = atof(option(command, argv, "--stop-after", "0"));
    double poll_s = atof(option(command, argv, "--poll-ms", "0")) / 1000;
    errno = 0;
    if (command + 1 >= argc)
        die("usage: meter --result FILE --timeout S [--stop-after S] [--poll-ms N] -- COMMAND ARGS...");
    die_with_parent();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, NULL);

    double start = now_s();
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigprocmask(SIG_UNBLOCK, &child_signal, NULL);
        signal(SIGPIPE, SIG_DFL);
        execvp(argv[command + 1], argv + command + 1);
        die(argv[command + 1]);
    }
    if (child < 0)
        die("fork");

    /* Polls come in quick succession at first, so that a command of a tenth of a second is seen too. */
    const char *stopped = "";
    double next_poll = start + 0.01, early_s = 0.01, kill_at = start + timeout, ended = 0, last = 0;
    int status = 0, left_behind = 0;
    for (;;) {
        int one;
        pid_t pid;
        while ((pid = waitpid(-1, &one, WNOHANG)) > 0) {
            last = now_s();
            if (pid == child) {
                ended = last;
                status = one;
                kill_at = ended + GRACE_S;
            }
        }
        if (pid < 0) /* nobody is left */
            break;
        double now = now_s();
        if (stop_after > 0 && !ended && !*stopped && now - start >= stop_after) {
            stopped = "asked";
            kill_at = now + SAVING_S;
            kill(child, SIGTERM);
        }
        if (now >= kill_at) {
            if (ended)
                left_behind = kill_tree();
            else {
                stopped = "timeout";
                kill_tree();
            }
            kill_at = now + GRACE_S;
        }
        if (poll_s > 0 && now >= next_poll) {
            poll_tree(1);
            early_s *= 2;
            next_poll = now_s() + (early_s < poll_s ? early_s : poll_s);
        }
        double until = kill_at;
        if (poll_s > 0 && next_poll < until)
            until = next_poll;
        if (stop_after > 0 && !ended && !*stopped && start + stop_after < until)
            until = start + stop_after;
        double wait_s = until - now_s();
        if (wait_s > 0) {
            struct timespec wait = {(time_t)wait_s, (long)((wait_s - (double)(time_t)wait_s) * 1e9)};
            sigtimedwait(&child_signal, NULL, &wait);
        }
    }

    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double polled = 0;
    for (int i = 0; i < seen_count; i++)
        polled += seen[i].cpu;
    FILE *file = fopen(result, "w");
    if (!file)
        die(result);
    fprintf(file,
            "{\"start\": %.6f, \"wall\": %.6f, \"user\": %.6f, \"system\": %.6f, \"polled_cpu\": %.2f, \"peak_pss\": %.0f, "
            "\"peak_rss\": %.0f, \"processes\": %d, \"exit\": %d, \"signal\": %d, \"stopped\": \"%s\", \"left_behind\": %d}\n",
            start, (last > ended ? last : ended) - start, (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6,
            (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec * 1e-6, polled, peak_pss, peak_rss, peak_processes,
            WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0, stopped, left_behind);
    return fclose(file) ? 1 : 0;
}
