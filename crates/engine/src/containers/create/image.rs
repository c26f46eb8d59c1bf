//! Merging an image's configuration into a container's.
use std::collections::BTreeMap;

use wharf_store::RunConfig;

use crate::error::{Error, Result};
use crate::model::config::Empty;
use crate::model::{ContainerConfig, HealthConfig};

/// Fills what the user left open from the image, by Docker's rules.
pub(crate) fn merge_image(user: &mut ContainerConfig, image: &RunConfig) -> Result<()> {
    fill(&mut user.user, &image.user);
    fill(&mut user.working_dir, &image.working_dir);
    if let Some(signal) = &image.stop_signal {
        fill(&mut user.stop_signal, signal);
    }
    user.stop_timeout = user.stop_timeout.or(image.stop_timeout);
    merge_set(
        &mut user.exposed_ports,
        image.exposed_ports.iter().flat_map(|m| m.keys()),
    );
    merge_set(&mut user.volumes, image.volumes.iter().flat_map(|m| m.keys()));
    merge_env(user, image);
    for (key, value) in image.labels.iter().flatten() {
        user.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    merge_command(user, image);
    merge_health(user, image)?;
    if user.on_build.is_none() {
        user.on_build.clone_from(&image.on_build);
    }
    if user.shell.is_none() {
        user.shell.clone_from(&image.shell);
    }
    Ok(())
}

/// The program and its arguments.
pub(crate) fn command_line(config: &mut ContainerConfig) -> Result<(String, Vec<String>)> {
    // COMPAT: an entry point of one empty word means none (`--entrypoint ""`).
    if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    let mut words = config
        .entrypoint
        .iter()
        .flatten()
        .chain(config.cmd.iter().flatten())
        .cloned();
    match words.next() {
        Some(path) => Ok((path, words.collect())),
        None => Err(Error::invalid("no command specified")),
    }
}

fn fill(user: &mut String, image: &str) {
    if user.is_empty() {
        image.clone_into(user);
    }
}

fn merge_set<'a>(user: &mut Option<BTreeMap<String, Empty>>, image: impl Iterator<Item = &'a String>) {
    for key in image {
        user.get_or_insert_with(BTreeMap::new).entry(key.clone()).or_default();
    }
}

fn merge_env(user: &mut ContainerConfig, image: &RunConfig) {
    let Some(from_image) = &image.env else { return };
    let env = user.env.get_or_insert_with(Vec::new);
    let name_of = |entry: &str| entry.split_once('=').map_or(entry, |(n, _)| n).to_owned();
    let set: Vec<String> = env.iter().map(|e| name_of(e)).collect();
    env.extend(from_image.iter().filter(|e| !set.contains(&name_of(e))).cloned());
}

fn merge_command(user: &mut ContainerConfig, image: &RunConfig) {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if !empty(&user.entrypoint) {
        return;
    }
    if empty(&user.cmd) {
        user.cmd.clone_from(&image.cmd);
        user.args_escaped = image.args_escaped.unwrap_or(false);
    }
    if user.entrypoint.is_none() {
        user.entrypoint.clone_from(&image.entrypoint);
    }
}

fn merge_health(user: &mut ContainerConfig, image: &RunConfig) -> Result<()> {
    let Some(value) = &image.healthcheck else { return Ok(()) };
    let from_image =
        health_of_image(value).ok_or_else(|| Error::invalid("the image's health check is not in Docker's form"))?;
    let Some(own) = &mut user.healthcheck else {
        user.healthcheck = Some(from_image);
        return Ok(());
    };
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test = from_image.test;
    }
    for (mine, theirs) in [
        (&mut own.interval, from_image.interval),
        (&mut own.timeout, from_image.timeout),
        (&mut own.start_period, from_image.start_period),
        (&mut own.start_interval, from_image.start_interval),
        (&mut own.retries, from_image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
    Ok(())
}

fn health_of_image(value: &serde_json::Value) -> Option<HealthConfig> {
    let object = value.as_object()?;
    let number = |key: &str| object.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let test = match object.get("Test") {
        None | Some(serde_json::Value::Null) => None,
        Some(list) => serde_json::from_value(list.clone()).ok()?,
    };
    Some(HealthConfig {
        test,
        interval: number("Interval"),
        timeout: number("Timeout"),
        start_period: number("StartPeriod"),
        start_interval: number("StartInterval"),
        retries: number("Retries"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn entry_point_and_command_combine_as_dockers() {
        type List<'a> = Option<&'a [&'a str]>;
        let check = |user: (List, List), image: (List, List), expected: Option<&str>| {
            let mut config = ContainerConfig {
                entrypoint: user.0.and_then(words),
                cmd: user.1.and_then(words),
                ..Default::default()
            };
            let image = RunConfig {
                entrypoint: image.0.and_then(words),
                cmd: image.1.and_then(words),
                ..Default::default()
            };
            merge_image(&mut config, &image).expect("merges");
            let line = command_line(&mut config)
                .ok()
                .map(|(p, a)| [vec![p], a].concat().join(" "));
            assert_eq!(line.as_deref(), expected, "{user:?}");
        };
        let image: (List, List) = (Some(&["ep"]), Some(&["c1", "c2"]));
        check((None, None), image, Some("ep c1 c2"));
        check((None, Some(&["x"])), image, Some("ep x"));
        check((Some(&["e"]), None), image, Some("e"));
        check((Some(&["e"]), Some(&["x"])), image, Some("e x"));
        check((Some(&[""]), Some(&["ls"])), image, Some("ls"));
        check((Some(&[""]), None), image, None);
        check((None, None), (None, None), None);
    }

    #[test]
    fn the_users_environment_wins_and_comes_first() {
        let mut config = ContainerConfig {
            env: words(&["A=user", "B"]),
            ..Default::default()
        };
        let image = RunConfig {
            env: words(&["PATH=/bin", "A=image", "B=1"]),
            ..Default::default()
        };
        merge_image(&mut config, &image).expect("merges");
        assert_eq!(config.env, words(&["A=user", "B", "PATH=/bin"]));
    }
}
