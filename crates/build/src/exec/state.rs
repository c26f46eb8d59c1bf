//! What a stage is at one moment: its layers and its configuration.

use std::path::PathBuf;

use serde_json::{Map, Value};
use wharf_store::{Digest, History, ImageConfig, Layer, Platform, PlatformImage, RunConfig, Store};

use crate::BuildError;
use crate::args::is_set;

/// The shell of commands in shell form, unless SHELL says otherwise.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The search path of images that set none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage between two steps.
#[derive(Clone, Debug)]
pub(crate) struct StageState {
    /// Bottom first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: RunConfig,
    pub(crate) history: Vec<History>,
    pub(crate) author: Option<String>,
    pub(crate) created: Option<String>,
    pub(crate) platform: Platform,
    /// Whether this stage has its own CMD, which ENTRYPOINT then leaves alone.
    pub(crate) cmd_set: bool,
    /// The image it began with.
    pub(crate) base: Option<Digest>,
    /// The image it is, as long as nothing was changed.
    pub(crate) unchanged: Option<Digest>,
}

impl StageState {
    /// Nothing at all.
    pub(crate) fn scratch(platform: Platform) -> Self {
        let mut state = Self::of_config(RunConfig::default(), platform);
        state.set_default_path();
        state
    }

    /// A configuration without layers.
    pub(crate) fn of_config(config: RunConfig, platform: Platform) -> Self {
        Self {
            layers: Vec::new(),
            config,
            history: Vec::new(),
            author: None,
            created: None,
            platform,
            cmd_set: false,
            base: None,
            unchanged: None,
        }
    }

    /// An image.
    pub(crate) fn image(id: &Digest, image: &PlatformImage) -> Self {
        let mut state = Self {
            layers: image.layers.clone(),
            config: image.config.config.clone(),
            history: image.config.history.clone(),
            author: image.config.author.clone(),
            created: image.config.created.clone(),
            platform: image.platform.clone(),
            cmd_set: false,
            base: Some(id.clone()),
            unchanged: Some(id.clone()),
        };
        state.set_default_path();
        state
    }

    /// The same, as the base of a further stage.
    pub(crate) fn as_base(&self) -> Self {
        Self {
            cmd_set: false,
            ..self.clone()
        }
    }

    fn set_default_path(&mut self) {
        let env = self.config.env.get_or_insert_default();
        if !is_set(env, "PATH") {
            env.push(DEFAULT_PATH.into());
        }
    }

    /// `NAME=value` lines.
    pub(crate) fn env(&self) -> &[String] {
        self.config.env.as_deref().unwrap_or_default()
    }

    /// The value of a variable.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.env()
            .iter()
            .rev()
            .find_map(|entry| entry.split_once('=').filter(|(n, _)| *n == name))
            .map(|(_, value)| value.to_string())
    }

    /// The shell in force.
    pub(crate) fn shell(&self) -> Vec<String> {
        let default = || DEFAULT_SHELL.map(str::to_string).to_vec();
        self.config.shell.clone().unwrap_or_else(default)
    }

    /// The working directory, absolute.
    pub(crate) fn working_dir(&self) -> &str {
        match self.config.working_dir.as_str() {
            "" => "/",
            dir => dir,
        }
    }

    /// Identifies content and configuration, however they came about: the root of cache keys.
    pub(crate) fn identity(&self) -> Result<Digest, BuildError> {
        let diff_ids: Vec<&Digest> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let platform = format!("{:?}", self.platform);
        let text = serde_json::to_vec(&(diff_ids, &self.config, &self.author, platform))
            .map_err(|error| BuildError::internal("writing a configuration", error))?;
        Ok(Digest::of(&text))
    }

    /// The image configuration; the store fills in the layers.
    pub(crate) fn image_config(&self) -> ImageConfig {
        ImageConfig {
            created: self.created.clone(),
            author: self.author.clone(),
            architecture: self.platform.architecture.clone(),
            variant: self.platform.variant.clone(),
            os: self.platform.os.clone(),
            os_version: self.platform.os_version.clone(),
            config: self.config.clone(),
            history: self.history.clone(),
            other: Map::<String, Value>::new(),
            ..ImageConfig::default()
        }
    }

    /// The id to show for a step that is not the last: of the configuration as it is now.
    pub(crate) fn shown_id(&self) -> Result<String, BuildError> {
        if let Some(id) = &self.unchanged {
            return Ok(id.to_string());
        }
        let mut config = self.image_config();
        config.rootfs.diff_ids = self.layers.iter().map(|l| l.diff_id.clone()).collect();
        let text =
            serde_json::to_vec(&config).map_err(|error| BuildError::internal("writing a configuration", error))?;
        Ok(Digest::of(&text).to_string())
    }

    /// Layer directories, topmost first.
    pub(crate) fn lower_dirs(&self, store: &Store) -> Vec<PathBuf> {
        let layers = self.layers.iter().rev();
        wharf_store::stack(layers.map(|layer| store.layer_dir(&layer.diff_id)))
    }

    /// Notes a finished step.
    pub(crate) fn record(&mut self, created: String, created_by: String, layer: Option<Layer>) {
        self.unchanged = None;
        self.created = Some(created.clone());
        self.history.push(History {
            created: Some(created),
            created_by: Some(created_by),
            author: self.author.clone(),
            comment: None,
            empty_layer: layer.is_none(),
        });
        self.layers.extend(layer);
    }
}
