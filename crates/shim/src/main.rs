//! The `wharf-shim` binary: one program, several roles.
//!
//! | called as | role |
//! |---|---|
//! | `wharf-shim keep ID` | keeps one container; started by the engine only |
//! | `wharf-shim keeper ...` | the instance's name service and user-space proxy |
//! | `wharf-runtime ...`, `wharf-shim runtime ...` | an OCI runtime with runc's command line |
//! | `containerd-shim-wharf-v2 ...` | a shim of containerd |
//! | `hello`, `wharf-shim hello` | tells what a container sees |

fn main() -> std::process::ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    wharf_shim::roles::run(args)
}
