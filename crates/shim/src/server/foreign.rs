//! Containers made by another OCI runtime, through runc's command line.

use std::path::{Path, PathBuf};

use wharf_runtime::Stdio;

use super::container::Made;
use super::home::Home;
use super::stdio::OurEnds;
use crate::plan::{ExecPlan, LaunchPlan};
use crate::protocol::{Fault, FaultKind};

/// A container of a foreign runtime.
#[derive(Debug)]
pub(super) struct Foreign {
    _path: PathBuf,
}

impl Foreign {
    pub(super) fn create(
        _plan: &LaunchPlan,
        _runtime: (&Path, &[String], &Path),
        _home: &Home,
    ) -> Result<(Self, Made), Fault> {
        Err(unsupported())
    }

    pub(super) fn start(&self) -> Result<(), Fault> {
        Err(unsupported())
    }

    pub(super) fn exec(&self, _plan: &ExecPlan, _stdio: Stdio, _ends: OurEnds) -> Result<Made, Fault> {
        Err(unsupported())
    }

    pub(super) fn delete(&self) -> Result<(), Fault> {
        Err(unsupported())
    }
}

fn unsupported() -> Fault {
    Fault {
        kind: FaultKind::Unsupported,
        message: "foreign runtimes are not supported yet".into(),
        ..Fault::default()
    }
}
