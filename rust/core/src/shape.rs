//! Shape and range checks that every kernel starts with.

use std::fmt::Display;

use crate::{CoreError, Result};

/// Refuse an array whose shape is not the expected one.
pub fn require(what: &'static str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(CoreError::Shape {
        what,
        expected: expected.to_vec(),
        got: got.to_vec(),
    })
}

/// Refuse an integer outside `low..=high`.
pub fn require_between(what: &'static str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(CoreError::Range {
        what,
        rule: format!("between {low} and {high}"),
        got: value.to_string(),
    })
}

/// Refuse a setting unless `holds`; `rule` says in words what should.
pub fn require_that(what: &'static str, holds: bool, rule: &str, got: impl Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(CoreError::Range {
        what,
        rule: rule.to_owned(),
        got: got.to_string(),
    })
}
