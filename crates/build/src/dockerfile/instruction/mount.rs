//! The value of `RUN --mount=`.

use crate::BuildError;
use crate::dockerfile::expand::Expander;

/// One mount of a RUN step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where.
    pub target: Option<String>,
    /// Path inside what is mounted.
    pub source: Option<String>,
    /// Stage or image that is mounted; the context when absent.
    pub from: Option<String>,
    /// Whether writes fail (`None`: the kind's default).
    pub read_only: Option<bool>,
    /// Name of a cache or secret.
    pub id: Option<String>,
    /// How builds share a cache.
    pub sharing: Sharing,
    /// Size of a tmpfs in bytes.
    pub size_bytes: Option<u64>,
    /// Mode of a secret's file or a cache's directory.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Whether a missing secret is an error.
    pub required: bool,
    /// Environment variable that receives a secret.
    pub env: Option<String>,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file that leaves no trace in the image.
    Secret,
    /// The agent's socket.
    Ssh,
}

/// How builds that run at once share a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All use it together.
    #[default]
    Shared,
    /// A second one gets its own.
    Private,
    /// A second one waits.
    Locked,
}

impl Mount {
    /// Reads `type=bind,target=/x,...`.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let mut mount = Mount::default();
        for field in text.split(',') {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field, None),
            };
            mount.set(&key.trim().to_ascii_lowercase(), value)?;
        }
        if mount.kind != MountKind::Secret && mount.kind != MountKind::Ssh && mount.target.is_none() {
            return Err(BuildError::invalid(format!(
                "invalid mount config \"{text}\": target is required"
            )));
        }
        Ok(mount)
    }

    /// Takes one `key=value`.
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), BuildError> {
        let text = || {
            value
                .map(str::to_string)
                .ok_or_else(|| BuildError::invalid(format!("invalid field '{key}' must be a key=value pair")))
        };
        match key {
            "type" => self.kind = parse_kind(&text()?)?,
            "target" | "dst" | "destination" => self.target = Some(text()?),
            "source" | "src" => self.source = Some(text()?),
            "from" => self.from = Some(text()?),
            "id" => self.id = Some(text()?),
            "env" => self.env = Some(text()?),
            "readonly" | "ro" => self.read_only = Some(parse_bool(key, value)?),
            "readwrite" | "rw" => self.read_only = Some(!parse_bool(key, value)?),
            "required" => self.required = parse_bool(key, value)?,
            "sharing" => self.sharing = parse_sharing(&text()?)?,
            "size" => self.size_bytes = Some(parse_size(&text()?)?),
            "mode" => self.mode = Some(parse_number(key, &text()?, 8)?),
            "uid" => self.uid = Some(parse_number(key, &text()?, 10)?),
            "gid" => self.gid = Some(parse_number(key, &text()?, 10)?),
            _ => {
                return Err(BuildError::invalid(format!(
                    "unexpected key '{key}' in '{key}={}'",
                    value.unwrap_or("")
                )));
            }
        }
        Ok(())
    }

    /// Expands the parts that may hold variables.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let expand = |text: &Option<String>| text.as_ref().map(|t| expander.word(t)).transpose();
        Ok(Self {
            target: expand(&self.target)?,
            source: expand(&self.source)?,
            from: expand(&self.from)?,
            id: expand(&self.id)?,
            ..self.clone()
        })
    }
}

fn parse_kind(text: &str) -> Result<MountKind, BuildError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "bind" => MountKind::Bind,
        "cache" => MountKind::Cache,
        "tmpfs" => MountKind::Tmpfs,
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        other => {
            return Err(BuildError::invalid(format!("unsupported mount type \"{other}\"")));
        }
    })
}

fn parse_sharing(text: &str) -> Result<Sharing, BuildError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        other => {
            return Err(BuildError::invalid(format!("unsupported sharing value \"{other}\"")));
        }
    })
}

fn parse_bool(key: &str, value: Option<&str>) -> Result<bool, BuildError> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(BuildError::invalid(format!("invalid value for {key}: {other}"))),
    }
}

fn parse_number(key: &str, text: &str, radix: u32) -> Result<u32, BuildError> {
    u32::from_str_radix(text, radix)
        .map_err(|source| BuildError::invalid(format!("invalid value {text} for {key}")).with_source(source))
}

/// Bytes with an optional suffix `k`, `m`, `g`, `t` (1024-based) and an optional `b`.
fn parse_size(text: &str) -> Result<u64, BuildError> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match plain.chars().last() {
        Some('k') => (&plain[..plain.len() - 1], 10),
        Some('m') => (&plain[..plain.len() - 1], 20),
        Some('g') => (&plain[..plain.len() - 1], 30),
        Some('t') => (&plain[..plain.len() - 1], 40),
        _ => (plain, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| BuildError::invalid(format!("invalid value for size: {text}")))
}
