//! RUN.

use std::fs;

use wharf_sys::failpoint;

use crate::cache::CacheKey;
use crate::dockerfile::instruction::Run;
use crate::exec::stubs::Stubs;
use crate::exec::{Executor, Stage, cancelled};
use crate::rootfs::open_layers;
use crate::scratch::{StepDir, random_hex, set_mode};
use crate::{BuildError, ErrorKind, Event, RunMount, RunNetwork, RunStep};

impl Executor<'_> {
    /// `RUN`.
    pub(super) fn run_step(&mut self, run: &Run, stage: &mut Stage) -> Result<(), BuildError> {
        let (argv, script) = run.argv(&stage.state.shell());
        let args = stage.args.for_run(stage.state.env());
        let created_by = describe(&argv, &args);
        let network = self.network(run);
        let mount_keys = self.mount_keys(run, stage)?;
        let detail = format!("{network:?} {:?} {mount_keys}", script.as_ref().map(|s| &s.1));
        let key = CacheKey::of(&stage.state.identity()?, &[&created_by, &detail]);
        if self.take_cached(&key, &created_by, stage)? {
            return Ok(());
        }
        let dir = self.scratch.step()?;
        let mut mounts = self.prepare_mounts(run, stage, &dir)?;
        mounts.binds.extend(script_mount(script, &dir)?);
        let env = self.environment(stage, args);
        let step = RunStep {
            id: random_hex(32)?,
            lower: stage.state.lower_dirs(self.services.store),
            upper: dir.upper.clone(),
            work: dir.work.clone(),
            argv,
            env,
            cwd: stage.state.working_dir().into(),
            user: stage.state.config.user.clone(),
            network,
            extra_hosts: self.request.extra_hosts.clone(),
            mounts: mounts.binds.clone(),
            limits: self.request.limits.clone(),
            cancel: self.request.cancel.clone(),
        };
        self.execute(&step)?;
        failpoint::reach("build/run/ended");
        let layer = self.commit(&dir)?;
        failpoint::reach("build/run/committed");
        self.keep(&key, created_by, layer, stage)
    }

    /// Runs the process and judges how it ended.
    fn execute(&self, step: &RunStep) -> Result<(), BuildError> {
        let stubs = Stubs::record(&open_layers(&step.lower, &self.scratch.empty())?, &step.mounts);
        self.emit(Event::ContainerStarted { id: step.id.clone() });
        let mut output = |stream, data: &[u8]| {
            self.emit(Event::Output {
                stream,
                data: data.to_vec(),
            });
        };
        let exit = self.services.runner.run(step, &mut output);
        let command = step.argv.join(" ");
        let exit = exit.map_err(|error| match (error.cancelled, error.exit_code) {
            (true, _) => cancelled().with_source(error),
            (_, Some(_)) => {
                let message = format!("The command '{command}' could not be started: {}", error.message);
                BuildError::new(ErrorKind::StepFailed, message).with_source(error)
            }
            _ => {
                let message = format!("running {command}: {}", error.message);
                BuildError::new(ErrorKind::Internal, message).with_source(error)
            }
        })?;
        if exit.code != 0 {
            let failed = BuildError::step_failed(&command, exit.code);
            return Err(match exit.oom_killed {
                true => failed.because("the memory limit of the step was reached"),
                false => failed,
            });
        }
        stubs.clear(&step.upper)?;
        self.emit(Event::ContainerRemoved { id: step.id.clone() });
        Ok(())
    }

    /// The variables of the process: the image's, then arguments, then proxies.
    fn environment(&self, stage: &Stage, args: Vec<(String, String)>) -> Vec<String> {
        let mut env = stage.state.env().to_vec();
        let proxies = stage.args.proxies(stage.state.env());
        let extra = args.into_iter().chain(proxies);
        env.extend(extra.map(|(name, value)| format!("{name}={value}")));
        env
    }

    /// The network: the instruction's word, then the request's.
    fn network(&self, run: &Run) -> RunNetwork {
        let word = match run.network.as_deref() {
            None | Some("default") => self.request.network.as_deref(),
            own => own,
        };
        match word {
            None | Some("" | "default" | "bridge") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(other) => RunNetwork::Named(other.into()),
        }
    }
}

/// As the history shows it: the number of arguments, each of them, the command.
fn describe(argv: &[String], args: &[(String, String)]) -> String {
    let command = argv.join(" ");
    if args.is_empty() {
        return command;
    }
    let list: Vec<String> = args.iter().map(|(n, v)| format!("{n}={v}")).collect();
    format!("|{} {} {command}", args.len(), list.join(" "))
}

/// Puts the script of a here-document where the process finds it.
fn script_mount(script: Option<(String, String)>, dir: &StepDir) -> Result<Option<RunMount>, BuildError> {
    let Some((target, body)) = script else {
        return Ok(None);
    };
    let source = dir.path("script");
    fs::write(&source, body)
        .map_err(|error| BuildError::internal(format!("writing {}: {error}", source.display()), error))?;
    set_mode(&source, 0o755)?;
    Ok(Some(RunMount::Bind {
        source,
        target,
        read_only: true,
    }))
}
