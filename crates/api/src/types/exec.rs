//! Commands run inside running containers.

wire! {
    /// `POST /containers/{id}/exec`.
    pub struct ExecCreateRequest {
        user: String = "User",
        privileged: bool = "Privileged",
        tty: bool = "Tty",
        /// Height, width.
        console_size: Option<[u32; 2]> = "ConsoleSize" omitempty,
        attach_stdin: bool = "AttachStdin",
        attach_stderr: bool = "AttachStderr",
        attach_stdout: bool = "AttachStdout",
        detach_keys: String = "DetachKeys",
        env: Option<Vec<String>> = "Env",
        working_dir: String = "WorkingDir",
        cmd: Option<Vec<String>> = "Cmd",
    }

    /// `POST /exec/{id}/start`.
    pub struct ExecStartRequest {
        detach: bool = "Detach",
        tty: bool = "Tty",
        /// Height, width.
        console_size: Option<[u32; 2]> = "ConsoleSize" omitempty,
    }

    /// `GET /exec/{id}/json`.
    pub struct ExecInspect {
        id: String = "ID",
        running: bool = "Running",
        /// `null` while it runs.
        exit_code: Option<i64> = "ExitCode",
        process_config: ExecProcessConfig = "ProcessConfig",
        open_stdin: bool = "OpenStdin",
        open_stderr: bool = "OpenStderr",
        open_stdout: bool = "OpenStdout",
        can_remove: bool = "CanRemove",
        container_id: String = "ContainerID",
        detach_keys: String = "DetachKeys",
        pid: i64 = "Pid",
    }

    /// The command of an exec.
    pub struct ExecProcessConfig {
        tty: bool = "tty",
        entrypoint: String = "entrypoint",
        arguments: Vec<String> = "arguments",
        privileged: Option<bool> = "privileged" omitempty,
        user: String = "user" omitempty,
    }
}
