//! Namespace and network modes in Docker's syntax, parsed.
use serde::{Deserialize, Serialize};

use super::HostConfig;

/// What the network stack of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The default bridge (`bridge`, `default` or empty).
    Bridge,
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
    /// A user's network, by name or id.
    Named(String),
}

/// What the IPC namespace of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpcMode {
    /// Its own, and nobody may join it.
    Private,
    /// Its own, and others may join it.
    Shareable,
    /// Its own, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

/// What the pid namespace of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidMode {
    /// Its own.
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

/// What the UTS namespace of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtsMode {
    /// Its own.
    Private,
    /// The host's.
    Host,
}

/// What the user namespace of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsernsMode {
    /// As the engine is configured.
    Default,
    /// The host's.
    Host,
}

/// What the cgroup namespace of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupnsMode {
    /// Its own.
    Private,
    /// The host's.
    Host,
}

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartKind {
    /// Never.
    No,
    /// Always, and with the engine.
    Always,
    /// Always unless a user stopped it.
    UnlessStopped,
    /// When it failed.
    OnFailure,
}

/// The text is not a mode of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMode;

impl NetworkMode {
    /// Parses Docker's syntax; only `container:` without a name is wrong.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "default" | "bridge" => Self::Bridge,
            "none" => Self::None,
            "host" => Self::Host,
            other => match other.strip_prefix("container:") {
                Some("") => return Err(UnknownMode),
                Some(name) => Self::Container(name.to_owned()),
                None => Self::Named(other.to_owned()),
            },
        })
    }
}

impl IpcMode {
    /// Parses Docker's syntax; empty is private.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "private" => Self::Private,
            "shareable" => Self::Shareable,
            "none" => Self::None,
            "host" => Self::Host,
            other => Self::Container(container_of(other)?),
        })
    }
}

impl PidMode {
    /// Parses Docker's syntax; empty is private.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "private" => Self::Private,
            "host" => Self::Host,
            other => Self::Container(container_of(other)?),
        })
    }
}

impl UtsMode {
    /// Parses Docker's syntax; empty is private.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "" | "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => Err(UnknownMode),
        }
    }
}

impl UsernsMode {
    /// Parses Docker's syntax.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "" => Ok(Self::Default),
            "host" => Ok(Self::Host),
            _ => Err(UnknownMode),
        }
    }
}

impl CgroupnsMode {
    /// Parses Docker's syntax; empty is `None`, the host's default.
    pub fn parse(text: &str) -> Result<Option<Self>, UnknownMode> {
        match text {
            "" => Ok(None),
            "private" => Ok(Some(Self::Private)),
            "host" => Ok(Some(Self::Host)),
            _ => Err(UnknownMode),
        }
    }
}

impl RestartKind {
    /// Parses Docker's syntax; empty is `no`.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure,
            _ => return Err(UnknownMode),
        })
    }
}

/// What is done with a container whose health check fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// It is shown as unhealthy.
    #[default]
    None,
    /// It is killed; its restart policy decides what follows.
    Kill,
    /// It is stopped and started again after a pause that grows, whatever its restart policy.
    Restart,
    /// It is stopped and stays so, as when a user stops it.
    Stop,
    /// It is paused, to be looked at.
    Freeze,
}

impl OnUnhealthy {
    /// Parses what flag, field and label take; empty is `none`.
    pub fn parse(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "none" => Self::None,
            "kill" => Self::Kill,
            "restart" => Self::Restart,
            "stop" => Self::Stop,
            "freeze" => Self::Freeze,
            _ => return Err(UnknownMode),
        })
    }
}

impl HostConfig {
    /// The network mode; create has validated it.
    pub fn network(&self) -> NetworkMode {
        NetworkMode::parse(&self.network_mode).unwrap_or(NetworkMode::Bridge)
    }

    /// The restart policy's kind; create has validated it.
    pub fn restart(&self) -> RestartKind {
        RestartKind::parse(&self.restart_policy.name).unwrap_or(RestartKind::No)
    }
}

fn container_of(text: &str) -> Result<String, UnknownMode> {
    match text.strip_prefix("container:") {
        None | Some("") => Err(UnknownMode),
        Some(name) => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_parse_as_docker_writes_them() {
        assert_eq!(NetworkMode::parse("default"), Ok(NetworkMode::Bridge));
        assert_eq!(NetworkMode::parse("container:"), Err(UnknownMode));
        assert_eq!(NetworkMode::parse("web"), Ok(NetworkMode::Named("web".into())));
        assert_eq!(IpcMode::parse("bogus"), Err(UnknownMode));
        assert_eq!(IpcMode::parse("container:a"), Ok(IpcMode::Container("a".into())));
        assert_eq!(PidMode::parse("container:"), Err(UnknownMode));
        assert_eq!(CgroupnsMode::parse(""), Ok(None));
        assert_eq!(RestartKind::parse("sometimes"), Err(UnknownMode));
        assert_eq!(OnUnhealthy::parse("freeze"), Ok(OnUnhealthy::Freeze));
        assert_eq!(OnUnhealthy::parse("reboot"), Err(UnknownMode));
    }
}
