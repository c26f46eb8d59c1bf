//! Which role the binary plays, by the name it was called with or its first argument.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
wharf-shim keeps Wharf's containers; it is started by the engine.

  wharf-shim keep ID        keep one container (needs descriptors from the engine)
  wharf-shim keeper ...     name service and user-space proxy of an instance
  wharf-shim runtime ...    OCI runtime (also when called as wharf-runtime)
  wharf-shim hello          tell what this process can see (also when called as hello)
  containerd-shim-wharf-v2  containerd's shim (the same binary called by this name)
  docker-init -- PROGRAM    a container's init (the same binary called by this name)
  wharf-shim pack-log FILE  compress a rotated log from standard input to standard output
  wharf-shim --version";

/// A role and its arguments, its own name first.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    Keep,
    Keeper(Vec<OsString>),
    Runtime(Vec<OsString>),
    Containerd(Vec<OsString>),
    Hello,
    Init(Vec<OsString>),
    PackLog(Vec<OsString>),
    Version,
    Usage,
}

/// Runs the role that the arguments (program name first) ask for.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let code = match choose(args) {
        Role::Keep => crate::server::run(),
        Role::Keeper(args) => return crate::keeper::main(args),
        Role::Runtime(args) => wharf_runtime::cli::main_cli(args),
        Role::Containerd(args) => crate::containerd::run(&args),
        Role::Hello => crate::hello::run(),
        Role::Init(args) => crate::init::run(&args),
        Role::PackLog(args) => crate::packer::run(&args),
        Role::Version => {
            println!("wharf-shim {}", env!("CARGO_PKG_VERSION"));
            0
        }
        Role::Usage => {
            eprintln!("{USAGE}");
            64
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

fn choose(mut args: Vec<OsString>) -> Role {
    let name = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    match name {
        "hello" => return Role::Hello,
        "wharf-runtime" => return Role::Runtime(args),
        crate::containerd::NAME => return Role::Containerd(args),
        "docker-init" => return Role::Init(args.split_off(1)),
        _ => {}
    }
    match args.get(1).and_then(|first| first.to_str()) {
        Some("keep") => Role::Keep,
        Some("keeper") => Role::Keeper(args.split_off(2)),
        Some("hello") => Role::Hello,
        Some("pack-log") => Role::PackLog(args.split_off(2)),
        Some("runtime") => {
            args.remove(0);
            Role::Runtime(args)
        }
        Some("--version" | "-V") => Role::Version,
        _ => Role::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_follows_the_name_then_the_first_argument() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let check = |line: &str, expected: Role| assert_eq!(choose(words(line)), expected, "{line}");
        check("/hello", Role::Hello);
        check("/sbin/docker-init -- sh", Role::Init(words("-- sh")));
        check(
            "/usr/bin/wharf-runtime state x",
            Role::Runtime(words("/usr/bin/wharf-runtime state x")),
        );
        check(
            "/usr/bin/containerd-shim-wharf-v2 -id x start",
            Role::Containerd(words("/usr/bin/containerd-shim-wharf-v2 -id x start")),
        );
        check("wharf-shim runtime state x", Role::Runtime(words("runtime state x")));
        check("/x/wharf-shim keep abc", Role::Keep);
        check("wharf-shim keeper a b", Role::Keeper(words("a b")));
        check("wharf-shim pack-log 7", Role::PackLog(words("7")));
        check("wharf-shim", Role::Usage);
        check("wharf-shim rubbish", Role::Usage);
    }
}
