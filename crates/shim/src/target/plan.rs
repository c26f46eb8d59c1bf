//! What the engine decides about a target: plain values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where else the lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetPlan {
    /// Whom they are sent to.
    pub address: Address,
    /// How they look.
    pub format: Format,
    /// Most bytes of lines that wait for the target; what comes beyond is dropped and counted.
    pub buffer_bytes: u64,
    /// Slow the container down for a target that takes lines slowly. A target that takes none is
    /// never waited for longer than a second.
    pub waits: bool,
    /// First pause before another attempt to connect; doubled from one to the next.
    pub retry_ms: u64,
    /// Longest pause between attempts.
    pub retry_max_ms: u64,
    /// Attempts in a row before the target is given up; without end if absent.
    pub max_retries: Option<u32>,
    /// How long a connected target may take nothing, or not confirm, before it is connected to anew; 0 for ever.
    pub stall_ms: u64,
    /// The program that resolves names and speaks TLS: called as `PROGRAM log-target resolve HOST PORT`
    /// or `PROGRAM log-target tls HOST PORT ...`.
    pub helper: Option<PathBuf>,
}

impl Default for TargetPlan {
    fn default() -> Self {
        Self {
            address: Address::Nowhere,
            format: Format::Unknown,
            buffer_bytes: 1 << 20,
            waits: true,
            retry_ms: 200,
            retry_max_ms: 30_000,
            max_retries: None,
            stall_ms: 0,
            helper: None,
        }
    }
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Address {
    /// The first of these unix sockets that exists.
    Unix {
        /// The sockets.
        paths: Vec<PathBuf>,
        /// A datagram socket; if it turns out to be the other kind, that is used.
        datagram: bool,
    },
    /// UDP.
    Udp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// TLS over TCP, through the helper.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whom to trust.
        tls: TlsPlan,
    },
    /// A kind that this build does not know: the target takes nothing.
    #[default]
    #[serde(other)]
    Nowhere,
}

/// Certificates for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsPlan {
    /// Certificates of authorities (PEM); the system's if absent.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM).
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// Trust anybody.
    pub skip_verify: bool,
}

/// How a message looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Format {
    /// Syslog messages.
    Syslog {
        /// Which form.
        form: SyslogForm,
        /// Facility, 0 to 23.
        facility: u8,
        /// Name of this host.
        hostname: String,
        /// Tag, or name of the application.
        tag: String,
        /// Offset of local time, seconds east of UTC.
        utc_offset_s: i32,
        /// Length before each message (RFC 5425) instead of a newline alone.
        counted: bool,
    },
    /// GELF 1.1.
    Gelf {
        /// Name of this host.
        hostname: String,
        /// Additional fields, with their underscores.
        extra: BTreeMap<String, String>,
        /// For datagrams.
        compression: Compression,
        /// zlib's level, -1 to 9.
        level: i32,
    },
    /// Fluentd's forward protocol.
    Fluentd {
        /// Tag.
        tag: String,
        /// What each record carries beside the line.
        record: BTreeMap<String, String>,
        /// Nanoseconds instead of seconds.
        sub_second: bool,
        /// Each message is confirmed by the receiver, and sent again if it is not.
        ack: bool,
    },
    /// The journal's native protocol.
    Journald {
        /// What each entry carries beside the line.
        fields: BTreeMap<String, String>,
    },
    /// A kind that this build does not know: nothing is sent.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The forms of a syslog message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogForm {
    /// What a local daemon takes: no host name.
    #[default]
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, whole seconds.
    Rfc5424,
    /// RFC 5424, microseconds.
    Rfc5424Micro,
}

/// Compression of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// zlib.
    Zlib,
}
