//! Why a kernel refuses.

use thiserror::Error;

/// What every kernel returns.
pub type Result<T> = std::result::Result<T, CoreError>;

/// Why a kernel refused or failed.
///
/// | variant       | whose fault       | when it is found      |
/// |---------------|-------------------|-----------------------|
/// | `Shape`       | the caller's      | before any arithmetic |
/// | `Range`       | the caller's      | before any arithmetic |
/// | `EmptySample` | the caller's data | while reading         |
/// | `NoData`      | the caller's data | while reading         |
/// | `NonFinite`   | the caller's data | while reading         |
/// | `NonFiniteCell` | the caller's data | while reading       |
/// | `Infeasible`  | the caller's      | while computing       |
/// | `Rank`        | the caller's data | while computing       |
/// | `Failed`      | nobody's          | while computing       |
/// | `Interrupted` | nobody's          | while computing       |
/// | `Memory`      | the caller's      | before it is taken    |
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CoreError {
    /// Two arrays that should line up do not.
    #[error("{what} must have shape {expected:?}; got {got:?}")]
    Shape {
        /// Name of the offending argument, as the caller knows it.
        what: &'static str,
        /// Shape it should have had.
        expected: Vec<usize>,
        /// Shape it had.
        got: Vec<usize>,
    },
    /// A setting lies outside the range in which it means something.
    #[error("{what} must be {rule}; got {got}")]
    Range {
        /// Name of the offending argument.
        what: &'static str,
        /// The rule, in words.
        rule: String,
        /// The value.
        got: String,
    },
    /// No usable cell at all.
    #[error("{what} has no usable observation: {rule}")]
    EmptySample {
        /// What was searched.
        what: &'static str,
        /// What would have made an observation usable, and how far the sample is from it.
        rule: String,
    },
    /// One row or column of a panel holds nothing.
    #[error("{what} has no finite entry for {axis} {index}")]
    NoData {
        /// Name of the offending argument.
        what: &'static str,
        /// `"asset"` or `"date"`.
        axis: &'static str,
        /// Which one, counted from zero.
        index: usize,
    },
    /// A value that must be finite is not.
    #[error("{what} is not finite at date {date}, asset {asset}")]
    NonFinite {
        /// Name of the offending argument.
        what: &'static str,
        /// Row of the panel.
        date: usize,
        /// Column of the panel.
        asset: usize,
    },
    /// A value of a panel of windows that must be finite is not.
    #[error(
        "{what} must be finite at available positions; it is not at window {window}, date {date}, \
         asset {asset}"
    )]
    NonFiniteCell {
        /// Name of the offending argument.
        what: &'static str,
        /// Which window.
        window: usize,
        /// Row of the window.
        date: usize,
        /// Column of the window.
        asset: usize,
    },
    /// No book of weights obeys the constraints.
    #[error("infeasible portfolio constraints: {why}")]
    Infeasible {
        /// What contradicts what.
        why: String,
    },
    /// The data do not carry as many factors as were asked for.
    #[error("{what} has rank {rank}, which does not support {wanted} factors")]
    Rank {
        /// What lacks rank.
        what: &'static str,
        /// Its numerical rank.
        rank: usize,
        /// Factors asked for.
        wanted: usize,
    },
    /// There is not enough memory.
    #[error("cannot allocate {what} of shape {shape:?}: the call needs {:.3} GiB{hint}", gib(*.bytes))]
    Memory {
        /// The largest array.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes of all arrays.
        bytes: usize,
        /// What may have gone wrong.
        hint: String,
    },
    /// The caller stopped the call.
    #[error("the kernel was interrupted")]
    Interrupted,
    /// The arithmetic broke down.
    #[error("{what} failed: {why}")]
    Failed {
        /// The step.
        what: &'static str,
        /// The reason.
        why: String,
    },
}

fn gib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
