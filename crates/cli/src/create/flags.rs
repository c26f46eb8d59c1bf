//! The 101 flags of `create`, which are also those of `run`, and the few that `run` adds.

use super::checks;
use crate::flags::Flag;

/// The flags of a container's process and what it is given.
pub(crate) const PROCESS: &[Flag] = &[
    Flag::list("annotation", "Annotation handed to the OCI runtime")
        .shown_as("map")
        .default("map[]")
        .checked(checks::label),
    Flag::list("attach", "Attach to stdin, stdout or stderr")
        .short('a')
        .checked(checks::stream),
    Flag::string("cidfile", "File to write the container's ID to"),
    Flag::switch("disable-content-trust", "Accepted and ignored").default("true"),
    Flag::string("domainname", "NIS domain name of the container"),
    Flag::string("entrypoint", "Program to run in place of the image's entrypoint"),
    Flag::list("env", "Environment variable, NAME=VALUE or NAME to pass it on")
        .short('e')
        .checked(checks::env),
    Flag::list("env-file", "File of environment variables"),
    Flag::list("group-add", "Further group of the process"),
    Flag::string("health-cmd", "Command that tells whether the container is healthy"),
    Flag::duration("health-interval", "Time between two health checks (ms|s|m|h)").default("0s"),
    Flag::string(
        "health-on-failure",
        "What to do when it is unhealthy (none|kill|restart|stop|freeze)",
    ),
    Flag::int("health-retries", "Failures in a row before the container is unhealthy"),
    Flag::duration(
        "health-start-interval",
        "Time between health checks in the start period (ms|s|m|h)",
    )
    .default("0s"),
    Flag::duration("health-start-period", "Time in which failures do not count (ms|s|m|h)").default("0s"),
    Flag::duration("health-timeout", "Longest time a health check may take (ms|s|m|h)").default("0s"),
    Flag::switch("help", "Print this text"),
    Flag::string("hostname", "Host name of the container").short('h'),
    Flag::switch("init", "Run an init that forwards signals and reaps processes"),
    Flag::switch("interactive", "Keep stdin open").short('i'),
    Flag::list("label", "Label of the container")
        .short('l')
        .checked(checks::label),
    Flag::list("label-file", "File of labels, one a line"),
    Flag::string("name", "Name of the container"),
    Flag::switch("no-healthcheck", "Run no health checks"),
    Flag::string("platform", "Platform of the image, os/arch[/variant]"),
    Flag::switch("quiet", "Do not show the pull").short('q'),
    Flag::string("restart", "When to start the container again").default("\"no\""),
    Flag::switch("rm", "Remove the container and its anonymous volumes when it ends"),
    Flag::string("runtime", "OCI runtime of the container"),
    Flag::string("stop-signal", "Signal that asks the container to end"),
    Flag::int("stop-timeout", "Seconds to wait before it is killed"),
    Flag::switch("tty", "Give the container a terminal").short('t'),
    Flag::string("user", "User and group of the process, name or number (USER[:GROUP])").short('u'),
    Flag::string("workdir", "Working directory in the container").short('w'),
];

/// The flags of limits.
pub(crate) const LIMITS: &[Flag] = &[
    // Not one of Docker's: see `annotations` in the module above.
    Flag::string(
        "host-view",
        "What /proc tells of processors and memory: host, or limits of the container",
    ),
    Flag::uint16("blkio-weight", "Share of block IO, 10 to 1000, 0 for none").default("0"),
    Flag::list("blkio-weight-device", "Share of one device (DEVICE:WEIGHT)")
        .default("[]")
        .checked(checks::weight_device),
    Flag::string("cgroup-parent", "Parent cgroup of the container"),
    Flag::int("cpu-count", "Processors (Windows only)"),
    Flag::int("cpu-percent", "Percent of processors (Windows only)"),
    Flag::int("cpu-period", "Period of the CPU scheduler, microseconds"),
    Flag::int("cpu-quota", "CPU time in each period, microseconds"),
    Flag::int("cpu-rt-period", "Period of the real-time scheduler, microseconds"),
    Flag::int("cpu-rt-runtime", "Real-time CPU time in each period, microseconds"),
    Flag::int("cpu-shares", "Share of CPU time against other containers").short('c'),
    Flag::decimal("cpus", "Processors, 1.5 for one and a half"),
    Flag::string("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
    Flag::string("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
    Flag::list(
        "device-read-bps",
        "Read rate from a device, bytes a second (DEVICE:RATE)",
    )
    .default("[]")
    .checked(checks::byte_rate),
    Flag::list(
        "device-read-iops",
        "Read operations from a device a second (DEVICE:RATE)",
    )
    .default("[]")
    .checked(checks::operation_rate),
    Flag::list(
        "device-write-bps",
        "Write rate to a device, bytes a second (DEVICE:RATE)",
    )
    .default("[]")
    .checked(checks::byte_rate),
    Flag::list(
        "device-write-iops",
        "Write operations to a device a second (DEVICE:RATE)",
    )
    .default("[]")
    .checked(checks::operation_rate),
    Flag::bytes(
        "io-maxbandwidth",
        "Largest IO bandwidth of the system drive (Windows only)",
    ),
    Flag::uint("io-maxiops", "Most IO operations of the system drive (Windows only)"),
    Flag::bytes("kernel-memory", "Accepted and ignored"),
    Flag::bytes("memory", "Memory the container may use").short('m'),
    Flag::bytes("memory-reservation", "Memory it should stay under when memory is short"),
    Flag::signed_bytes("memory-swap", "Memory and swap together, -1 for no limit"),
    Flag::int("memory-swappiness", "Readiness to swap, 0 to 100").default("-1"),
    Flag::switch("oom-kill-disable", "Do not kill the container when memory runs out"),
    Flag::int("oom-score-adj", "Readiness of the host to kill it, -1000 to 1000"),
    Flag::int("pids-limit", "Most processes, -1 for no limit"),
    Flag::bytes("shm-size", "Size of /dev/shm"),
    Flag::list("sysctl", "Kernel parameter (NAME=VALUE)")
        .shown_as("map")
        .default("map[]")
        .checked(checks::sysctl),
    Flag::list("ulimit", "Resource limit (NAME=SOFT[:HARD])")
        .shown_as("ulimit")
        .default("[]")
        .checked(checks::ulimit),
];

/// The flags of isolation and security.
pub(crate) const ISOLATION: &[Flag] = &[
    Flag::list("cap-add", "Capability to add"),
    Flag::list("cap-drop", "Capability to drop"),
    Flag::string("cgroupns", "Cgroup namespace (host|private)"),
    Flag::list("device", "Device of the host to add (HOST[:CONTAINER][:rwm])"),
    Flag::list("device-cgroup-rule", "Rule to add to the allowed devices").checked(checks::device_rule),
    Flag::list("gpus", "GPUs to add ('all' for all)")
        .shown_as("gpu-request")
        .checked(checks::gpus),
    Flag::string("ipc", "IPC namespace (none|private|shareable|host|container:NAME)"),
    Flag::string("isolation", "Isolation technology"),
    Flag::string("pid", "PID namespace (host|container:NAME)"),
    Flag::switch("privileged", "Give the container nearly all rights of the host"),
    Flag::switch("read-only", "Make the root file system read-only"),
    Flag::list("security-opt", "Security option"),
    Flag::string("userns", "User namespace (host)"),
    Flag::string("uts", "UTS namespace (host)"),
];

/// The flags of networks.
pub(crate) const NETWORK: &[Flag] = &[
    Flag::list("add-host", "Line to add to /etc/hosts (HOST:IP)").checked(checks::extra_host),
    Flag::list("dns", "Name server").checked(checks::ip_address),
    Flag::list("dns-opt", "Option of the name resolver").hidden(),
    Flag::list("dns-option", "Option of the name resolver"),
    Flag::list("dns-search", "Domain to search names in").checked(checks::search_domain),
    Flag::list("expose", "Port or range of ports to expose"),
    Flag::string("ip", "IPv4 address"),
    Flag::string("ip6", "IPv6 address"),
    Flag::list("link", "Container to link to (NAME[:ALIAS])").checked(checks::link),
    Flag::list("link-local-ip", "Link-local address").checked(checks::ip_address),
    Flag::string("mac-address", "MAC address"),
    Flag::list("net", "Network to connect to")
        .shown_as("network")
        .hidden()
        .checked(checks::network),
    Flag::list("net-alias", "Name of the container in its network").hidden(),
    Flag::list("network", "Network to connect to")
        .shown_as("network")
        .checked(checks::network),
    Flag::list("network-alias", "Name of the container in its network"),
    Flag::list("publish", "Port to publish on the host ([[IP:]HOST:]CONTAINER[/PROTO])").short('p'),
    Flag::switch("publish-all", "Publish all exposed ports on free ports of the host").short('P'),
];

/// The flags of storage and logs.
pub(crate) const STORAGE: &[Flag] = &[
    Flag::string("log-driver", "Where the output goes"),
    Flag::list("log-opt", "Option of the log driver"),
    Flag::list("mount", "File system to mount (type=..,source=..,target=..)")
        .shown_as("mount")
        .checked(checks::mount),
    Flag::list("storage-opt", "Option of the storage driver"),
    Flag::list("tmpfs", "Directory to mount a tmpfs on"),
    Flag::switch("use-api-socket", "Give the container the engine's socket"),
    Flag::list("volume", "Directory or volume to mount (SOURCE:TARGET[:OPTIONS])").short('v'),
    Flag::string("volume-driver", "Driver of the volumes that are made"),
    Flag::list("volumes-from", "Container whose volumes to mount"),
];

/// When to pull the image.
pub(crate) const PULL: &[Flag] =
    &[Flag::string("pull", "When to pull the image (always|missing|never)").default("\"missing\"")];

/// What only `run` has.
pub(crate) const RUN: &[Flag] = &[
    Flag::switch("detach", "Run in the background and print the container's ID").short('d'),
    Flag::string("detach-keys", "Keys that detach from the container"),
    Flag::switch("sig-proxy", "Pass signals on to the process").default("true"),
];
