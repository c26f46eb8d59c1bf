//! The `filters` parameter.

use wharf_api::filters::FilterError;
use wharf_engine::Filters;

use crate::http::{Failure, Query};

/// Reads the parameter; absent and empty mean no conditions.
pub(crate) fn from_query(query: &Query) -> Result<Filters, Failure> {
    let wire = wharf_api::Filters::parse(query.text("filters"))?;
    let mut filters = Filters::default();
    for key in wire.keys() {
        for value in wire.values(key) {
            filters.insert(key, value);
        }
        if wire.values(key).next().is_none() {
            filters.insert_key(key);
        }
    }
    Ok(filters)
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        Self::invalid(error.to_string())
    }
}
