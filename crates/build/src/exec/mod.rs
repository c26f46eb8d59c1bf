//! Carrying a plan out: stage by stage, step by step.
//!
//! Every step goes the same way: expand its variables, compute its key, look in the cache, else do
//! it in a fresh upper directory and commit that as a layer, remember it, note it in the history.

mod files;
mod job;
pub(crate) mod metadata;
mod mounts;
mod remote;
mod run;
mod state;
mod stubs;

pub(crate) use mounts::drop_cache_mounts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_store::{
    Digest, Image, Layer, LayerSource, Lease, NewImage, Platform, Reference, StoreError, StoreErrorKind,
};
use wharf_sys::path::RootDir;

use crate::args::BuildArgs;
use crate::cache::{BuildCache, CacheKey, Made, MadeLayer};
use crate::context::Context;
use crate::dockerfile::Step;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{Arg, Instruction, Workdir};
use crate::plan::{Base, Plan, PlannedStage};
use crate::rootfs::{open_layers, open_writable};
use crate::scratch::{Scratch, StepDir, sweep};
use crate::transfer::ensure_dirs;
use crate::{BuildError, BuildRequest, ErrorKind, Event, ImageRequest, Services};
pub(crate) use state::StageState;

/// How long the build's lease lasts without being extended; each step extends it.
const LEASE_TIME: Duration = Duration::from_secs(24 * 3600);

/// One build under way.
pub(crate) struct Executor<'a> {
    request: &'a BuildRequest,
    services: Services<'a>,
    plan: &'a Plan,
    context: &'a Context,
    cache: BuildCache<'a>,
    lease: Lease,
    lease_extended: Instant,
    scratch: Scratch,
    /// Whether the cache has grown.
    remembered: bool,
    /// Finished stages by their position in the Dockerfile.
    finished: BTreeMap<usize, StageState>,
    /// Number of the last step shown.
    shown: usize,
    /// Arguments used by finished stages.
    args: BuildArgs,
}

/// The stage under way.
pub(crate) struct Stage {
    pub(crate) index: usize,
    pub(crate) state: StageState,
    pub(crate) args: BuildArgs,
}

impl<'a> Executor<'a> {
    /// Prepares for `plan`: sweeps what dead builds left, takes a lease and a directory.
    pub(crate) fn new(
        request: &'a BuildRequest,
        services: Services<'a>,
        plan: &'a Plan,
        context: &'a Context,
    ) -> Result<Self, BuildError> {
        let store = services.store;
        sweep(store.root());
        Ok(Self {
            request,
            services,
            plan,
            context,
            cache: BuildCache::new(store),
            lease: store
                .lease("build", LEASE_TIME)
                .map_err(|error| store_failed("taking a lease", error))?,
            lease_extended: Instant::now(),
            scratch: Scratch::create(store.root())?,
            remembered: false,
            finished: BTreeMap::new(),
            shown: 0,
            args: plan.args.clone(),
        })
    }

    /// Builds everything, tags the result and returns its id.
    pub(crate) fn run(mut self, tags: &[Reference]) -> Result<Digest, BuildError> {
        for global in &self.plan.globals {
            self.show_step(global);
        }
        let mut image = None;
        let last = self.plan.stages.len() - 1;
        for (position, planned) in self.plan.stages.iter().enumerate() {
            image = self.stage(planned, position == last)?;
        }
        let image = image.ok_or_else(|| BuildError::invalid("No image was generated. Is your Dockerfile empty?"))?;
        self.warn_unused();
        self.emit(Event::Built {
            image: image.to_string(),
        });
        self.tag(&image, tags)?;
        if self.remembered {
            self.cache.trim()?;
        }
        Ok(image)
    }

    /// Builds one stage; the last one becomes an image.
    fn stage(&mut self, planned: &PlannedStage, is_last: bool) -> Result<Option<Digest>, BuildError> {
        self.show_step(&planned.original);
        let mut stage = Stage {
            index: planned.index,
            state: self.base(planned)?,
            args: self.args.for_stage(),
        };
        self.triggers(&mut stage)?;
        let mut image = None;
        if is_last && planned.steps.is_empty() {
            image = self.finish(&mut stage)?;
        }
        self.show_done(&stage)?;
        for (position, step) in planned.steps.iter().enumerate() {
            self.show_step(&step.original);
            self.step(step, &mut stage)?;
            if is_last && position + 1 == planned.steps.len() {
                image = self.finish(&mut stage)?;
            }
            self.show_done(&stage)?;
        }
        if let Some(image) = &image {
            self.emit(Event::StageDone {
                image: image.to_string(),
            });
        }
        self.args.merge_used(&stage.args);
        self.finished.insert(planned.index, stage.state);
        Ok(image)
    }

    /// What the stage begins with.
    fn base(&mut self, planned: &PlannedStage) -> Result<StageState, BuildError> {
        match &planned.base {
            Base::Scratch => Ok(StageState::scratch(self.plan.platform.clone())),
            Base::Stage(index) => Ok(self.finished_stage(*index)?.as_base()),
            Base::Image(name) => self.image(name, planned.platform.as_deref()),
        }
    }

    fn finished_stage(&self, index: usize) -> Result<&StageState, BuildError> {
        self.finished
            .get(&index)
            .ok_or_else(|| BuildError::invalid(format!("stage {index} is not built before it is used")))
    }

    /// Fetches an image and protects all it consists of.
    fn image(&self, name: &str, platform: Option<&str>) -> Result<StageState, BuildError> {
        let store = self.services.store;
        let wanted = platform.or(self.request.platform.as_deref());
        let wanted = wanted.filter(|text| !text.is_empty());
        let failed = |error: StoreError| store_failed(&format!("reading image {name}"), error);
        let image = self.protected_image(name, wanted)?;
        let wanted = wanted
            .map(Platform::parse)
            .transpose()
            .map_err(|error| BuildError::invalid(error.to_string()).with_source(error))?;
        let content = image.platform(wanted.as_ref()).map_err(failed)?;
        store.ensure_unpacked(&self.lease, content).map_err(failed)?;
        Ok(StageState::image(&image.id, content))
    }

    /// Asks for the image and takes it under the lease. One that a prune took away between the two
    /// is asked for again.
    fn protected_image(&self, name: &str, platform: Option<&str>) -> Result<Arc<Image>, BuildError> {
        const ATTEMPTS: usize = 5;
        let asked = ImageRequest {
            reference: name,
            platform,
            refresh: self.request.pull,
            lease: &self.lease,
        };
        let failed = |error: StoreError| store_failed(&format!("reading image {name}"), error);
        let mut attempt = 1;
        loop {
            let id = self
                .services
                .images
                .provide(&asked, self.services.events)
                .map_err(|error| BuildError::new(error.kind, error.message.clone()).with_source(error))?;
            let id = Digest::parse(&id).map_err(|error| failed(error.into()))?;
            self.lease.protect(&id).map_err(failed)?;
            match self.services.store.image(&id) {
                Err(error) if error.kind() == StoreErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
                other => return other.map_err(failed),
            }
        }
    }

    /// Carries out the triggers that the base image left.
    fn triggers(&mut self, stage: &mut Stage) -> Result<(), BuildError> {
        let triggers = metadata::take_triggers(&mut stage.state);
        if triggers.is_empty() {
            return Ok(());
        }
        self.emit(Event::Triggers { count: triggers.len() });
        for trigger in triggers {
            self.step(&Step::parse_trigger(&trigger)?, stage)?;
        }
        Ok(())
    }

    /// Carries out one step.
    fn step(&mut self, step: &Step, stage: &mut Stage) -> Result<(), BuildError> {
        if self.request.cancel.is_cancelled() {
            return Err(cancelled());
        }
        self.extend_lease()?;
        let value = |name: &str| stage.state.variable(name).or_else(|| stage.args.value(name));
        let expander = Expander::new(self.plan.escape, &value);
        let expanded = step.instruction.expand(&expander)?;
        match &expanded {
            Instruction::Arg(arg) => self.arg(arg, stage),
            Instruction::Run(run) => self.run_step(run, stage),
            Instruction::Copy(copy) => self.copy_step(copy, stage),
            Instruction::Add(add) => self.add_step(add, stage),
            Instruction::Workdir(workdir) => self.workdir(workdir, stage),
            other => self.metadata(other, stage),
        }
    }

    /// Moves the lease's deadline once in a while.
    fn extend_lease(&mut self) -> Result<(), BuildError> {
        if self.lease_extended.elapsed() < LEASE_TIME / 48 {
            return Ok(());
        }
        self.lease_extended = Instant::now();
        self.lease
            .extend(LEASE_TIME)
            .map_err(|error| store_failed("extending the build's lease", error))
    }

    /// Declares arguments.
    fn arg(&mut self, arg: &Arg, stage: &mut Stage) -> Result<(), BuildError> {
        for (name, default) in &arg.declared {
            stage.args.declare(name, default.clone());
        }
        let state = stage.state.clone();
        self.note(&state, arg.describe(), stage)
    }

    /// Changes the configuration alone.
    fn metadata(&mut self, instruction: &Instruction, stage: &mut Stage) -> Result<(), BuildError> {
        let before = stage.state.clone();
        let text = metadata::apply(&mut stage.state, instruction)?;
        let text = text.expect("invariant: other instructions have their own step");
        self.note(&before, text, stage)
    }

    /// Makes the working directory.
    fn workdir(&mut self, workdir: &Workdir, stage: &mut Stage) -> Result<(), BuildError> {
        let before = stage.state.clone();
        change_working_dir(&mut stage.state, workdir);
        let dir = stage.state.config.working_dir.clone();
        let text = format!("WORKDIR {dir}");
        let created_by = no_operation(&stage.state, &text);
        let key = CacheKey::of(&before.identity()?, &[&text]);
        self.layer(&key, created_by, stage, |root| {
            ensure_dirs(root, &files::in_root(&dir), (0, 0))
        })
    }

    /// Ends a step that made no layer: takes its time from the cache or sets it.
    fn note(&mut self, before: &StageState, text: String, stage: &mut Stage) -> Result<(), BuildError> {
        let key = CacheKey::of(&before.identity()?, &[&text]);
        let created_by = no_operation(&stage.state, &text);
        if let Some(made) = self.find(&key)? {
            stage.state.record(made.created, created_by, None);
            return Ok(());
        }
        self.keep(&key, created_by, None, stage)
    }

    /// A step that changes files by a function: from the cache, or done and committed.
    fn layer(
        &mut self,
        key: &CacheKey,
        created_by: String,
        stage: &mut Stage,
        change: impl FnOnce(&RootDir) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        if self.take_cached(key, &created_by, stage)? {
            return Ok(());
        }
        let dir = self.scratch.step()?;
        let lower = stage.state.lower_dirs(self.services.store);
        let root = open_writable(&lower, &dir.upper, &dir.work)?;
        change(&root)?;
        // ORDER: the mount ends before its upper directory becomes a layer.
        drop(root);
        let layer = self.commit(&dir)?;
        self.keep(key, created_by, layer, stage)
    }

    /// Takes a step's result from the cache if it is there.
    fn take_cached(&self, key: &CacheKey, created_by: &str, stage: &mut Stage) -> Result<bool, BuildError> {
        let Some(made) = self.find(key)? else {
            return Ok(false);
        };
        let layer = made.layer.map(|layer| Layer {
            diff_id: layer.diff_id,
            blob: layer.blob,
        });
        stage.state.record(made.created, created_by.into(), layer);
        Ok(true)
    }

    fn find(&self, key: &CacheKey) -> Result<Option<Made>, BuildError> {
        if self.request.no_cache {
            return Ok(None);
        }
        let found = self.cache.find(key, &self.lease)?;
        if found.is_some() {
            self.emit(Event::CacheHit);
        }
        Ok(found)
    }

    /// Turns a step's changes into a layer; `None` when there are none.
    fn commit(&self, dir: &StepDir) -> Result<Option<Layer>, BuildError> {
        if dir.is_unchanged()? {
            return Ok(None);
        }
        self.services
            .store
            .commit_layer(&self.lease, LayerSource::Consume(&dir.upper))
            .map(Some)
            .map_err(|error| store_failed("committing a layer", error))
    }

    /// Remembers a step that was done now and notes it in the history.
    fn keep(
        &mut self,
        key: &CacheKey,
        created_by: String,
        layer: Option<Layer>,
        stage: &mut Stage,
    ) -> Result<(), BuildError> {
        let created = jiff::Timestamp::now().to_string();
        let made = Made {
            created: created.clone(),
            layer: layer.as_ref().map(|layer| MadeLayer {
                diff_id: layer.diff_id.clone(),
                blob: layer.blob.clone(),
            }),
            description: created_by.clone(),
        };
        self.cache.remember(key, &made)?;
        self.remembered = true;
        stage.state.record(created, created_by, layer);
        Ok(())
    }

    /// Makes the image of the finished stage; `None` where there is nothing at all.
    fn finish(&self, stage: &mut Stage) -> Result<Option<Digest>, BuildError> {
        let state = &mut stage.state;
        if state.history.is_empty() && state.unchanged.is_none() {
            return Ok(None);
        }
        if state.unchanged.is_none() {
            let image = self
                .services
                .store
                .create_image(
                    &self.lease,
                    NewImage {
                        config: state.image_config(),
                        layers: &state.layers,
                        name: None,
                        parent: state.base.as_ref(),
                    },
                )
                .map_err(|error| store_failed("creating the image", error))?;
            state.unchanged = Some(image.id.clone());
        }
        Ok(state.unchanged.clone())
    }

    fn tag(&self, image: &Digest, tags: &[Reference]) -> Result<(), BuildError> {
        for tag in tags {
            self.services
                .store
                .tag(image, tag)
                .map_err(|error| store_failed(&format!("tagging {}", tag.familiar()), error))?;
            self.emit(Event::Tagged { name: tag.familiar() });
        }
        Ok(())
    }

    fn warn_unused(&self) {
        let unused = self.args.unused();
        if !unused.is_empty() {
            let names = unused.join(" ");
            self.emit(Event::Warning {
                text: format!("[Warning] One or more build-args [{names}] were not consumed"),
            });
        }
    }

    fn show_step(&mut self, text: &str) {
        self.shown += 1;
        self.emit(Event::StepStarted {
            index: self.shown,
            total: self.plan.total,
            text: text.into(),
        });
    }

    fn show_done(&self, stage: &Stage) -> Result<(), BuildError> {
        let state = &stage.state;
        let nothing = state.history.is_empty() && state.unchanged.is_none();
        let image = match nothing {
            true => None,
            false => Some(state.shown_id()?),
        };
        self.emit(Event::StepDone { image });
        Ok(())
    }

    /// The merged tree of a state, for reading.
    fn open_state(&self, state: &StageState) -> Result<RootDir, BuildError> {
        let lower = state.lower_dirs(self.services.store);
        open_layers(&lower, &self.scratch.empty())
    }

    fn emit(&self, event: Event) {
        self.services.events.emit(event);
    }
}

/// Sets the working directory; a relative one begins at the one before.
pub(crate) fn change_working_dir(state: &mut StageState, workdir: &Workdir) {
    let path = files::absolute(state.working_dir(), &workdir.path);
    state.config.working_dir = match path.trim_end_matches('/') {
        "" => "/".into(),
        path => path.into(),
    };
}

/// How the history shows a step that runs nothing. COMPAT: the classic builder's form.
fn no_operation(state: &StageState, text: &str) -> String {
    format!("{} #(nop)  {text}", state.shell().join(" "))
}

/// The error of a build that was asked to stop.
fn cancelled() -> BuildError {
    BuildError::new(ErrorKind::Cancelled, "build cancelled")
}

/// A failure of the store, with its kind.
pub(crate) fn store_failed(action: &str, error: StoreError) -> BuildError {
    let kind = match error.kind() {
        StoreErrorKind::NotFound => ErrorKind::NotFound,
        StoreErrorKind::Invalid => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    };
    BuildError::new(kind, format!("{action}: {error}")).with_source(error)
}
