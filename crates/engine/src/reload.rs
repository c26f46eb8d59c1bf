//! The configuration is read again while the engine runs.
use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Tunables;
use crate::containers::blocking::blocking;
use crate::error::Result;
use crate::model::EventKind;
use crate::runtimes::{BUILTIN_RUNTIME, Runtime};
use crate::system::engine_id;
use crate::{Engine, registries, reserve};

impl Engine {
    /// Puts other settings in force. Everything is checked first: when it fails nothing has changed. Containers keep
    /// what they were created with; what is under way goes on with the settings it began with.
    ///
    /// # Errors
    /// Invalid: settings that cannot work.
    pub async fn reload(&self, to: Tunables) -> Result<()> {
        let shared = std::sync::Arc::clone(&self.shared);
        blocking("putting another configuration in force", move || {
            to.validate()?;
            let registry = registries::client(&to.registries)?;
            let (id, attributes) = (
                engine_id(&shared.config.root)?,
                attributes(&to, &shared.config.shim_binary),
            );
            // ORDER: from here on nothing fails.
            shared.registry.replace(registry);
            shared.operations.limit(to.operation_limits.clone());
            shared.plugged.adjust(&to.plugins);
            if shared.config.live.now().reserve != to.reserve {
                reserve::ensure(&to.reserve, &shared.config.instance, &shared.hierarchy);
            }
            shared.config.live.replace(to);
            shared.events.publish(EventKind::Daemon, "reload", id, attributes);
            Ok(())
        })
        .await
    }
}

/// COMPAT: the attributes of dockerd's event, as far as there is such a setting here.
fn attributes(to: &Tunables, shim: &Path) -> BTreeMap<String, String> {
    let list = |values: &[String]| serde_json::json!(values).to_string();
    let options = to.registries.options();
    let mut attributes = BTreeMap::from(
        [
            ("debug", to.debug.to_string()),
            ("default-runtime", to.runtimes.default_name().to_owned()),
            ("insecure-registries", list(&to.registries.insecure)),
            ("labels", list(&to.labels)),
            ("live-restore", "true".to_owned()),
            ("max-concurrent-downloads", options.parallel_downloads.to_string()),
            ("max-concurrent-uploads", options.parallel_uploads.to_string()),
            ("max-download-attempts", options.attempts.to_string()),
            ("registry-mirrors", list(&to.registries.mirrors)),
            ("runtimes", runtimes(to, shim)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    if let Ok(name) = rustix::system::uname().nodename().to_str() {
        attributes.insert("name".to_owned(), name.to_owned());
    }
    attributes
}

/// Each as NAME:PATH, with blanks between them.
fn runtimes(to: &Tunables, shim: &Path) -> String {
    let entry = |(name, runtime): (&String, &Runtime)| match runtime {
        Runtime::Oci { path, .. } => format!("{name}:{}", path.display()),
        Runtime::Shim { runtime_type, .. } => format!("{name}:{runtime_type}"),
    };
    let configured = to.runtimes.configured().iter().map(entry);
    let all: Vec<String> = configured
        .chain([format!("{BUILTIN_RUNTIME}:{}", shim.display())])
        .collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registries::RegistrySettings;
    use crate::runtimes::Runtimes;

    #[test]
    fn the_event_tells_every_setting_as_dockerd_does() {
        let crun = Runtime::Oci {
            path: "/usr/bin/crun".into(),
            args: Vec::new(),
        };
        let to = Tunables {
            labels: vec!["a=\"b\"".into()],
            debug: true,
            runtimes: Runtimes::new([("crun".to_owned(), crun)].into(), Some("crun".into())).expect("runtimes"),
            registries: RegistrySettings {
                insecure: vec!["r:5000".into(), "10.0.0.0/8".into()],
                uploads: std::num::NonZeroU32::new(2),
                ..RegistrySettings::default()
            },
            ..Tunables::default()
        };
        let told = attributes(&to, Path::new("/s"));
        let check = |key: &str, expected: &str| assert_eq!(told[key], expected, "{key}");
        check("debug", "true");
        check("labels", r#"["a=\"b\""]"#);
        check("insecure-registries", r#"["r:5000","10.0.0.0/8"]"#);
        check("registry-mirrors", "[]");
        check("max-concurrent-uploads", "2");
        check("default-runtime", "crun");
        check("runtimes", "crun:/usr/bin/crun wharf-runtime:/s");
        check("live-restore", "true");
    }
}
