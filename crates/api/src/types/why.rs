//! `GET /containers/{id}/why`, which is ours: the story of one container.

use super::HealthcheckResult;

wire! {
    /// Why a container is as it is, and what to do next.
    pub struct ContainerWhy {
        id: String = "Id",
        name: String = "Name",
        /// As inspect says it, or `removed` when only events are left of it.
        status: String = "Status",
        /// In one sentence.
        summary: String = "Summary",
        /// What happened, oldest first.
        story: Vec<WhyLine> = "Story",
        /// The probes of its health check that are kept.
        probes: Vec<HealthcheckResult> = "Probes",
        /// What to do next.
        advice: Vec<String> = "Advice",
    }

    /// One thing that happened.
    pub struct WhyLine {
        /// RFC 3339 in UTC.
        time: String = "Time",
        /// Its kind.
        what: String = "What",
        /// In words.
        text: String = "Text",
    }
}
