//! Images: the service that callers use. The store owns what is on disk; here are the rules
//! about use by containers, the filters, the events and the embedded image.
mod hello;
mod pattern;
mod removal;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wharf_store::{GcScope, HistoryRow, Image, Platform, PlatformImage, Reference, Removed, Store, StoreError};

use crate::Shared;
use crate::containers::Containers;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::model::requests::PruneReport;
use crate::model::{ContainerRecord, EventKind, Timestamp};
use crate::operations::{self, OperationKind};

use removal::Question;

pub use transfer::{ImportImage, PullImage, PullOutcome};

const LIST_KEYS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];
const PRUNE_KEYS: [&str; 4] = ["dangling", "label", "label!", "until"];

/// An image in a list.
#[derive(Clone, Debug)]
pub struct ImageListed {
    /// The image.
    pub image: Arc<Image>,
    /// Its names, only those that the `reference` filter lets through.
    pub tags: Vec<Reference>,
    /// Its names by digest, only those of the same repositories.
    pub digests: Vec<Reference>,
    /// Containers made from it.
    pub containers: usize,
    /// Bytes of its layers that other images have too, when asked.
    pub shared_size: Option<u64>,
}

/// Whether a list also sums what images share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedSizes {
    /// It costs a look at every image's layers.
    Sum,
    /// Left out.
    Skip,
}

/// What a prune of images removed.
#[derive(Clone, Debug, Default)]
pub struct ImagePruneReport {
    /// Names and images that are gone.
    pub removed: Vec<Removed>,
    /// Bytes freed.
    pub space_reclaimed: u64,
}

/// The images of an engine. Names in arguments are names, ids or unique id prefixes.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
}

impl Images {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// An image that is here.
    pub async fn find(&self, name: &str) -> Result<Arc<Image>> {
        let name = name.to_owned();
        self.call(move |store| store.resolve(&name)).await
    }

    /// An image that is here, or the embedded one, which is made when its name is used first.
    pub async fn resolve(&self, name: &str) -> Result<Arc<Image>> {
        match self.find(name).await {
            Err(error) if error.kind() == crate::ErrorKind::NotFound && hello::is_meant_by(name) => {
                self.make_embedded().await
            }
            found => found,
        }
    }

    /// The embedded image, if `name` means it.
    pub async fn embedded(&self, name: &str) -> Result<Option<Arc<Image>>> {
        if !hello::is_meant_by(name) {
            return Ok(None);
        }
        match self.find(name).await {
            Ok(image) => Ok(Some(image)),
            Err(_) => self.make_embedded().await.map(Some),
        }
    }

    /// Images that match, newest first.
    pub async fn list(&self, filters: &Filters, shared_sizes: SharedSizes) -> Result<Vec<ImageListed>> {
        filters.check_keys(&LIST_KEYS)?;
        let conditions = self.conditions(filters).await?;
        let images = self.call(Store::images).await?;
        let shared = match shared_sizes {
            SharedSizes::Sum => Some(self.call(Store::layer_sizes).await?),
            SharedSizes::Skip => None,
        };
        let users = layer_users(&images);
        let containers = self.containers();
        let mut listed: Vec<ImageListed> = images
            .iter()
            .filter_map(|image| {
                let (tags, digests) = conditions.admit(image, filters)?;
                let containers = containers.iter().filter(|c| c.image_id == image.id.as_str()).count();
                let shared_size = shared.as_ref().map(|sizes| shared_bytes(image, &users, sizes));
                Some(ImageListed {
                    image: Arc::clone(image),
                    tags,
                    digests,
                    containers,
                    shared_size,
                })
            })
            .collect();
        listed.sort_by_key(|listed| std::cmp::Reverse(created_at(&listed.image)));
        Ok(listed)
    }

    /// How an image came to be, newest step first.
    pub async fn history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryRow>> {
        let name = name.to_owned();
        self.call(move |store| {
            let image = store.resolve(&name)?;
            let content = Arc::clone(image.platform(platform.as_ref())?);
            store.history(&image, &content)
        })
        .await
    }

    /// Gives an image another name.
    pub async fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        let name = parse_target(repository, tag)?;
        let source = source.to_owned();
        let work = self.call(move |store| {
            let image = store.resolve(&source)?;
            store.tag(&image.id, &name)?;
            Ok((image.id.clone(), name))
        });
        let target = format!("{repository}:{tag}");
        let (id, name) = self
            .shared
            .operations
            .run_here(OperationKind::ImageTag, target, work)
            .await?;
        self.publish("tag", id.as_str(), &name.familiar());
        Ok(())
    }

    /// Removes a name, or an image with all its names.
    pub async fn remove(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let (service, name) = (self.clone(), name.to_owned());
        let target = name.clone();
        let work = async move { service.remove_now(&name, force).await };
        self.shared
            .operations
            .run(OperationKind::ImageRemove, target, work)
            .await
    }

    async fn remove_now(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let asked = name.to_owned();
        let plan = self.call(move |store| store.plan_removal(&asked)).await?;
        let id = plan.image.id.to_string();
        let (running, stopped) = self.users_of(&id);
        let repositories: BTreeSet<String> = plan.image.tags.iter().map(Reference::name).collect();
        let mode = removal::decide(&Question {
            asked: name,
            image: &id,
            by_name: plan.named.is_some(),
            deletes: plan.deletes,
            repositories: repositories.len(),
            running,
            stopped,
            force,
        })?;
        // A container may have been made of it since the decision.
        let service = self.clone();
        let removed = self
            .call(move |store| {
                let is_used = || {
                    let (running, stopped) = service.users_of(plan.image.id.as_str());
                    !running.is_empty() || !stopped.is_empty()
                };
                store.remove_unless(&plan, mode, is_used)
            })
            .await?;
        self.publish_removed(&id, &removed);
        Ok(removed)
    }

    /// Removes images that no container uses: those without a name, or (`dangling=false`) all.
    pub async fn prune(&self, filters: &Filters) -> Result<ImagePruneReport> {
        filters.check_keys(&PRUNE_KEYS)?;
        let only_dangling = filters.flag("dangling")?.unwrap_or(true);
        let until = filters.until(Timestamp::now())?;
        let mut report = ImagePruneReport::default();
        for image in self.call(Store::images).await? {
            let labels = labels_of(&image);
            let wanted = filters.match_labels(&labels)
                && filters.match_unlabelled(&labels)
                && until.is_none_or(|until| created_at(&image) < until)
                && (!only_dangling || image.is_dangling());
            let (running, stopped) = self.users_of(image.id.as_str());
            if !wanted || !running.is_empty() || !stopped.is_empty() {
                continue;
            }
            match self.remove(image.id.as_str(), true).await {
                Ok(removed) => {
                    report.space_reclaimed += image.size();
                    report.removed.extend(removed);
                }
                Err(error) => tracing::warn!(image = %image.id, "not pruned: {}", error.chain()),
            }
        }
        // Also what interrupted pulls and builds left; content in use is protected by leases.
        let images = self.clone();
        let collected = async move { images.call(|store| store.gc(GcScope::Everything)).await };
        let operations = &self.shared.operations;
        let rest = operations.run(OperationKind::Prune, "images", collected).await?;
        report.space_reclaimed += rest.bytes;
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
        self.shared.events.publish(EventKind::Image, "prune", "", reclaimed);
        Ok(report)
    }

    /// Bytes of content and layers on disk.
    pub async fn disk_usage(&self) -> Result<u64> {
        self.call(Store::disk_usage).await
    }

    async fn make_embedded(&self) -> Result<Arc<Image>> {
        let shim = self.shared.config.shim_binary.clone();
        let _waiting = operations::waiting("the image store");
        let store = self.shared.store.clone();
        match tokio::task::spawn_blocking(move || hello::make(&store, &shim)).await {
            Ok(result) => result,
            Err(join) => Err(Error::internal("making the embedded image was interrupted").with_source(join)),
        }
    }

    /// Runs a store operation on a thread where blocking is allowed.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T> {
        let store = self.shared.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(Error::from),
            Err(join) => Err(Error::internal("an image operation was interrupted").with_source(join)),
        }
    }

    fn containers(&self) -> Vec<Arc<ContainerRecord>> {
        Containers::new(Arc::clone(&self.shared)).snapshots()
    }

    /// Running and other containers of an image.
    fn users_of(&self, image: &str) -> (Vec<String>, Vec<String>) {
        let users: Vec<_> = self.containers().into_iter().filter(|c| c.image_id == image).collect();
        let (running, stopped): (Vec<_>, Vec<_>) = users.iter().partition(|c| c.state.is_running());
        let ids = |list: Vec<&Arc<ContainerRecord>>| list.into_iter().map(|c| c.id.to_string()).collect();
        (ids(running), ids(stopped))
    }

    /// Reads the conditions that need other images.
    async fn conditions(&self, filters: &Filters) -> Result<Conditions> {
        let now = Timestamp::now();
        let mut conditions = Conditions {
            dangling: filters.flag("dangling")?,
            before: filters.until(now)?,
            since: None,
        };
        for name in filters.values("before") {
            let created = created_at(&*self.find(name).await?);
            conditions.before = Some(conditions.before.map_or(created, |before| before.min(created)));
        }
        for name in filters.values("since") {
            let created = created_at(&*self.find(name).await?);
            conditions.since = Some(conditions.since.map_or(created, |since| since.max(created)));
        }
        Ok(conditions)
    }

    fn publish(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.shared.events.publish(EventKind::Image, action, id, attributes);
    }

    fn publish_removed(&self, id: &str, removed: &[Removed]) {
        for line in removed {
            match line {
                Removed::Untagged(name) => self.publish("untag", id, &name.familiar()),
                Removed::Deleted(digest) => self.publish("delete", digest.as_str(), digest.as_str()),
            }
        }
    }
}

/// The conditions of a list, read.
struct Conditions {
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Conditions {
    /// The names to show, by tag and by digest, if the image is to be shown.
    fn admit(&self, image: &Image, filters: &Filters) -> Option<(Vec<Reference>, Vec<Reference>)> {
        let created = created_at(image);
        let labels = labels_of(image);
        let admitted = self.dangling.is_none_or(|wanted| wanted == image.tags.is_empty())
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && filters.match_labels(&labels)
            && filters.match_unlabelled(&labels);
        if !admitted {
            return None;
        }
        if filters.is_open("reference") {
            return Some((image.tags.clone(), image.repo_digests.clone()));
        }
        let fits = |name: &Reference| {
            filters
                .values("reference")
                .any(|want| pattern::reference_matches(want, name))
        };
        let tags: Vec<Reference> = image.tags.iter().filter(|tag| fits(tag)).cloned().collect();
        let belongs = |digest: &&Reference| fits(digest) || tags.iter().any(|tag| tag.same_repository(digest));
        let digests: Vec<Reference> = image.repo_digests.iter().filter(belongs).cloned().collect();
        (!tags.is_empty() || !digests.is_empty()).then_some((tags, digests))
    }
}

/// The content of an image that describes it: the host's platform, else the first.
pub fn described_by(image: &Image) -> Option<&Arc<PlatformImage>> {
    image.platform(None).ok().or_else(|| image.platforms.first())
}

/// When an image was made, by its own word.
pub fn created_at(image: &Image) -> Timestamp {
    let text = described_by(image).and_then(|content| content.config.created.clone());
    text.and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .map_or_else(Timestamp::default, Timestamp::from_nanos)
}

/// The labels of an image.
pub fn labels_of(image: &Image) -> BTreeMap<String, String> {
    described_by(image)
        .map(|content| content.config.labels())
        .unwrap_or_default()
}

/// A repository and a tag as clients send them, as one name. An empty tag means `latest`.
pub fn parse_target(repository: &str, tag: &str) -> Result<Reference> {
    let name = Reference::parse(repository)?;
    if name.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if tag.is_empty() {
        return Ok(name.tagged());
    }
    Ok(name.with_tag(tag)?)
}

type LayerUsers = BTreeMap<wharf_store::Digest, usize>;

/// In how many images each layer is.
fn layer_users(images: &[Arc<Image>]) -> LayerUsers {
    let mut users = LayerUsers::new();
    for image in images {
        for layer in layers_of(image) {
            *users.entry(layer).or_default() += 1;
        }
    }
    users
}

fn layers_of(image: &Image) -> BTreeSet<wharf_store::Digest> {
    let layers = image.platforms.iter().flat_map(|content| &content.layers);
    layers.map(|layer| layer.diff_id.clone()).collect()
}

fn shared_bytes(image: &Image, users: &LayerUsers, sizes: &BTreeMap<wharf_store::Digest, u64>) -> u64 {
    let shared = layers_of(image)
        .into_iter()
        .filter(|layer| users.get(layer).is_some_and(|count| *count > 1));
    shared.filter_map(|layer| sizes.get(&layer).copied()).sum()
}

impl From<ImagePruneReport> for PruneReport {
    fn from(report: ImagePruneReport) -> Self {
        let text = |line: &Removed| match line {
            Removed::Untagged(name) => name.familiar(),
            Removed::Deleted(digest) => digest.to_string(),
        };
        Self {
            deleted: report.removed.iter().map(text).collect(),
            space_reclaimed: report.space_reclaimed,
        }
    }
}
