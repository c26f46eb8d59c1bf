//! The lines of pull, push, load, import and build.

wire! {
    /// One line of a progress stream.
    pub struct ProgressMessage {
        stream: String = "stream" omitempty,
        status: String = "status" omitempty,
        progress_detail: Option<ProgressDetail> = "progressDetail" omitempty,
        /// The drawn bar, for clients that do not draw.
        progress: String = "progress" omitempty,
        id: String = "id" omitempty,
        from: String = "from" omitempty,
        time: i64 = "time" omitempty,
        time_nano: i64 = "timeNano" omitempty,
        /// The text of [`error_detail`](Self::error_detail) again.
        error: String = "error" omitempty,
        error_detail: Option<ErrorDetail> = "errorDetail" omitempty,
        aux: Option<serde_json::Value> = "aux" omitempty,
    }

    /// How far a step is.
    pub struct ProgressDetail {
        current: i64 = "current" omitempty,
        total: i64 = "total" omitempty,
        start: i64 = "start" omitempty,
        hide_counts: bool = "hidecounts" omitempty,
        units: String = "units" omitempty,
    }

    /// An error inside a stream.
    pub struct ErrorDetail {
        code: i64 = "code" omitempty,
        message: String = "message" omitempty,
    }

    /// The `aux` of a push.
    pub struct PushResult {
        tag: String = "Tag",
        digest: String = "Digest",
        size: i64 = "Size",
    }

    /// The `aux` of a build.
    pub struct BuildResult {
        id: String = "ID",
    }
}
