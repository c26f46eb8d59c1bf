//! One volume driver: typed requests to its plugin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::PluginError;
use super::client::{Client, Patience};
use super::discovery::Description;
use super::protocol::{
    CapabilitiesAnswer, CreateRequest, GetAnswer, ListAnswer, Manifest, MountAnswer, MountRequest, NameRequest,
    PluginVolume, Scope, VOLUME_DRIVER, checked_mountpoint, parse,
};
use super::silence::Silence;

type Result<T, E = PluginError> = std::result::Result<T, E>;

/// A plugin that is spoken to.
#[derive(Debug)]
pub struct Driver {
    name: String,
    description: Description,
    client: Client,
    silence: Silence,
    implements: OnceCell<Vec<String>>,
    scope: OnceCell<Scope>,
}

impl Driver {
    pub(crate) fn new(name: &str, description: Description) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            client: Client::new(name, &description)?,
            description,
            silence: Silence::default(),
            implements: OnceCell::new(),
            scope: OnceCell::new(),
        })
    }

    /// Its name, that of its socket or spec file.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_described_by(&self, description: &Description) -> bool {
        self.description == *description
    }

    /// Whether it has not answered lately.
    pub fn is_silent(&self) -> bool {
        self.silence.is_silent()
    }

    /// Whether it is known to be a volume driver, without asking.
    pub(crate) fn is_active(&self) -> bool {
        self.implements
            .get()
            .is_some_and(|list| list.iter().any(|kind| kind == VOLUME_DRIVER))
    }

    /// The handshake, once; fails for a plugin that is for something else.
    pub(crate) async fn activate(&self, patience: Patience) -> Result<()> {
        let ask = || async {
            let manifest: Manifest = self
                .ask("Plugin.Activate", &serde_json::json!({}), patience)
                .await
                .map_err(in_docker_s_words)?;
            Ok(manifest.implements)
        };
        self.implements.get_or_try_init(ask).await?;
        match self.is_active() {
            true => Ok(()),
            false => Err(PluginError::NotForVolumes(self.name.clone())),
        }
    }

    /// Makes a volume.
    pub async fn create(&self, volume: &str, options: &BTreeMap<String, String>, patience: Patience) -> Result<()> {
        let body = CreateRequest { name: volume, options };
        let _: serde_json::Value = self.ask("VolumeDriver.Create", &body, patience).await?;
        Ok(())
    }

    /// Removes a volume.
    pub async fn remove(&self, volume: &str, patience: Patience) -> Result<()> {
        let body = NameRequest { name: volume };
        let _: serde_json::Value = self.ask("VolumeDriver.Remove", &body, patience).await?;
        Ok(())
    }

    /// Mounts a volume for whoever goes by `id`; answers where. A mountpoint that is no absolute path is an error,
    /// and the volume is mounted then.
    pub async fn mount(&self, volume: &str, id: &str, patience: Patience) -> Result<PathBuf> {
        const REQUEST: &str = "VolumeDriver.Mount";
        let body = MountRequest { name: volume, id };
        let answer: MountAnswer = self.ask(REQUEST, &body, patience).await?;
        checked_mountpoint(&answer.mountpoint).map_err(|reason| self.client.malformed(REQUEST, reason))
    }

    /// Takes back one [`Driver::mount`].
    pub async fn unmount(&self, volume: &str, id: &str, patience: Patience) -> Result<()> {
        let body = MountRequest { name: volume, id };
        let _: serde_json::Value = self.ask("VolumeDriver.Unmount", &body, patience).await?;
        Ok(())
    }

    /// Where a volume is mounted; empty when it is not, or the plugin does not say.
    pub async fn path(&self, volume: &str, patience: Patience) -> Result<String> {
        let body = NameRequest { name: volume };
        let answer: MountAnswer = self.ask("VolumeDriver.Path", &body, patience).await?;
        Ok(answer.mountpoint)
    }

    /// A volume; `None` when the plugin has none of this name, in whatever words it says so.
    pub async fn volume(&self, volume: &str, patience: Patience) -> Result<Option<PluginVolume>> {
        let body = NameRequest { name: volume };
        match self.ask::<GetAnswer>("VolumeDriver.Get", &body, patience).await {
            Ok(answer) => Ok(answer.volume.map(|found| PluginVolume {
                name: volume.to_owned(),
                ..found
            })),
            // COMPAT: the protocol has no word for "not found"; Docker takes every refusal for it.
            Err(PluginError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All its volumes.
    pub async fn volumes(&self, patience: Patience) -> Result<Vec<PluginVolume>> {
        let answer: ListAnswer = self.ask("VolumeDriver.List", &serde_json::json!({}), patience).await?;
        let named = answer.volumes.into_iter().flatten().filter(|v| !v.name.is_empty());
        Ok(named.collect())
    }

    /// Its scope, asked for once. COMPAT: a driver that does not know the request is local.
    pub async fn scope(&self, patience: Patience) -> Scope {
        let ask = || async {
            let body = serde_json::json!({});
            let asked = self.ask::<CapabilitiesAnswer>("VolumeDriver.Capabilities", &body, patience);
            match asked.await {
                Ok(answer) => Ok(Scope::parse(&answer.capabilities.scope)),
                Err(PluginError::Refused(_)) => Ok(Scope::Local),
                Err(error) => Err(error),
            }
        };
        self.scope.get_or_try_init(ask).await.copied().unwrap_or_default()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: &'static str,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T> {
        let asking = self.silence.asking();
        let answer = match self.client.call(request, body, patience).await {
            Ok(body) => parse(&body).map_err(|reason| self.client.malformed(request, reason)),
            Err(error) => Err(error),
        };
        match &answer {
            Err(PluginError::Silent { .. }) => drop(asking),
            Err(PluginError::Away { .. }) => asking.not_sent(),
            _ => asking.answered(),
        }
        answer
    }
}

/// COMPAT: Docker calls a plugin of this protocol a legacy one when it cannot be activated.
fn in_docker_s_words(error: PluginError) -> PluginError {
    match error {
        PluginError::Refused(text) => PluginError::Refused(format!("legacy plugin: {text}")),
        other => other,
    }
}
