//! Which unit a container becomes: `linux.cgroupsPath` as `slice:prefix:name`.

use super::address::Instance;
use super::error::SystemdError;

/// A unit to make, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPlan {
    /// Name of the scope, or of the slice if the container is to be one.
    pub name: String,
    /// The slice that holds it.
    pub slice: String,
}

/// The longest name that systemd takes.
const MAX_NAME: usize = 255;

impl UnitPlan {
    /// Reads `slice:prefix:name`; an absent or empty path is a scope of the container's id in the
    /// default slice.
    ///
    /// # Errors
    /// [`SystemdError::Invalid`] for another form, and for names that systemd would not take.
    pub fn parse(path: Option<&str>, id: &str, instance: Instance) -> Result<Self, SystemdError> {
        let invalid = |reason: String| SystemdError::Invalid {
            field: "linux.cgroupsPath".to_owned(),
            reason,
        };
        let default = match instance {
            Instance::System => "system.slice",
            Instance::User => "user.slice",
        };
        let path = path.filter(|path| !path.is_empty());
        let parts: Vec<&str> = path.map_or_else(|| vec!["", "wharf", id], |path| path.split(':').collect());
        let [slice, prefix, name] = parts[..] else {
            return Err(invalid(format!(
                "expected \"slice:prefix:name\" for systemd cgroups, got {:?}",
                path.unwrap_or_default()
            )));
        };
        let slice = if slice.is_empty() { default } else { slice };
        check_slice(slice).map_err(invalid)?;
        let unit = match (prefix, name.ends_with(".slice")) {
            (_, true) => name.to_owned(),
            ("", false) => format!("{name}.scope"),
            (prefix, false) => format!("{prefix}-{name}.scope"),
        };
        check_name(&unit).map_err(invalid)?;
        Ok(Self {
            name: unit,
            slice: slice.to_owned(),
        })
    }

    /// Whether the unit is a slice, which holds no processes by itself.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

/// Levels of a slice are parted by single dashes: `a-b.slice` lies in `a.slice`.
fn check_slice(slice: &str) -> Result<(), String> {
    let Some(stem) = slice.strip_suffix(".slice") else {
        return Err(format!("slice {slice:?} does not end with .slice"));
    };
    if stem == "-" {
        return Ok(());
    }
    if stem.split('-').any(str::is_empty) || stem.contains('/') {
        return Err(format!("{slice:?} is no name of a slice"));
    }
    check_name(slice)
}

fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() > MAX_NAME {
        return Err(format!("unit name {name:?} is longer than {MAX_NAME} bytes"));
    }
    if name.starts_with('.') || !name.chars().all(is_allowed) {
        return Err(format!("{name:?} is no name of a unit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_parts_name_a_scope_in_a_slice() {
        let check = |path: Option<&str>, instance, expected: (&str, &str)| {
            let plan = UnitPlan::parse(path, "box", instance).expect("valid");
            assert_eq!((plan.slice.as_str(), plan.name.as_str()), expected, "{path:?}");
        };
        check(
            Some("a-b.slice:docker:1234"),
            Instance::System,
            ("a-b.slice", "docker-1234.scope"),
        );
        check(
            Some(":docker:1234"),
            Instance::System,
            ("system.slice", "docker-1234.scope"),
        );
        check(
            Some(":docker:1234"),
            Instance::User,
            ("user.slice", "docker-1234.scope"),
        );
        check(Some("-.slice::x"), Instance::System, ("-.slice", "x.scope"));
        check(
            Some("a.slice::a-pod.slice"),
            Instance::System,
            ("a.slice", "a-pod.slice"),
        );
        check(None, Instance::System, ("system.slice", "wharf-box.scope"));
        check(Some(""), Instance::User, ("user.slice", "wharf-box.scope"));
    }

    #[test]
    fn other_forms_are_errors_that_name_the_field() {
        let check = |path: &str, expected: &str| {
            let error = UnitPlan::parse(Some(path), "box", Instance::System).map_err(|e| e.to_string());
            assert_eq!(error, Err(format!("linux.cgroupsPath: {expected}")));
        };
        check(
            "/a/b",
            "expected \"slice:prefix:name\" for systemd cgroups, got \"/a/b\"",
        );
        check(
            "a:b:c:d",
            "expected \"slice:prefix:name\" for systemd cgroups, got \"a:b:c:d\"",
        );
        check("a:b:c", "slice \"a\" does not end with .slice");
        check("a--b.slice:b:c", "\"a--b.slice\" is no name of a slice");
        check("a/b.slice:b:c", "\"a/b.slice\" is no name of a slice");
        check("a.slice:b:c/d", "\"b-c/d.scope\" is no name of a unit");
    }
}
