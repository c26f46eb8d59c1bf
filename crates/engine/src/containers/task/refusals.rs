//! Why a container's task refuses an input, in Docker's words.
use super::super::machine::{Input, Refusal};
use super::Task;
use crate::error::Error;

impl Task {
    /// COMPAT: the texts are Docker's; clients match on them.
    pub(super) fn refusal(&self, refusal: Refusal, input: Input) -> Error {
        let (id, name) = (&self.record.id, &self.record.name);
        match (refusal, input) {
            (Refusal::AlreadyRunning, _) => Error::not_modified(format!("container {id} is already running")),
            (Refusal::NotRunning, Input::Stop { .. } | Input::ShutDown { .. }) => {
                Error::not_modified(format!("container {id} is already stopped"))
            }
            (Refusal::NotRunning, Input::Kill { .. }) => {
                Error::conflict(format!("cannot kill container: {name}: container {id} is not running"))
            }
            (Refusal::NotRunning, _) => Error::conflict(format!("container {id} is not running")),
            (Refusal::Paused, Input::Start) => Error::conflict("cannot start a paused container, try unpause instead"),
            (Refusal::Paused, _) => Error::conflict(format!(
                "cannot remove container \"{name}\": container is paused and must be unpaused first"
            )),
            (Refusal::AlreadyPaused, _) => Error::conflict(format!("container {id} is already paused")),
            (Refusal::NotPaused, _) => Error::conflict(format!("Container {id} is not paused")),
            (Refusal::Running, _) => Error::conflict(format!(
                "cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
            )),
            (Refusal::Restarting, Input::Remove { .. }) => Error::conflict(format!(
                "cannot remove container \"{name}\": container is restarting: stop the container before removing or force remove"
            )),
            (Refusal::Restarting, _) => Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            )),
            (Refusal::RemovalInProgress, Input::Remove { .. }) => {
                Error::conflict(format!("removal of container {name} is already in progress"))
            }
            (Refusal::RemovalInProgress, _) => Error::conflict("container is marked for removal and cannot be started"),
            (Refusal::Busy, _) => Error::conflict(format!("container {id} is being started")),
        }
    }
}
