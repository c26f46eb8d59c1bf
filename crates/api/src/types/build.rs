//! Build cache.

wire! {
    /// One record of the build cache.
    pub struct BuildCache {
        id: String = "ID",
        parent: String = "Parent" omitempty,
        parents: Vec<String> = "Parents" omitempty,
        kind: String = "Type",
        description: String = "Description",
        in_use: bool = "InUse",
        shared: bool = "Shared",
        size: i64 = "Size",
        created_at: String = "CreatedAt",
        last_used_at: Option<String> = "LastUsedAt",
        usage_count: i64 = "UsageCount",
    }

    /// The answer of `POST /build/prune`.
    pub struct BuildPruneResponse {
        caches_deleted: Option<Vec<String>> = "CachesDeleted",
        space_reclaimed: u64 = "SpaceReclaimed",
    }
}
