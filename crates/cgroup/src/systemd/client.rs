//! systemd's manager interface (org.freedesktop.systemd1(5)), as far as containers need it.

use super::address::{Instance, Surroundings, plan_addresses};
use super::bus::{Connection, Method};
use super::error::SystemdError;
use super::properties::Property;
use super::unit::UnitPlan;
use super::wire::Value;

const NAME: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const ROOT: &str = "/org/freedesktop/systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection to a systemd.
#[derive(Debug)]
pub struct Systemd {
    bus: Connection,
    is_subscribed: bool,
}

impl Systemd {
    /// Connects to the systemd of the machine or of the user.
    ///
    /// # Errors
    /// [`SystemdError::Absent`] where none runs, [`SystemdError::Connect`] and
    /// [`SystemdError::Authentication`] when it does not take us.
    pub fn connect(instance: Instance) -> Result<Self, SystemdError> {
        // As sd_booted(3).
        if !std::path::Path::new("/run/systemd/system").exists() {
            let why = "there is no directory /run/systemd/system".to_owned();
            return Err(SystemdError::Absent { why });
        }
        let addresses = plan_addresses(instance, &Surroundings::read(instance))?;
        Ok(Self {
            bus: Connection::open(&addresses)?,
            is_subscribed: false,
        })
    }

    /// Its version; 0 if it says none.
    ///
    /// # Errors
    /// As any call.
    pub fn version(&mut self) -> Result<u32, SystemdError> {
        let value = self.property(ROOT, MANAGER, "Version")?;
        let text = value.as_text().unwrap_or_default();
        // `252.39-1~deb12u2`, `v256`, `systemd 245`.
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Ok(digits[..end].parse().unwrap_or(0))
    }

    /// Starts a transient unit and waits until it runs. A failed unit of that name is cleared away.
    ///
    /// Answers the path of its cgroup, as systemd sees it.
    ///
    /// # Errors
    /// [`SystemdError::Refused`] for properties that it does not take or a unit that runs already,
    /// [`SystemdError::Job`] when it could not be started.
    pub fn start_unit(&mut self, unit: &UnitPlan, properties: &[Property]) -> Result<String, SystemdError> {
        self.subscribe()?;
        let started = match self.start_transient(unit, properties) {
            // A slice may be shared.
            Err(error) if unit.is_slice() && error.is_named("UnitExists") => None,
            Err(error) if error.is_named("UnitExists") => {
                // What is left of a container that failed; one that runs cannot be cleared.
                self.reset_failed(&unit.name)?;
                Some(self.start_transient(unit, properties)?)
            }
            other => Some(other?),
        };
        if let Some(job) = started {
            self.await_job(&job, "start", &unit.name)?;
        }
        self.cgroup_of(unit)
    }

    /// Changes properties of a running unit until it is stopped.
    ///
    /// # Errors
    /// As any call.
    pub fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        let body = vec![Value::text(unit), Value::Bool(true), property_list(properties)];
        self.manager("SetUnitProperties", body).map(drop)
    }

    /// Stops a unit, which ends what is left in it, and forgets its failure. Succeeds if there is
    /// none.
    ///
    /// # Errors
    /// [`SystemdError::Job`] when it could not be stopped.
    pub fn stop_unit(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.subscribe()?;
        match self.manager("StopUnit", vec![Value::text(unit), Value::text("replace")]) {
            Ok(answer) => {
                let job = answer.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                self.await_job(&job, "stop", unit)?;
            }
            Err(error) if error.is_named("NoSuchUnit") => {}
            Err(error) => return Err(error),
        }
        self.reset_failed(unit)
    }

    /// Moves processes into the unit's cgroup or a group below it, which systemd may do where we
    /// may not.
    ///
    /// # Errors
    /// As any call.
    pub fn attach(&mut self, unit: &str, below: &str, pids: &[u32]) -> Result<(), SystemdError> {
        let pids = Value::Array("u".into(), pids.iter().copied().map(Value::Uint32).collect());
        self.manager(
            "AttachProcessesToUnit",
            vec![Value::text(unit), Value::text(below), pids],
        )
        .map(drop)
    }

    fn start_transient(&mut self, unit: &UnitPlan, properties: &[Property]) -> Result<String, SystemdError> {
        let body = vec![
            Value::text(&unit.name),
            // Not `replace`: nothing of that name may be running.
            Value::text("fail"),
            property_list(properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let answer = self.manager("StartTransientUnit", body)?;
        let job = answer.first().and_then(Value::as_text).map(str::to_owned);
        job.ok_or(SystemdError::Malformed {
            what: "a started unit has no job",
        })
    }

    /// Clears a failed unit; one that is not loaded, or not failed, is none.
    fn reset_failed(&mut self, unit: &str) -> Result<(), SystemdError> {
        match self.manager("ResetFailedUnit", vec![Value::text(unit)]) {
            Err(error) if !error.is_named("NoSuchUnit") => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks for the signals about jobs; systemd sends them to those on its own socket anyway.
    fn subscribe(&mut self) -> Result<(), SystemdError> {
        if self.is_subscribed || self.bus.is_direct {
            return Ok(());
        }
        let bus = "org.freedesktop.DBus";
        let rule = format!("type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved',path='{ROOT}'");
        let method = Method {
            destination: bus,
            path: "/org/freedesktop/DBus",
            interface: bus,
            member: "AddMatch",
        };
        self.bus.call(method, vec![Value::Text(rule)])?;
        self.manager("Subscribe", vec![])?;
        self.is_subscribed = true;
        Ok(())
    }

    fn await_job(&mut self, job: &str, action: &'static str, unit: &str) -> Result<(), SystemdError> {
        let result = self.bus.await_signal("JobRemoved", |body| match body {
            [Value::Uint32(_), Value::Path(path), Value::Text(_), Value::Text(result)] if path == job => {
                Some(result.clone())
            }
            _ => None,
        })?;
        if result == "done" {
            return Ok(());
        }
        Err(SystemdError::Job {
            action,
            unit: unit.to_owned(),
            result,
        })
    }

    fn cgroup_of(&mut self, unit: &UnitPlan) -> Result<String, SystemdError> {
        let answer = self.manager("GetUnit", vec![Value::text(&unit.name)])?;
        let path = answer.first().and_then(Value::as_text).unwrap_or_default().to_owned();
        let interface = if unit.is_slice() {
            "org.freedesktop.systemd1.Slice"
        } else {
            "org.freedesktop.systemd1.Scope"
        };
        let value = self.property(&path, interface, "ControlGroup")?;
        match value.as_text() {
            Some(path) if !path.is_empty() => Ok(path.to_owned()),
            _ => Err(SystemdError::Malformed {
                what: "a started unit has no cgroup",
            }),
        }
    }

    fn property(&mut self, path: &str, interface: &'static str, name: &str) -> Result<Value, SystemdError> {
        let method = Method {
            destination: NAME,
            path,
            interface: PROPERTIES,
            member: "Get",
        };
        let mut answer = self.bus.call(method, vec![Value::text(interface), Value::text(name)])?;
        answer.pop().ok_or(SystemdError::Malformed {
            what: "a property has no value",
        })
    }

    fn manager(&mut self, member: &'static str, body: Vec<Value>) -> Result<Vec<Value>, SystemdError> {
        self.bus.call(
            Method {
                destination: NAME,
                path: ROOT,
                interface: MANAGER,
                member,
            },
            body,
        )
    }
}

fn property_list(properties: &[Property]) -> Value {
    let item =
        |(name, value): &Property| Value::Tuple(vec![Value::text(name), Value::Variant(Box::new(value.clone()))]);
    Value::Array("(sv)".into(), properties.iter().map(item).collect())
}

#[cfg(test)]
mod tests;
