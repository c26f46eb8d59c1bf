//! `--change` of commit and import: instructions that change only the configuration.

use wharf_store::{Platform, RunConfig};

use crate::BuildError;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::Instruction;
use crate::dockerfile::{Step, parse_statements};
use crate::exec::{StageState, change_working_dir, metadata};

/// What may be changed.
const ALLOWED: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Applies `changes`, one or more instructions each, in order. On an error `config` is as before.
pub fn apply_changes(config: &mut RunConfig, changes: &[String]) -> Result<(), BuildError> {
    let mut state = StageState::of_config(config.clone(), Platform::host());
    let parsed = parse_statements(&changes.join("\n"))?;
    for statement in &parsed.statements {
        let keyword = statement.keyword.to_ascii_uppercase();
        if !ALLOWED.contains(&keyword.as_str()) {
            return Err(BuildError::invalid(format!(
                "{} is not a valid change command",
                statement.keyword
            )));
        }
        let step = Step::parse(statement)?;
        let value = |name: &str| state.variable(name);
        let expanded = step
            .instruction
            .expand(&Expander::new(parsed.directives.escape, &value))?;
        match &expanded {
            Instruction::Workdir(workdir) => change_working_dir(&mut state, workdir),
            other => metadata::apply(&mut state, other).map(drop)?,
        }
    }
    *config = state.config;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(config: &mut RunConfig, changes: &[&str]) -> Result<(), String> {
        let changes: Vec<String> = changes.iter().map(|text| text.to_string()).collect();
        apply_changes(config, &changes).map_err(|error| error.to_string())
    }

    #[test]
    fn changes_apply_in_order_on_what_is_there() {
        let mut config = RunConfig {
            env: Some(vec!["A=1".into()]),
            working_dir: "/w".into(),
            ..RunConfig::default()
        };
        let changes = [
            "ENV B=$A C=\"x y\"",
            "CMD [\"sh\"]",
            "entrypoint run",
            "CMD echo hi",
            "WORKDIR sub",
            "EXPOSE 80",
            "LABEL a=b",
            "USER 1:2",
        ];
        changed(&mut config, &changes).unwrap();
        assert_eq!(config.env.unwrap(), ["A=1", "B=1", "C=x y"]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run"]);
        assert_eq!(config.working_dir, "/w/sub");
        assert_eq!(config.user, "1:2");
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert_eq!(config.labels.unwrap()["a"], "b");
    }

    #[test]
    fn other_instructions_are_refused_and_change_nothing() {
        for (text, words) in [
            ("RUN true", "RUN is not a valid change command"),
            ("NONSENSE x", "NONSENSE is not a valid change command"),
            ("FROM x", "FROM is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
        ] {
            let mut config = RunConfig::default();
            let error = changed(&mut config, &["USER me", text]).unwrap_err();
            assert!(error.ends_with(words), "{error}");
            assert_eq!(config, RunConfig::default());
        }
    }
}
