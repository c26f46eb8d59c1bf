//! Events of the engine.

use super::StringMap;

wire! {
    /// One line of `GET /events`.
    pub struct EventMessage {
        /// Up to 1.51: the action again.
        status: String = "status" omitempty,
        /// Up to 1.51: the actor's id again.
        id: String = "id" omitempty,
        /// Up to 1.51: the container's image.
        from: String = "from" omitempty,
        kind: String = "Type",
        action: String = "Action",
        actor: EventActor = "Actor",
        scope: String = "scope" omitempty,
        /// Seconds since the epoch.
        time: i64 = "time" omitempty,
        time_nano: i64 = "timeNano" omitempty,
    }

    /// What an event happened to.
    pub struct EventActor {
        id: String = "ID",
        attributes: Option<StringMap> = "Attributes",
    }
}
