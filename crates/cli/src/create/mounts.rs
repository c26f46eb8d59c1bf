//! `-v`, `--tmpfs` and `--mount`.

use std::path::Path;

use wharf_api::types::{
    BindOptions, Driver, Empty, ImageOptions, Mount, StringMap, StringSet, TmpfsOptions, VolumeOptions,
};

use crate::error::CliError;
use crate::flags::{parse_bytes, parse_go_bool};

/// `-v` values: binds (`source:target[:options]`) and anonymous volumes (a target alone).
pub(super) fn binds_and_volumes(values: &[String]) -> Result<(Option<Vec<String>>, StringSet), CliError> {
    let mut binds = Vec::new();
    let mut volumes = StringSet::new();
    for value in values {
        match value.split_once(':') {
            _ if value.is_empty() => return Err(invalid(value, "empty volume spec")),
            None => {
                volumes.insert(value.clone(), Empty::default());
            }
            Some((source, rest)) => {
                check_sections(value)?;
                binds.push(format!("{}:{rest}", absolute_source(source)));
            }
        }
    }
    binds.sort();
    binds.dedup();
    Ok(((!binds.is_empty()).then_some(binds), volumes))
}

fn check_sections(value: &str) -> Result<(), CliError> {
    let sections: Vec<&str> = value.split(':').collect();
    if sections.iter().any(|section| section.is_empty()) {
        return Err(invalid(value, "empty section between colons"));
    }
    if sections.len() > 3 {
        return Err(invalid(value, "too many colons"));
    }
    Ok(())
}

fn invalid(value: &str, reason: &str) -> CliError {
    CliError::message(format!("invalid spec: {value}: {reason}"))
}

/// A source that begins with a dot is relative to the working directory of this program.
fn absolute_source(source: &str) -> String {
    if source.starts_with('.') {
        absolute(source)
    } else {
        source.to_owned()
    }
}

fn absolute(path: &str) -> String {
    let joined = std::env::current_dir()
        .map(|dir| dir.join(path))
        .unwrap_or_else(|_| path.into());
    clean(&joined)
}

/// The path without `.`, and without `..` where it has a parent.
fn clean(path: &Path) -> String {
    use std::path::Component;
    let mut kept: Vec<&std::ffi::OsStr> = Vec::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                kept.pop();
            }
            Component::Normal(name) => kept.push(name),
            _ => {}
        }
    }
    let names: Vec<String> = kept.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    format!("/{}", names.join("/"))
}

/// `--tmpfs PATH[:OPTIONS]`.
pub(super) fn tmpfs(values: &[String]) -> StringMap {
    values
        .iter()
        .map(|value| value.split_once(':').unwrap_or((value, "")))
        .map(|(path, options)| (path.to_owned(), options.to_owned()))
        .collect()
}

/// One `--mount` value.
pub(super) fn parse(text: &str) -> Result<Mount, CliError> {
    let mut draft = Draft::default();
    for field in fields(text)? {
        match field.split_once('=') {
            Some((key, value)) => draft.set(&key.to_lowercase(), value, &field)?,
            None => draft.set_alone(&field.to_lowercase(), &field)?,
        }
    }
    draft.finish()
}

/// Fields separated by commas; one in quotes may hold commas, and doubled quotes.
fn fields(text: &str) -> Result<Vec<String>, CliError> {
    let mut found = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = found.last_mut().expect("invariant: there is always a field");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err(CliError::message("parse error: bare \" in non-quoted field")),
            ',' if !quoted => found.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(CliError::message(
            "parse error: extraneous or missing \" in quoted field",
        ));
    }
    Ok(found)
}

#[derive(Default)]
struct Draft {
    mount: Mount,
    bind: Option<BindOptions>,
    volume: Option<VolumeOptions>,
    image: Option<ImageOptions>,
    tmpfs: Option<TmpfsOptions>,
}

impl Draft {
    fn bind(&mut self) -> &mut BindOptions {
        self.bind.get_or_insert_default()
    }

    fn volume(&mut self) -> &mut VolumeOptions {
        self.volume.get_or_insert_default()
    }

    fn driver(&mut self) -> &mut Driver {
        self.volume().driver_config.get_or_insert_default()
    }

    fn set_alone(&mut self, key: &str, field: &str) -> Result<(), CliError> {
        match key {
            "readonly" | "ro" => self.mount.read_only = true,
            "volume-nocopy" => self.volume().no_copy = true,
            "bind-nonrecursive" => self.bind().non_recursive = true,
            _ => {
                return Err(CliError::message(format!(
                    "invalid field '{field}' must be a key=value pair"
                )));
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), CliError> {
        let on = || parse_go_bool(value).map_err(|_| CliError::message(format!("invalid value for {key}: {value}")));
        match key {
            "type" => self.mount.kind = value.to_lowercase(),
            "source" | "src" => {
                let relative = value == "." || value.starts_with("./") || value.starts_with("../");
                self.mount.source = if relative { absolute(value) } else { value.to_owned() };
            }
            "target" | "dst" | "destination" => self.mount.target = value.to_owned(),
            "readonly" | "ro" => self.mount.read_only = on()?,
            "consistency" => self.mount.consistency = value.to_lowercase(),
            "bind-propagation" => self.bind().propagation = value.to_lowercase(),
            "bind-nonrecursive" => self.bind().non_recursive = on()?,
            "bind-recursive" => self.set_recursive(value)?,
            "volume-subpath" => self.volume().subpath = value.to_owned(),
            "volume-nocopy" => self.volume().no_copy = on()?,
            "volume-label" => {
                let (name, label) = value.split_once('=').unwrap_or((value, ""));
                self.volume().labels.insert(name.to_owned(), label.to_owned());
            }
            "volume-driver" => self.driver().name = value.to_owned(),
            "volume-opt" => {
                let (name, option) = value.split_once('=').unwrap_or((value, ""));
                self.driver().options.insert(name.to_owned(), option.to_owned());
            }
            "image-subpath" => self.image.get_or_insert_default().subpath = value.to_owned(),
            "tmpfs-size" => {
                let size =
                    parse_bytes(value).map_err(|_| CliError::message(format!("invalid value for {key}: {value}")))?;
                self.tmpfs.get_or_insert_default().size_bytes = size;
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| CliError::message(format!("invalid value for {key}: {value}")))?;
                self.tmpfs.get_or_insert_default().mode = mode;
            }
            _ => return Err(CliError::message(format!("unexpected key '{key}' in '{field}'"))),
        }
        Ok(())
    }

    fn set_recursive(&mut self, value: &str) -> Result<(), CliError> {
        match value {
            "enabled" => {}
            "disabled" => self.bind().non_recursive = true,
            "writable" => self.bind().read_only_non_recursive = true,
            "readonly" => self.bind().read_only_force_recursive = true,
            _ => {
                return Err(CliError::message(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                )));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Mount, CliError> {
        if self.mount.kind.is_empty() {
            "volume".clone_into(&mut self.mount.kind);
        }
        if self.mount.target.is_empty() {
            return Err(CliError::message("target is required"));
        }
        let kind = self.mount.kind.as_str();
        let foreign = [
            ("volume", self.volume.is_some()),
            ("bind", self.bind.is_some()),
            ("image", self.image.is_some()),
            ("tmpfs", self.tmpfs.is_some()),
        ];
        if let Some((other, _)) = foreign.iter().find(|(name, used)| *used && *name != kind) {
            return Err(CliError::message(format!(
                "cannot mix '{other}-*' options with mount type '{kind}'"
            )));
        }
        self.check_recursive()?;
        Ok(Mount {
            bind_options: self.bind,
            volume_options: self.volume,
            image_options: self.image,
            tmpfs_options: self.tmpfs,
            ..self.mount
        })
    }

    fn check_recursive(&self) -> Result<(), CliError> {
        let Some(bind) = &self.bind else { return Ok(()) };
        let missing = |what: &str| {
            CliError::message(format!(
                "option 'bind-recursive=readonly' requires '{what}' to be specified in conjunction"
            ))
        };
        if bind.read_only_force_recursive && !self.mount.read_only {
            return Err(missing("readonly"));
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return Err(missing("bind-propagation=rprivate"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_all_their_keys() {
        let mount = parse("type=volume,src=v,dst=/x,ro,volume-nocopy,volume-label=a=b,\"volume-opt=o=1,2\"").unwrap();
        assert_eq!(mount.source, "v");
        let options = mount.volume_options.unwrap();
        assert!(mount.read_only && options.no_copy);
        assert_eq!(options.labels["a"], "b");
        assert_eq!(options.driver_config.unwrap().options["o"], "1,2");
        let tmpfs = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")
            .unwrap()
            .tmpfs_options
            .unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, 0o1770));
    }

    #[test]
    fn wrong_mounts_are_refused() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        };
        check("type=bind,source=/a", "target is required");
        check(
            "type=bind,target=/a,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind'",
        );
        check("target=/a,x=y", "unexpected key 'x' in 'x=y'");
        check("target=/a,x", "invalid field 'x' must be a key=value pair");
        check("target=/a,ro=maybe", "invalid value for ro: maybe");
    }

    #[test]
    fn binds_and_anonymous_volumes_are_told_apart() {
        let values = ["/a:/b:ro".to_owned(), "/c".to_owned(), "name:/d".to_owned()];
        let (binds, volumes) = binds_and_volumes(&values).unwrap();
        assert_eq!(binds.unwrap(), ["/a:/b:ro", "name:/d"]);
        assert_eq!(volumes.keys().collect::<Vec<_>>(), ["/c"]);
        assert!(binds_and_volumes(&["a::b".to_owned()]).is_err());
        assert_eq!(clean(Path::new("/a/./b/../c")), "/a/c");
    }
}
