//! Devices, their weights and rates, and GPUs.

use wharf_api::types::{DeviceMapping, DeviceRequest, StringMap, ThrottleDevice, WeightDevice};

use crate::error::CliError;
use crate::flags::parse_bytes;

/// What `--device` and `--gpus` ask for.
pub(super) struct Plan {
    pub(super) mappings: Vec<DeviceMapping>,
    pub(super) requests: Vec<DeviceRequest>,
}

pub(super) fn plan(devices: &[String], gpus: &[String]) -> Result<Plan, CliError> {
    let (named, mapped): (Vec<&String>, Vec<&String>) = devices.iter().partition(|text| is_cdi_name(text));
    let mut requests = gpus
        .iter()
        .map(|text| gpu_request(text))
        .collect::<Result<Vec<_>, _>>()?;
    if !named.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(named.into_iter().cloned().collect()),
            ..DeviceRequest::default()
        });
    }
    for text in &mapped {
        check_device(text)?;
    }
    let mappings = mapped.into_iter().map(|text| mapping(text)).collect::<Result<_, _>>()?;
    Ok(Plan { mappings, requests })
}

/// `vendor/class=name`, a device of the Container Device Interface.
fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    let word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_alphanumeric() || "-_.:".contains(c));
    word(vendor) && word(class) && word(name)
}

fn mapping(text: &str) -> Result<DeviceMapping, CliError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, "", "rwm"),
        [host, mode] if is_mode(mode) => (*host, "", *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] => (*host, *container, *mode),
        _ => return Err(CliError::message(format!("invalid device specification: {text}"))),
    };
    let container = if container.is_empty() { host } else { container };
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

fn is_mode(text: &str) -> bool {
    let mut seen = String::new();
    !text.is_empty()
        && text.chars().all(|letter| {
            let fresh = "rwm".contains(letter) && !seen.contains(letter);
            seen.push(letter);
            fresh
        })
}

fn check_device(text: &str) -> Result<(), CliError> {
    if is_cdi_name(text) {
        return Ok(());
    }
    let device = mapping(text).map_err(|_| CliError::message(format!("bad format for path: {text}")))?;
    if !is_mode(&device.cgroup_permissions) {
        return Err(CliError::message(format!(
            "bad mode specified: {}",
            device.cgroup_permissions
        )));
    }
    if device.path_on_host.is_empty() {
        return Err(CliError::message(format!("bad format for path: {text}")));
    }
    if !device.path_in_container.starts_with('/') {
        return Err(CliError::message(format!(
            "{} is not an absolute path",
            device.path_in_container
        )));
    }
    Ok(())
}

pub(super) fn weights(values: &[String]) -> Result<Vec<WeightDevice>, CliError> {
    values
        .iter()
        .map(|text| {
            let (path, weight) = split_device(text)?;
            let weight: u16 = weight
                .parse()
                .ok()
                .filter(|weight| *weight == 0 || (10..=1000).contains(weight))
                .ok_or_else(|| CliError::message(format!("invalid weight for device: {text}")))?;
            Ok(WeightDevice { path, weight })
        })
        .collect()
}

pub(super) fn byte_rates(values: &[String]) -> Result<Vec<ThrottleDevice>, CliError> {
    rates(
        values,
        |rate| parse_bytes(rate).ok().and_then(|bytes| u64::try_from(bytes).ok()),
        |text| {
            format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
            )
        },
    )
}

pub(super) fn operation_rates(values: &[String]) -> Result<Vec<ThrottleDevice>, CliError> {
    rates(
        values,
        |rate| rate.parse().ok(),
        |text| {
            format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
            )
        },
    )
}

fn rates(
    values: &[String],
    read: fn(&str) -> Option<u64>,
    complaint: fn(&str) -> String,
) -> Result<Vec<ThrottleDevice>, CliError> {
    values
        .iter()
        .map(|text| {
            let (path, rate) = split_device(text)?;
            let rate = read(rate).ok_or_else(|| CliError::message(complaint(text)))?;
            Ok(ThrottleDevice { path, rate })
        })
        .collect()
}

fn split_device(text: &str) -> Result<(String, &str), CliError> {
    let (path, value) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| CliError::message(format!("bad format: {text}")))?;
    if !path.starts_with("/dev/") {
        return Err(CliError::message(format!("bad format for device path: {text}")));
    }
    Ok((path.to_owned(), value))
}

/// `all`, a number, or `driver=..,count=..,device=..,capabilities=..,options=..`.
pub(super) fn gpu_request(text: &str) -> Result<DeviceRequest, CliError> {
    let mut request = DeviceRequest::default();
    let mut counted = false;
    for field in quoted_fields(text) {
        let (key, value) = field.split_once('=').unwrap_or(("count", field.as_str()));
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => {
                request.count = gpu_count(value)?;
                counted = true;
            }
            "device" => request.device_ids = Some(value.split(',').map(str::to_owned).collect()),
            "capabilities" => {
                let words = value.split(',').map(str::to_owned).chain(["gpu".to_owned()]);
                request.capabilities = Some(vec![words.collect()]);
            }
            "options" => request.options = Some(options(value)),
            _ => return Err(CliError::message(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if !counted && request.device_ids.is_none() {
        request.count = 1;
    }
    request.options.get_or_insert_default();
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

fn gpu_count(value: &str) -> Result<i64, CliError> {
    if value == "all" {
        return Ok(-1);
    }
    value.parse().map_err(|_| {
        CliError::message(format!(
            "invalid count ({value}): value must be either \"all\" or an integer"
        ))
    })
}

fn options(value: &str) -> StringMap {
    let pairs: Vec<String> = value.split(',').map(str::to_owned).collect();
    super::to_map(&pairs)
}

/// Fields separated by commas outside of quotes.
fn quoted_fields(text: &str) -> Vec<String> {
    let mut quoted = false;
    let mut fields = vec![String::new()];
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields
                .last_mut()
                .expect("invariant: there is always a field")
                .push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_take_every_form() {
        let check = |text: &str, expected: (&str, &str, &str)| {
            let device = mapping(text).unwrap();
            let found = (
                device.path_on_host.as_str(),
                device.path_in_container.as_str(),
                device.cgroup_permissions.as_str(),
            );
            assert_eq!(found, expected, "{text}");
        };
        check("/dev/a", ("/dev/a", "/dev/a", "rwm"));
        check("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm"));
        check("/dev/a:r", ("/dev/a", "/dev/a", "r"));
        check("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw"));
        assert!(check_device("/dev/a:/dev/b:q").is_err());
        assert!(check_device("vendor.com/class=x").is_ok());
    }

    #[test]
    fn gpus_are_counted_or_named() {
        assert_eq!(gpu_request("all").unwrap().count, -1);
        assert_eq!(gpu_request("2").unwrap().count, 2);
        let named = gpu_request("\"device=0,1\",capabilities=utility").unwrap();
        assert_eq!(named.device_ids.unwrap(), ["0", "1"]);
        assert_eq!(named.capabilities.unwrap(), [["utility", "gpu"]]);
        assert!(gpu_request("x").is_err());
    }
}
