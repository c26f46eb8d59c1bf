//! The bodies of requests and answers, as Docker's documentation of volume plugins describes them.
//!
//! SECURITY: what a plugin answers is checked before anybody uses it: a mountpoint is an absolute path without `..`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// The media type of requests and answers.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// What a volume plugin says that it implements.
pub(crate) const VOLUME_DRIVER: &str = "VolumeDriver";

/// `Null` is the same as absent.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// The body of `Create`.
#[derive(Serialize)]
pub(crate) struct CreateRequest<'a> {
    #[serde(rename = "Name")]
    pub(crate) name: &'a str,
    #[serde(rename = "Opts")]
    pub(crate) options: &'a BTreeMap<String, String>,
}

/// The body of requests about one volume.
#[derive(Serialize)]
pub(crate) struct NameRequest<'a> {
    #[serde(rename = "Name")]
    pub(crate) name: &'a str,
}

/// The body of `Mount` and `Unmount`.
#[derive(Serialize)]
pub(crate) struct MountRequest<'a> {
    #[serde(rename = "Name")]
    pub(crate) name: &'a str,
    #[serde(rename = "ID")]
    pub(crate) id: &'a str,
}

/// The answer to `Plugin.Activate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Manifest {
    #[serde(rename = "Implements", deserialize_with = "nullable")]
    pub(crate) implements: Vec<String>,
}

/// What every answer may carry: why it was not done.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    #[serde(rename = "Err", deserialize_with = "nullable")]
    pub(crate) error: String,
}

/// The answer to `Mount` and `Path`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MountAnswer {
    #[serde(rename = "Mountpoint", deserialize_with = "nullable")]
    pub(crate) mountpoint: String,
}

/// The answer to `Get`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GetAnswer {
    #[serde(rename = "Volume", deserialize_with = "nullable")]
    pub(crate) volume: Option<PluginVolume>,
}

/// The answer to `List`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListAnswer {
    #[serde(rename = "Volumes", deserialize_with = "nullable")]
    pub(crate) volumes: Vec<Option<PluginVolume>>,
}

/// The answer to `Capabilities`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CapabilitiesAnswer {
    #[serde(rename = "Capabilities", deserialize_with = "nullable")]
    pub(crate) capabilities: Capabilities,
}

/// What a driver can do.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    #[serde(rename = "Scope", deserialize_with = "nullable")]
    pub(crate) scope: String,
}

/// A volume as its plugin tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PluginVolume {
    /// Its name.
    #[serde(rename = "Name", deserialize_with = "nullable")]
    pub name: String,
    /// Where its files are while it is mounted; empty when it is not.
    #[serde(rename = "Mountpoint", deserialize_with = "nullable")]
    pub mountpoint: String,
    /// When it was made, RFC 3339; empty when the plugin does not say.
    #[serde(rename = "CreatedAt", deserialize_with = "nullable")]
    pub created_at: String,
    /// Whatever the plugin tells besides.
    #[serde(rename = "Status", deserialize_with = "nullable")]
    pub status: serde_json::Map<String, serde_json::Value>,
}

/// Whether a driver's volumes are the machine's own or the cluster's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// This machine's.
    #[default]
    Local,
    /// The same on every machine.
    Global,
}

impl Scope {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Global => "global",
        }
    }

    /// COMPAT: in any case of letters; what is neither is local.
    pub(crate) fn parse(text: &str) -> Self {
        match text.eq_ignore_ascii_case("global") {
            true => Self::Global,
            false => Self::Local,
        }
    }
}

/// Reads the body of an answer; the text says what is wrong with it.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let body = match body.trim_ascii() {
        // Drivers answer to what has no result with nothing at all.
        [] => b"{}",
        body => body,
    };
    serde_json::from_slice(body).map_err(|error| format!("it is not the JSON it should be: {error}"))
}

/// The place that a plugin has mounted a volume at, if it is one.
pub(crate) fn checked_mountpoint(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let sound = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir) && !text.contains('\0');
    match sound {
        true => Ok(path.to_owned()),
        false => Err(format!("its mountpoint {text:?} is not an absolute path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_lack_what_they_have_nothing_to_say_about() {
        for body in ["", " \n", "{}", r#"{"Err":null}"#, r#"{"Err":"","New":1}"#] {
            assert_eq!(
                parse::<Refusal>(body.as_bytes()).expect("an answer").error,
                "",
                "{body}"
            );
        }
        let list: ListAnswer = parse(br#"{"Volumes":[null,{"Name":"a","Status":null}],"Err":""}"#).expect("a list");
        assert_eq!(list.volumes[1].as_ref().map(|v| v.name.as_str()), Some("a"));
        let get: GetAnswer = parse(br#"{"Volume":null}"#).expect("an answer");
        assert_eq!(get.volume, None);
        assert!(parse::<GetAnswer>(b"<html>").is_err());
        assert!(parse::<MountAnswer>(br#"{"Mountpoint":7}"#).is_err());
    }

    #[test]
    fn a_mountpoint_is_an_absolute_path_without_dots() {
        assert_eq!(checked_mountpoint("/mnt/a").expect("sound"), Path::new("/mnt/a"));
        for bad in ["", "mnt/a", "./a", "/mnt/../etc", "../x", "/a\0b"] {
            assert!(checked_mountpoint(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_global_is_local() {
        assert_eq!(Scope::parse("GLOBAL"), Scope::Global);
        for other in ["", "local", "galaxy"] {
            assert_eq!(Scope::parse(other), Scope::Local);
        }
    }
}
