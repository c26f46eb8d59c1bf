//! A private engine for one test.

use crate::command::{Output, run};
use crate::{Leftovers, image};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No command of a test may take longer.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// An engine must answer within this time of its start.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// An engine of its own: root and run directory under one temporary directory, and an instance name that
/// nothing else on the machine has.
pub struct Sandbox {
    dir: tempfile::TempDir,
    instance: String,
    engine: Option<Child>,
    extra: Vec<String>,
    failpoint: Option<String>,
    program: PathBuf,
}

impl Sandbox {
    /// Starts an engine without any image.
    ///
    /// # Panics
    /// When the engine does not answer in time.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts an engine with more arguments for `wharf daemon`.
    ///
    /// # Panics
    /// When the engine does not answer in time.
    #[track_caller]
    pub fn start_with(extra: &[&str]) -> Self {
        let mut sandbox = Self::prepare(extra);
        sandbox.boot();
        sandbox
    }

    /// Starts an engine with a configuration file; `{dir}` in it stands for the sandbox's own directory.
    ///
    /// # Panics
    /// When the engine does not answer in time.
    #[track_caller]
    pub fn configured(text: &str) -> Self {
        let mut sandbox = Self::prepare(&[]);
        let (file, dir) = (sandbox.path("config.toml"), sandbox.dir.path().to_string_lossy());
        std::fs::write(&file, text.replace("{dir}", &dir)).expect("a configuration file");
        sandbox.extra = vec!["--config".to_owned(), file.to_string_lossy().into_owned()];
        sandbox.boot();
        sandbox
    }

    fn prepare(extra: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("wharf-e2e-")
            .tempdir()
            .expect("a temporary directory");
        // Names of cgroups and links are the machine's, whatever pid namespace this is: the directory's is unique.
        let name = dir.path().to_string_lossy().into_owned();
        let instance = format!("w{}", name.rsplit('-').next().unwrap_or_default());
        let extra = extra.iter().map(|s| (*s).to_owned()).collect();
        Self {
            dir,
            instance,
            engine: None,
            extra,
            failpoint: None,
            program: wharf_binary(),
        }
    }

    /// Starts an engine that has `busybox:latest`, made from Debian's busybox-static.
    ///
    /// # Panics
    /// When the engine does not start or the import fails.
    #[track_caller]
    pub fn with_busybox() -> Self {
        let sandbox = Self::start();
        sandbox.import_busybox();
        sandbox
    }

    /// Imports `busybox:latest`.
    ///
    /// # Panics
    /// When the import fails.
    #[track_caller]
    pub fn import_busybox(&self) {
        let tar = self.path("busybox.tar");
        image::busybox_rootfs_tar(&tar).expect("the busybox root file system");
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        self.docker(&[
            "import",
            "-c",
            "CMD [\"sh\"]",
            "-c",
            path,
            &tar.to_string_lossy(),
            "busybox:latest",
        ])
        .ok();
    }

    /// A path inside the sandbox's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data root of the engine.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// The run directory of the engine.
    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// The API socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("wharf.sock")
    }

    /// The instance name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Process id of the running engine.
    ///
    /// # Panics
    /// When no engine runs.
    pub fn engine_pid(&self) -> u32 {
        self.engine.as_ref().expect("a running engine").id()
    }

    /// Starts the engine again after [`Sandbox::kill`] or [`Sandbox::terminate`]; returns the time until it answered.
    ///
    /// # Panics
    /// When the engine does not answer in time.
    #[track_caller]
    pub fn boot(&mut self) -> Duration {
        let begin = Instant::now();
        self.try_boot().expect("the engine starts");
        begin.elapsed()
    }

    /// Starts the engine again with `WHARF_FAILPOINT` set to `plan`; engines after it have none.
    ///
    /// # Panics
    /// When the engine does not answer in time.
    #[track_caller]
    pub fn boot_armed(&mut self, plan: &str) {
        self.failpoint = Some(plan.to_owned());
        let done = self.try_boot();
        self.failpoint = None;
        done.expect("the armed engine starts");
    }

    /// Starts an engine with `WHARF_FAILPOINT` set to `plan` that is to die of it, be it before it answers; tells
    /// whether it did within `limit`.
    pub fn boot_to_die(&mut self, plan: &str, limit: Duration) -> bool {
        self.failpoint = Some(plan.to_owned());
        let _ = self.try_boot(); // it may be dead already
        self.failpoint = None;
        self.ends_within(limit)
    }

    /// Waits until the engine has ended by itself; tells whether it did within `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while let Some(child) = &mut self.engine {
            if !matches!(child.try_wait(), Ok(None)) {
                self.engine = None;
            } else if Instant::now() > end {
                return false;
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        true
    }

    /// Starts an engine of another build: the `wharf` at `program`, with the shim beside it.
    ///
    /// # Panics
    /// When the engine does not answer in time.
    #[track_caller]
    pub fn start_from(program: &Path) -> Self {
        let mut sandbox = Self::prepare(&[]);
        program.clone_into(&mut sandbox.program);
        sandbox.boot();
        sandbox
    }

    /// The next engine is of the build at `program`.
    pub fn replace_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    fn try_boot(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("engine.log"))?;
        let child = Command::new(&self.program)
            .arg("daemon")
            .args(self.identity())
            .args(&self.extra)
            .env_remove("DOCKER_HOST")
            .env_remove("WHARF_HOST")
            .envs(self.failpoint.iter().map(|plan| ("WHARF_FAILPOINT", plan)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.engine = Some(child);
        let end = Instant::now() + START_DEADLINE;
        while Instant::now() < end {
            if crate::http::request(&self.socket(), "GET", "/_ping", b"").is_ok_and(|a| a.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.engine.as_mut().context("engine")?.try_wait()? {
                bail!("the engine ended with {status}\n{}", self.engine_log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the engine does not answer\n{}", self.engine_log())
    }

    /// What the engine has logged so far.
    pub fn engine_log(&self) -> String {
        std::fs::read_to_string(self.path("engine.log")).unwrap_or_default()
    }

    fn identity(&self) -> Vec<String> {
        let path = |p: PathBuf| p.to_string_lossy().into_owned();
        vec![
            "--root".into(),
            path(self.root()),
            "--run".into(),
            path(self.run_dir()),
            "--instance".into(),
            self.instance.clone(),
        ]
    }

    /// Kills the engine with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.engine.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends the engine with SIGTERM and waits for it.
    pub fn terminate(&mut self) {
        if let Some(mut child) = self.engine.take() {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The `docker` CLI of the machine, talking to this engine.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Output {
        self.docker_fed(args, b"")
    }

    /// The `docker` CLI with `stdin`.
    #[track_caller]
    pub fn docker_fed(&self, args: &[&str], stdin: &[u8]) -> Output {
        run(self.docker_command().args(args), stdin, COMMAND_DEADLINE).expect("the docker CLI runs")
    }

    /// A `docker` command to be completed and spawned by the test itself.
    pub fn docker_command(&self) -> Command {
        let mut command = Command::new("docker");
        let config = self.path("client");
        let _ = std::fs::create_dir_all(&config);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CONFIG", config)
            .env("DOCKER_CLI_HINTS", "false")
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        command
    }

    /// The first number of the docker CLI's version.
    ///
    /// # Panics
    /// When it does not say.
    pub fn docker_major(&self) -> u32 {
        let out = self.docker(&["--version"]);
        let version = out.ok().strip_prefix("Docker version ").expect("a version");
        let major = version.split('.').next().and_then(|number| number.parse().ok());
        major.expect("a number")
    }

    /// Our own CLI, talking to this engine.
    #[track_caller]
    pub fn wharf(&self, args: &[&str]) -> Output {
        self.wharf_fed(args, b"")
    }

    /// Our own CLI with `stdin`.
    #[track_caller]
    pub fn wharf_fed(&self, args: &[&str], stdin: &[u8]) -> Output {
        run(self.wharf_command().args(args), stdin, COMMAND_DEADLINE).expect("the wharf CLI runs")
    }

    /// A `wharf` command to be completed and spawned by the test itself.
    pub fn wharf_command(&self) -> Command {
        let mut command = Command::new(wharf_binary());
        command
            .env("WHARF_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.path("client"))
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        command
    }

    /// One raw request; the answer's status and JSON body (`Null` when it is no JSON).
    ///
    /// # Panics
    /// When the engine does not answer.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let answer = crate::http::request(&self.socket(), method, path, body.as_bytes()).expect("an answer");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// The actions of all events so far that match the filters (`type=container`), oldest first.
    ///
    /// # Panics
    /// When the engine does not answer.
    #[track_caller]
    pub fn events(&self, filters: &[&str]) -> Vec<String> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        // The CLI cuts relative times to whole seconds: say which nanosecond is meant.
        let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let mut args = vec!["events", "--since", "0", "--until", &until, "--format", "{{.Action}}"];
        args.extend(filters.iter().flat_map(|f| ["--filter", f]));
        self.docker(&args).ok().lines().map(str::to_owned).collect()
    }

    /// Repeats `check` until it is true.
    ///
    /// # Panics
    /// When it is not within `limit`.
    #[track_caller]
    pub fn eventually(&self, limit: Duration, what: &str, mut check: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        while !check() {
            assert!(
                Instant::now() < end,
                "not within {limit:?}: {what}\n{}",
                self.engine_log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `wharf system reset --force` of this instance, with or without its engine running.
    pub fn reset(&self) -> Output {
        let mut command = Command::new(wharf_binary());
        command.args(["system", "reset", "--force"]).args(self.identity());
        run(&mut command, b"", COMMAND_DEADLINE).expect("wharf system reset runs")
    }

    /// Everything of this instance that exists in the kernel or as a process now.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers::find(&self.instance, self.dir.path())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.terminate();
        let reset = self.reset();
        if std::thread::panicking() {
            eprintln!("--- engine log of the failed test\n{}", self.engine_log());
            return;
        }
        assert_eq!(reset.code, 0, "{reset}");
        // A killed process is gone a moment after its cgroup is: give the kernel that moment.
        let end = Instant::now() + Duration::from_secs(5);
        while !self.leftovers().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(
            self.leftovers().is_empty(),
            "left after the reset: {:#?}\n{}",
            self.leftovers(),
            self.engine_log()
        );
    }
}

/// The `wharf` binary under test: `WHARF_BIN`, or the newest build beside the test binary.
pub fn wharf_binary() -> PathBuf {
    binary("WHARF_BIN", "wharf")
}

/// The static `wharf-shim` under test: `WHARF_SHIM`, or the one beside `wharf`.
pub fn shim_binary() -> PathBuf {
    binary("WHARF_SHIM", "wharf-shim")
}

fn binary(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    // target/debug/deps/test-0123 -> target/debug
    exe.parent().and_then(Path::parent).unwrap_or(Path::new(".")).join(name)
}
