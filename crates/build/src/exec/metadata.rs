//! Instructions that change only the configuration. Pure.

use serde_json::json;

use crate::BuildError;
use crate::dockerfile::instruction::{CommandLine, Instruction};
use crate::exec::state::StageState;

/// Applies an expanded instruction to the configuration and returns its text for the history;
/// `None` for instructions that do more than that (RUN, COPY, ADD, WORKDIR, ARG).
pub(crate) fn apply(state: &mut StageState, instruction: &Instruction) -> Result<Option<String>, BuildError> {
    let shell = state.shell();
    let config = &mut state.config;
    Ok(Some(match instruction {
        Instruction::Env(env) => {
            let list = config.env.get_or_insert_default();
            for (name, value) in &env.pairs {
                set_variable(list, name, value);
            }
            env.describe()
        }
        Instruction::Label(label) => {
            let labels = config.labels.get_or_insert_default();
            labels.extend(label.pairs.iter().cloned());
            label.describe()
        }
        Instruction::Expose(expose) => {
            let ports = config.exposed_ports.get_or_insert_default();
            ports.extend(expose.numbers()?.into_iter().map(|port| (port, json!({}))));
            expose.describe()
        }
        Instruction::Volume(volume) => {
            let volumes = config.volumes.get_or_insert_default();
            volumes.extend(volume.paths.iter().map(|path| (path.clone(), json!({}))));
            volume.describe()
        }
        Instruction::User(user) => {
            config.user = user.user.clone();
            user.describe()
        }
        Instruction::Stopsignal(stopsignal) => {
            config.stop_signal = Some(stopsignal.signal.clone());
            stopsignal.describe()
        }
        Instruction::Shell(shell) => {
            config.shell = Some(shell.argv.clone());
            shell.describe()
        }
        Instruction::Healthcheck(check) => {
            config.healthcheck = Some(check.to_config());
            check.describe()
        }
        Instruction::Onbuild(onbuild) => {
            let triggers = config.on_build.get_or_insert_default();
            triggers.push(onbuild.trigger.clone());
            onbuild.describe()
        }
        Instruction::Cmd(cmd) => {
            config.cmd = Some(argv(&cmd.command, &shell));
            state.cmd_set = !cmd.command.is_empty();
            cmd.describe(&shell)
        }
        Instruction::Entrypoint(entrypoint) => {
            config.entrypoint = match entrypoint.command.is_empty() {
                true => None,
                false => Some(argv(&entrypoint.command, &shell)),
            };
            if !state.cmd_set {
                config.cmd = None;
            }
            entrypoint.describe(&shell)
        }
        Instruction::Maintainer(maintainer) => {
            state.author = Some(maintainer.name.clone());
            maintainer.describe()
        }
        Instruction::Add(_)
        | Instruction::Arg(_)
        | Instruction::Copy(_)
        | Instruction::Run(_)
        | Instruction::Workdir(_) => return Ok(None),
    }))
}

/// A command without anything to run stays empty, also in shell form.
fn argv(command: &CommandLine, shell: &[String]) -> Vec<String> {
    match command.is_empty() {
        true => Vec::new(),
        false => command.argv(shell),
    }
}

/// Sets a variable where it stands, or at the end.
fn set_variable(list: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let has_name = |line: &String| line.split_once('=').is_some_and(|(n, _)| n == name);
    match list.iter_mut().find(|line| has_name(line)) {
        Some(line) => *line = entry,
        None => list.push(entry),
    }
}

/// Takes the triggers out of a base image's configuration.
pub(crate) fn take_triggers(state: &mut StageState) -> Vec<String> {
    state.config.on_build.take().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;
    use wharf_store::Platform;

    fn run_through(text: &str) -> (StageState, Vec<String>) {
        let mut state = StageState::scratch(Platform::host());
        let mut history = Vec::new();
        for step in &parse(&format!("FROM scratch\n{text}")).unwrap().stages[0].steps {
            history.extend(apply(&mut state, &step.instruction).unwrap());
        }
        (state, history)
    }

    #[test]
    fn the_configuration_follows_the_instructions() {
        let (state, history) = run_through(
            "ENV A=1 B=2\nENV A=3\nLABEL x=y\nEXPOSE 80 1000-1001/udp\nVOLUME /a /b\nUSER u:g\n\
             STOPSIGNAL SIGINT\nSHELL [\"/bin/x\", \"-y\"]\nCMD run it\nHEALTHCHECK --interval=5s --retries=3 CMD check\n\
             ONBUILD RUN z\nMAINTAINER me\nENTRYPOINT [\"e\"]\n",
        );
        let config = &state.config;
        assert_eq!(state.env()[1..], ["A=3", "B=2"]);
        assert_eq!(config.cmd.as_deref().unwrap(), ["/bin/x", "-y", "run it"]);
        assert_eq!(config.entrypoint.as_deref().unwrap(), ["e"]);
        let ports = config.exposed_ports.as_ref().unwrap();
        assert!(ports.values().all(|member| *member == json!({})));
        assert_eq!(ports.keys().collect::<Vec<_>>(), ["1000/udp", "1001/udp", "80/tcp"]);
        assert_eq!(
            config.healthcheck.as_ref().unwrap().to_string(),
            r#"{"Test":["CMD-SHELL","check"],"Interval":5000000000,"Retries":3}"#
        );
        insta::assert_snapshot!(history.join("\n"), @r#"
        ENV A=1 B=2
        ENV A=3
        LABEL x=y
        EXPOSE 1000-1001/udp 80
        VOLUME [/a /b]
        USER u:g
        STOPSIGNAL SIGINT
        SHELL [/bin/x -y]
        CMD ["/bin/x" "-y" "run it"]
        HEALTHCHECK ["CMD-SHELL" "check"]
        ONBUILD RUN z
        MAINTAINER me
        ENTRYPOINT ["e"]
        "#);
    }

    #[test]
    fn an_entrypoint_removes_an_inherited_command_only() {
        let mut state = StageState::scratch(Platform::host());
        state.config.cmd = Some(vec!["inherited".into()]);
        let steps = parse("FROM x\nENTRYPOINT e\nCMD c\nENTRYPOINT f\n").unwrap();
        apply(&mut state, &steps.stages[0].steps[0].instruction).unwrap();
        assert_eq!(state.config.cmd, None);
        for step in &steps.stages[0].steps[1..] {
            apply(&mut state, &step.instruction).unwrap();
        }
        assert_eq!(state.config.cmd.unwrap(), ["/bin/sh", "-c", "c"]);
    }
}
