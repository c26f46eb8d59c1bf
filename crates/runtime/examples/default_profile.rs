//! Prints Docker's default seccomp profile as `linux.seccomp` of a
//! configuration, for a container with Docker's default capabilities: what
//! the engine gives every container, for `make bench-runtime`.

fn main() -> Result<(), serde_json::Error> {
    const CAPABILITIES: [&str; 14] = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    let profile = wharf_runtime::seccomp::default_profile(&CAPABILITIES.map(str::to_owned));
    println!("{}", serde_json::to_string(&profile)?);
    Ok(())
}
