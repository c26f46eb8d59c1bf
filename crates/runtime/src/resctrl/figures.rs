//! What `events` says of a container's class.

use super::ResctrlGroup;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The figures of the container's class, in runc's shape.
pub(crate) fn read_figures(root: &Path, group: &ResctrlGroup) -> Value {
    let mut figures = Map::new();
    let number = |path: &str| text_of(&root.join("info").join(path)).and_then(|text| text.parse::<u64>().ok());
    if let Some(mask) = text_of(&root.join("info/L3/cbm_mask")) {
        let info = json!({
            "cbm_mask": mask, "min_cbm_bits": number("L3/min_cbm_bits"), "num_closids": number("L3/num_closids"),
        });
        figures.insert("l3_cache_info".to_owned(), info);
    }
    if root.join("info/MB").is_dir() {
        let info = json!({
            "bandwidth_gran": number("MB/bandwidth_gran"), "delay_linear": number("MB/delay_linear"),
            "min_bandwidth": number("MB/min_bandwidth"), "num_closids": number("MB/num_closids"),
        });
        figures.insert("mem_bw_info".to_owned(), info);
    }
    let (all, own) = (lines_of(root), lines_of(&group.class));
    let line_of = |lines: &[String], resource: &str| lines.iter().find(|line| line.starts_with(resource)).cloned();
    for (name, line) in [
        ("l3_cache_schema_root", line_of(&all, "L3")),
        ("l3_cache_schema", line_of(&own, "L3")),
        ("mem_bw_schema_root", line_of(&all, "MB:")),
        ("mem_bw_schema", line_of(&own, "MB:")),
    ] {
        figures.extend(line.map(|line| (name.to_owned(), json!(line))));
    }
    if !own.is_empty() {
        figures.insert("schemata".to_owned(), json!(own));
    }
    add_monitoring(&mut figures, group.monitor.as_ref().unwrap_or(&group.class));
    Value::Object(figures)
}

/// One entry per cache, in the order of their numbers.
fn add_monitoring(figures: &mut Map<String, Value>, group: &Path) {
    let mut domains: Vec<_> = std::fs::read_dir(group.join("mon_data"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    domains.sort();
    let counter = |domain: &Path, name: &str| text_of(&domain.join(name)).and_then(|text| text.parse::<u64>().ok());
    let (mut bandwidth, mut occupancy) = (Vec::new(), Vec::new());
    for domain in &domains {
        let (total, local) = (counter(domain, "mbm_total_bytes"), counter(domain, "mbm_local_bytes"));
        if total.is_some() || local.is_some() {
            bandwidth.push(json!({ "mbm_total_bytes": total.unwrap_or(0), "mbm_local_bytes": local.unwrap_or(0) }));
        }
        if let Some(bytes) = counter(domain, "llc_occupancy") {
            occupancy.push(json!({ "llc_occupancy": bytes }));
        }
    }
    for (name, list) in [("mbm_stats", bandwidth), ("cmt_stats", occupancy)] {
        if !list.is_empty() {
            figures.insert(name.to_owned(), Value::Array(list));
        }
    }
}

fn text_of(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn lines_of(class: &Path) -> Vec<String> {
    let text = text_of(&class.join("schemata")).unwrap_or_default();
    text.lines().map(|line| line.trim().to_owned()).collect()
}
