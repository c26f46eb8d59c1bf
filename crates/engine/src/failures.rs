//! How failures of the crates below become the engine's own error: kind by kind, text kept.
use wharf_build::{BuildError, ErrorKind as BuildKind};
use wharf_net::{NetError, NetErrorKind};
use wharf_shim::client::CallError;
use wharf_shim::protocol::FaultKind;
use wharf_store::{PlatformError, ReferenceError, StoreError, StoreErrorKind};
use wharf_volume::VolumeError;

use crate::error::{Error, ErrorKind};

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::NotFound => ErrorKind::NotFound,
            StoreErrorKind::Conflict => ErrorKind::Conflict,
            StoreErrorKind::Invalid => ErrorKind::InvalidArgument,
            StoreErrorKind::Internal => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

impl From<ReferenceError> for Error {
    fn from(error: ReferenceError) -> Self {
        Error::invalid(error.to_string()).with_source(error)
    }
}

impl From<PlatformError> for Error {
    fn from(error: PlatformError) -> Self {
        Error::invalid(error.to_string()).with_source(error)
    }
}

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        let kind = match error.kind() {
            NetErrorKind::NotFound => ErrorKind::NotFound,
            NetErrorKind::Conflict => ErrorKind::Conflict,
            NetErrorKind::Forbidden => ErrorKind::Forbidden,
            NetErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
            NetErrorKind::Unimplemented => ErrorKind::Unimplemented,
            NetErrorKind::Internal => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

impl From<VolumeError> for Error {
    fn from(error: VolumeError) -> Self {
        let kind = match &error {
            VolumeError::NotFound(_) => ErrorKind::NotFound,
            VolumeError::Invalid(_) => ErrorKind::InvalidArgument,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Fault(fault) => match fault.kind {
                FaultKind::CommandNotFound | FaultKind::CommandNotExecutable | FaultKind::Invalid => {
                    ErrorKind::InvalidArgument
                }
                FaultKind::Conflict => ErrorKind::Conflict,
                FaultKind::NotFound => ErrorKind::NotFound,
                FaultKind::Unsupported => ErrorKind::Unimplemented,
                FaultKind::System => ErrorKind::Internal,
            },
            CallError::Deadline { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        let kind = match error.kind() {
            BuildKind::InvalidArgument => ErrorKind::InvalidArgument,
            BuildKind::NotFound => ErrorKind::NotFound,
            BuildKind::Unimplemented => ErrorKind::Unimplemented,
            BuildKind::Unavailable => ErrorKind::Unavailable,
            BuildKind::Unauthorized => ErrorKind::Unauthorized,
            BuildKind::StepFailed | BuildKind::Cancelled | BuildKind::Internal => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}
