//! `COMMAND --help`: what each command takes.

use std::ffi::OsStr;

/// One command: name, what it does, its arguments, its options.
struct Topic(&'static str, &'static str, &'static str, &'static str);

const CREATE: &str = "\
   -b, --bundle DIR        directory of the bundle (default: the current one)
   -f, --config FILE       the configuration in the bundle (default: config.json)
   --console-socket PATH   socket that is sent the terminal's master side
   --pidfd-socket PATH     socket that is sent a pidfd of the first process
   --pid-file PATH         file for the pid of the first process
   --no-pivot              move the root instead of pivoting to it (ramdisks)
   --no-new-keyring        keep the session keyring
   --preserve-fds N        pass on N descriptors after the standard streams";

const RUN: &str = "\
   -d, --detach            return when the program has started
   --keep                  do not delete the container when it ends
   --no-subreaper          accepted for compatibility";

const EXEC: &str = "\
   -p, --process FILE      the process as JSON, instead of the options below
   --console-socket PATH   socket that is sent the terminal's master side
   --pidfd-socket PATH     socket that is sent a pidfd of the process
   --pid-file PATH         file for the pid of the process
   -d, --detach            return when the program has started
   -t, --tty               give it a pseudo terminal
   --cwd DIR               working directory
   -e, --env NAME=VALUE    add to the environment
   -u, --user UID[:GID]    ids to run as
   -g, --additional-gids N supplementary group
   -c, --cap NAME          add a capability
   --no-new-privs          forbid gaining privileges
   --apparmor NAME         AppArmor profile
   --process-label LABEL   SELinux label
   --cgroup [CTL:]PATH     a group below the container's own
   --preserve-fds N        pass on N descriptors after the standard streams
   --ignore-paused         also in a paused container, to run when it resumes";

const UPDATE: &str = "\
   -r, --resources FILE    linux.resources as JSON, - for standard input
   --blkio-weight N        share of block device time, 10 to 1000
   --cpu-period US --cpu-quota US --cpu-burst US --cpu-share N --cpu-idle N
   --cpu-rt-period US --cpu-rt-runtime US --cpuset-cpus LIST --cpuset-mems LIST
   --memory BYTES --memory-reservation BYTES --memory-swap BYTES
   --pids-limit N          processes at most, -1 for any number
   --l3-cache-schema TEXT --mem-bw-schema TEXT";

const CHECKPOINT: &str = "\
   --image-path DIR        directory of the images (default: ./checkpoint)
   --work-path DIR         directory of CRIU's logs
   --parent-path DIR       images of an earlier --pre-dump
   --leave-running --tcp-established --tcp-skip-in-flight --link-remap
   --ext-unix-sk --shell-job --lazy-pages --status-fd N --page-server ADDR:PORT
   --file-locks --pre-dump --manage-cgroups-mode MODE --empty-ns network
   --auto-dedup";

const TOPICS: [Topic; 17] = [
    Topic(
        "checkpoint",
        "save the state of a container with CRIU",
        "ID",
        CHECKPOINT,
    ),
    Topic(
        "create",
        "create a container; its program waits for start",
        "ID",
        CREATE,
    ),
    Topic(
        "delete",
        "remove a stopped container",
        "ID",
        "   -f, --force             kill it first, and do not mind if there is none\n   \
         -r, --regex             all containers whose id matches",
    ),
    Topic(
        "events",
        "print measurements of a container, one JSON object a line",
        "ID",
        "   --interval DURATION     time between two (default: 5s)\n   --stats                 once",
    ),
    Topic(
        "exec",
        "run a further program in a container",
        "ID COMMAND [ARGS]",
        EXEC,
    ),
    Topic("features", "print what this runtime can do, as JSON", "", ""),
    Topic(
        "kill",
        "send a signal (default: TERM) to the first process of a container",
        "ID [SIGNAL]",
        "   -a, --all               to all of its processes\n   \
         -r, --regex             all containers whose id matches",
    ),
    Topic(
        "list",
        "list containers",
        "",
        "   -f, --format FORMAT     table or json\n   -q, --quiet             ids only",
    ),
    Topic("pause", "freeze all processes of a container", "ID", ""),
    Topic(
        "ps",
        "list the processes of a container",
        "ID [OPTIONS OF ps]",
        "   -f, --format FORMAT     table or json",
    ),
    Topic(
        "restore",
        "start a container from what checkpoint saved",
        "ID",
        CHECKPOINT,
    ),
    Topic("resume", "thaw all processes of a container", "ID", ""),
    Topic("run", "create and start a container", "ID", CREATE),
    Topic(
        "spec",
        "write a default config.json",
        "",
        "   -b, --bundle DIR        where to (default: the current directory)\n   \
         --rootless              for a user without privileges",
    ),
    Topic("start", "start the program of a created container", "ID", ""),
    Topic("state", "print the state of a container as JSON", "ID", ""),
    Topic("update", "change the limits of a container", "ID", UPDATE),
];

/// Whether help is asked for among the options before the first argument.
pub(super) fn is_wanted(parser: &mut lexopt::Parser) -> bool {
    let Some(rest) = parser.try_raw_args() else {
        return false;
    };
    let options = rest
        .as_slice()
        .iter()
        .take_while(|arg| arg.as_encoded_bytes().starts_with(b"-") && *arg != "--");
    options
        .map(std::ffi::OsString::as_os_str)
        .any(|arg| arg == OsStr::new("-h") || arg == OsStr::new("--help"))
}

/// What a command takes; none of one that does not exist.
///
/// COMPAT: laid out as runc's, whose test suite reads the first lines.
pub(super) fn text(command: &str) -> Option<String> {
    let Topic(name, does, arguments, options) = TOPICS.iter().find(|topic| topic.0 == command)?;
    let mut text = format!("NAME:\n   wharf-runtime {name} - {does}\n\nUSAGE:\n   wharf-runtime {name}");
    if !options.is_empty() {
        text.push_str(" [OPTIONS]");
    }
    if !arguments.is_empty() {
        text.push(' ');
        text.push_str(arguments);
    }
    text.push('\n');
    if !options.is_empty() {
        text.push_str("\nOPTIONS:\n");
        text.push_str(options);
        text.push('\n');
    }
    if *name == "run" {
        text.push_str(RUN);
        text.push('\n');
    }
    Some(text)
}
