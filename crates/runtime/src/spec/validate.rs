//! Which field of a configuration is wrong, before anything is made.

use super::{Hooks, Linux, Process, Spec};
use crate::RuntimeError;

fn invalid(field: &str, why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::invalid(field, format!("{field}: {why}"))
}

/// Checks what can be checked without the kernel; decisions that need a
/// conversion (mount options, limits, filters) check the rest themselves.
///
/// # Errors
/// The first wrong field, by name.
pub fn validate(spec: &Spec) -> Result<(), RuntimeError> {
    check_version(&spec.oci_version)?;
    if spec.annotations.contains_key("") {
        return Err(invalid("annotations", "a key is empty"));
    }
    if let Some(process) = &spec.process {
        validate_process("process", process)?;
    }
    if let Some(hooks) = &spec.hooks {
        check_hooks(hooks)?;
    }
    check_linux(spec, spec.linux())
}

/// Checks a process, of the container or of an exec.
///
/// # Errors
/// The first wrong field, by name.
pub fn validate_process(field: &str, process: &Process) -> Result<(), RuntimeError> {
    let at = |part: &str| format!("{field}.{part}");
    if process.args.is_empty() {
        return Err(invalid(&at("args"), "is empty"));
    }
    if !process.cwd.is_absolute() {
        return Err(invalid(&at("cwd"), format!("{:?} is not absolute", process.cwd)));
    }
    let nul = |texts: &[String]| texts.iter().any(|text| text.contains('\0'));
    if nul(&process.args) {
        return Err(invalid(&at("args"), "holds a NUL byte"));
    }
    if nul(&process.env) {
        return Err(invalid(&at("env"), "holds a NUL byte"));
    }
    match process.oom_score_adj {
        Some(score) if !(-1000..=1000).contains(&score) => Err(invalid(
            &at("oomScoreAdj"),
            format!("{score} is not between -1000 and 1000"),
        )),
        _ => Ok(()),
    }
}

/// Any 1.x is understood: unknown properties are ignored by rule.
fn check_version(version: &str) -> Result<(), RuntimeError> {
    let mut numbers = version
        .split(['-', '+'])
        .next()
        .unwrap_or_default()
        .split('.')
        .map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(_)), Some(Ok(_)), None) => Ok(()),
        (Some(Ok(_)), Some(Ok(_)), Some(Ok(_)), None) => {
            Err(invalid("ociVersion", format!("{version} is not supported, only 1.x")))
        }
        _ => Err(invalid("ociVersion", format!("{version:?} is not a version"))),
    }
}

fn check_hooks(hooks: &Hooks) -> Result<(), RuntimeError> {
    let stages = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (stage, list) in stages {
        for (index, hook) in list.iter().enumerate() {
            let field = format!("hooks.{stage}[{index}]");
            if !hook.path.is_absolute() {
                return Err(invalid(
                    &format!("{field}.path"),
                    format!("{:?} is not absolute", hook.path),
                ));
            }
            if hook.timeout.is_some_and(|seconds| seconds <= 0) {
                return Err(invalid(&format!("{field}.timeout"), "is not above zero"));
            }
        }
    }
    Ok(())
}

fn check_linux(spec: &Spec, linux: &Linux) -> Result<(), RuntimeError> {
    use super::NamespaceKind::Uts;
    let named = [("hostname", &spec.hostname), ("domainname", &spec.domainname)];
    for (field, value) in named {
        let is_set = value.as_ref().is_some_and(|value| !value.is_empty());
        if is_set && !linux.namespaces.iter().any(|namespace| namespace.kind == Uts) {
            return Err(invalid(field, "needs a uts namespace of the container's own"));
        }
    }
    crate::net_devices::validate(linux)?;
    crate::resctrl::validate(linux)?;
    check_sysctls(spec, linux)?;
    for clock in linux.time_offsets.keys() {
        if clock != "monotonic" && clock != "boottime" {
            return Err(invalid("linux.timeOffsets", format!("unknown clock {clock:?}")));
        }
    }
    match linux.rootfs_propagation.as_deref() {
        Some(word) if crate::plan::mounts::parse_propagation(word).is_none() => {
            Err(invalid("linux.rootfsPropagation", format!("unknown value {word:?}")))
        }
        _ => Ok(()),
    }
}

/// Names that have a field of their own are not set twice.
fn check_sysctls(spec: &Spec, linux: &Linux) -> Result<(), RuntimeError> {
    let named = spec.domainname.as_ref().filter(|name| !name.is_empty());
    for (key, value) in &linux.sysctl {
        let field = match key.replace('/', ".").as_str() {
            // COMPAT: never by sysctl, as runc and crun have it.
            "kernel.hostname" => "hostname",
            "kernel.domainname" if named.is_some_and(|name| name != value) => "domainname",
            _ => continue,
        };
        return Err(invalid(
            &format!("linux.sysctl[{key:?}]"),
            format!("conflicts with the field {field}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let spec: Spec = serde_json::from_str(text).expect("a configuration");
        assert_eq!(
            validate(&spec).map_err(|e| e.message()),
            Err(expected.to_owned()),
            "{text}"
        );
    }

    #[test]
    fn wrong_values_name_their_field() {
        check(
            r#"{"ociVersion":"2.0.0"}"#,
            "ociVersion: 2.0.0 is not supported, only 1.x",
        );
        check(r#"{"ociVersion":"1"}"#, "ociVersion: \"1\" is not a version");
        check(
            r#"{"ociVersion":"1.0.2","process":{"cwd":"/"}}"#,
            "process.args: is empty",
        );
        check(
            r#"{"ociVersion":"1.0.2","process":{"cwd":"tmp","args":["x"]}}"#,
            "process.cwd: \"tmp\" is not absolute",
        );
        check(
            r#"{"ociVersion":"1.0.2","process":{"cwd":"/","args":["x"],"oomScoreAdj":1001}}"#,
            "process.oomScoreAdj: 1001 is not between -1000 and 1000",
        );
        check(
            r#"{"ociVersion":"1.0.2","hooks":{"poststop":[{"path":"x"}]}}"#,
            "hooks.poststop[0].path: \"x\" is not absolute",
        );
        check(
            r#"{"ociVersion":"1.0.2","hostname":"h"}"#,
            "hostname: needs a uts namespace of the container's own",
        );
        check(
            r#"{"ociVersion":"1.0.2","linux":{"timeOffsets":{"realtime":{"secs":1}}}}"#,
            "linux.timeOffsets: unknown clock \"realtime\"",
        );
        check(
            r#"{"ociVersion":"1.0.2","linux":{"rootfsPropagation":"upwards"}}"#,
            "linux.rootfsPropagation: unknown value \"upwards\"",
        );
        check(
            r#"{"ociVersion":"1.0.2","linux":{"sysctl":{"kernel/hostname":"x"}}}"#,
            "linux.sysctl[\"kernel/hostname\"]: conflicts with the field hostname",
        );
        check(
            r#"{"ociVersion":"1.0.2","domainname":"d","linux":{"namespaces":[{"type":"uts"}],"sysctl":{"kernel.domainname":"x"}}}"#,
            "linux.sysctl[\"kernel.domainname\"]: conflicts with the field domainname",
        );
    }

    #[test]
    fn unknown_properties_are_ignored() {
        let text = r#"{"ociVersion":"1.9.0-dev","future":[1],"process":{"cwd":"/","args":["x"],"new":{}}}"#;
        let spec: Spec = serde_json::from_str(text).expect("a configuration");
        assert_eq!(validate(&spec), Ok(()));
    }
}
