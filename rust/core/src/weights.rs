//! Weights that obey their constraints, date by date.
//!
//! | module     | problem                                                              | cost         |
//! |------------|----------------------------------------------------------------------|--------------|
//! | `demeaned` | scale the demeaned scores to the exposures                           | O(n)         |
//! | `nearest`  | nearest point to the scores with the exposures and a cap             | O(n log n)   |
//! | `narrow`   | scores of which sums keep all digits                                 | O(n)         |
//! | `side`     | nearest point of one side with a mass, a cap, group caps, a held book | O(n) a pass |
//! | `grouped`  | `nearest` with group caps                                            | O(n log n)   |
//! | `turnover` | walk forward within a turnover budget                                | O(n) a pass  |
//!
//! A book of gross exposure `G` and net exposure `M` has a long side of mass `L = (G + M) / 2` and
//! a short side of mass `S = (G - M) / 2`. Panels are (B, T, N): windows, dates, assets.

mod demeaned;
mod grouped;
mod narrow;
mod nearest;
mod side;
mod turnover;

use ndarray::{Array3, ArrayView1, ArrayView3, ArrayViewMut3, Axis};
use rayon::prelude::*;

use crate::interrupt::each_with;
use crate::memory::{self, Arrays};
use crate::vector::contiguous;
use crate::{CoreError, Result, shape};
pub use turnover::walk_within_turnover;

/// Largest absolute score under a cap, and weight of a previous book: squares must not overflow.
const MAX_SCORE: f64 = 1e100;

/// What every date's book has to be.
///
/// ```
/// use ml4t_models_core::weights::Exposure;
/// let neutral = Exposure::new(1.0, 0.0, Some(0.1))?;
/// assert!(Exposure::new(0.5, 1.0, None).is_err());
/// # Ok::<(), ml4t_models_core::CoreError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    long: f64,
    short: f64,
    cap: f64,
}

impl Exposure {
    /// Gross and net exposure, and the largest absolute weight when there is one.
    ///
    /// # Errors
    ///
    /// [`CoreError::Infeasible`] when `gross < |net|` or `cap <= 0`, one of them is not a number, or
    /// weights of this size would overflow or vanish.
    pub fn new(gross: f64, net: f64, cap: Option<f64>) -> Result<Self> {
        if !(gross.is_finite() && net.is_finite() && gross >= net.abs()) {
            return Err(CoreError::Infeasible {
                why: format!(
                    "gross_exposure must be at least abs(net_exposure); got gross={gross}, net={net}"
                ),
            });
        }
        if gross != 0.0 && !(1.0 / MAX_SCORE..=MAX_SCORE).contains(&gross) {
            return Err(CoreError::Infeasible {
                why: format!(
                    "gross_exposure must be 0 or between {:e} and {MAX_SCORE:e}; got {gross:e}",
                    1.0 / MAX_SCORE
                ),
            });
        }
        if let Some(cap) = cap
            && (cap.is_nan() || cap <= 0.0)
        {
            return Err(CoreError::Infeasible {
                why: format!("max_abs_weight must be positive; got {cap}"),
            });
        }
        Ok(Self {
            long: 0.5 * (gross + net),
            short: 0.5 * (gross - net),
            cap: cap.unwrap_or(f64::INFINITY),
        })
    }

    /// Sum of absolute weights.
    fn gross(&self) -> f64 {
        self.long + self.short
    }

    /// Fewest assets that can hold `mass` under the cap.
    fn fewest(&self, mass: f64) -> usize {
        if mass <= 0.0 {
            0
        } else if self.cap.is_infinite() {
            1
        } else {
            // 0.7 / 0.1 is a little less than 7, 0.6 / 0.2 a little more than 3.
            (mass / self.cap * (1.0 - 1e-12)).ceil().max(1.0) as usize
        }
    }

    /// Why `n_assets` cannot hold such a book, if they cannot.
    fn shortage(&self, n_assets: usize) -> Option<String> {
        (self
            .fewest(self.long)
            .saturating_add(self.fewest(self.short))
            > n_assets)
            .then(|| {
                let cap = if self.cap.is_finite() {
                    format!(" with max_abs_weight={}", self.cap)
                } else {
                    String::new()
                };
                format!(
                    "{n_assets} available assets cannot support long={} and short={}{cap}",
                    self.long, self.short
                )
            })
    }
}

/// Groups of assets and the most that the longs, and likewise the shorts, of one group may sum to.
#[derive(Debug, Clone)]
pub struct GroupCap {
    /// Group of every asset, numbered from 0, shape `(N,)`.
    group_of: Vec<usize>,
    /// Number of groups.
    n_groups: usize,
    /// Largest mass of one group on one side.
    cap: f64,
}

impl GroupCap {
    /// Groups may be numbered in any way.
    ///
    /// # Errors
    ///
    /// [`CoreError::Infeasible`] when the cap is not positive.
    pub fn new(group_ids: ArrayView1<'_, i64>, cap: f64) -> Result<Self> {
        if cap.is_nan() || cap <= 0.0 {
            return Err(CoreError::Infeasible {
                why: format!("max_group_weight must be positive; got {cap}"),
            });
        }
        let mut names: Vec<i64> = group_ids.to_vec();
        names.sort_unstable();
        names.dedup();
        let place = |id: &i64| names.partition_point(|name| name < id);
        Ok(Self {
            group_of: group_ids.iter().map(place).collect(),
            n_groups: names.len(),
            cap,
        })
    }
}

/// Why a row was refused; the panel knows where the row is.
#[derive(Debug)]
enum Fault {
    /// Asset whose score is not finite.
    NotFinite(usize),
    /// Asset whose score is too large for what is computed with it.
    TooLarge { asset: usize, got: f64, most: f64 },
    /// No book fits.
    Infeasible(String),
}

impl Fault {
    fn at(self, window: usize, date: usize) -> CoreError {
        match self {
            Self::NotFinite(asset) => CoreError::NonFiniteCell {
                what: "weights",
                window,
                date,
                asset,
            },
            Self::TooLarge { asset, got, most } => CoreError::Range {
                what: "weights",
                rule: format!("within ±{most:e} under a cap or a turnover limit"),
                got: format!("{got:e} at window {window}, date {date}, asset {asset}"),
            },
            Self::Infeasible(why) => CoreError::Infeasible {
                why: format!("{why} (window {window}, date {date})"),
            },
        }
    }
}

/// Turn scores into weights with given exposures, every date of a panel on its own.
///
/// Without a cap the demeaned scores are scaled: longs to `L`, shorts to `-S`. Scores that differ by
/// no more than rounding are constant: the top `round(n L / G)` of them by position share `L`, the
/// others `-S`. With a cap, the result is the Euclidean-nearest point to the scores among the books
/// with the exposures and `|w| <= cap`; of equal scores the later asset counts as the higher one, and
/// of two equally near splits into longs and shorts the one with more longs is taken. With group
/// caps see [`GroupCap`]; when the sides of the nearest point overlap, a search chooses the split, all
/// being tried up to eight assets.
///
/// `scores` and `mask` are (B, T, N). A cell is available where its mask is not 0. Scores of other
/// cells are never used; their weight is 0, as is every weight of a date without available assets.
///
/// # Errors
///
/// [`CoreError::Shape`], [`CoreError::NonFiniteCell`] for an available score that is not finite,
/// [`CoreError::Infeasible`] when the available assets of a date cannot hold the exposures.
pub fn normalize(
    scores: ArrayView3<'_, f64>,
    mask: Option<ArrayView3<'_, u8>>,
    exposure: &Exposure,
    groups: Option<&GroupCap>,
) -> Result<Array3<f64>> {
    memory::require("weights", scores.shape())?;
    let mut out = Array3::<f64>::zeros(scores.raw_dim());
    normalize_into(scores, mask, exposure, groups, out.view_mut())?;
    Ok(out)
}

/// [`normalize`] into memory of the caller's, whose content is replaced; after an error it is
/// unspecified.
///
/// # Errors
///
/// As [`normalize`], and [`CoreError::Shape`] when `out` has not the shape of the scores.
pub fn normalize_into(
    scores: ArrayView3<'_, f64>,
    mask: Option<ArrayView3<'_, u8>>,
    exposure: &Exposure,
    groups: Option<&GroupCap>,
    mut out: ArrayViewMut3<'_, f64>,
) -> Result<()> {
    let (_, n_dates, n_assets) = scores.dim();
    shape::require("out", scores.shape(), out.shape())?;
    shape::require_that(
        "out",
        out.is_standard_layout(),
        "in C order",
        format!("{:?}", out.strides()),
    )?;
    if let Some(mask) = &mask {
        shape::require("mask", scores.shape(), mask.shape())?;
    }
    if let Some(groups) = groups {
        shape::require("group_ids", &[n_assets], &[groups.group_of.len()])?;
    }
    if scores.is_empty() {
        return Ok(());
    }
    let copied = usize::from(!scores.is_standard_layout())
        + mask
            .as_ref()
            .map_or(0, |mask| usize::from(!mask.is_standard_layout()));
    require_room(copied, scores.shape())?;
    let (scores, mask) = (
        scores.as_standard_layout(),
        mask.as_ref().map(|mask| mask.as_standard_layout()),
    );
    let (scores, mask) = (
        contiguous(scores.as_slice()),
        mask.as_ref().map(|mask| contiguous(mask.as_slice())),
    );
    let faults: Vec<Option<Fault>> = contiguous(out.as_slice_mut())
        .par_chunks_exact_mut(n_assets)
        .enumerate()
        .map_init(
            nearest::Scratch::default,
            each_with(
                |scratch: &mut nearest::Scratch, (row, out): (usize, &mut [f64])| {
                    let cells = row * n_assets..(row + 1) * n_assets;
                    let mask = mask.map(|mask| &mask[cells.clone()]);
                    one_date(&scores[cells], mask, exposure, groups, scratch, out).err()
                },
            ),
        )
        .collect();
    match faults
        .into_iter()
        .enumerate()
        .find_map(|(row, fault)| Some((row, fault?)))
    {
        Some((row, fault)) => Err(fault.at(row / n_dates, row % n_dates)),
        None => Ok(()),
    }
}

fn one_date(
    scores: &[f64],
    mask: Option<&[u8]>,
    exposure: &Exposure,
    groups: Option<&GroupCap>,
    scratch: &mut nearest::Scratch,
    out: &mut [f64],
) -> std::result::Result<(), Fault> {
    if let Some(groups) = groups {
        out.fill(0.0);
        grouped::project(scores, mask, exposure, groups, scratch, out)
    } else if exposure.cap.is_finite() {
        out.fill(0.0);
        nearest::project(scores, mask, exposure, scratch, out).map(|_| ())
    } else {
        demeaned::scale(scores, mask, exposure, out)
    }
}

/// The place of every available cell.
fn available(mask: Option<&[u8]>, n_assets: usize) -> impl Iterator<Item = usize> + '_ {
    (0..n_assets).filter(move |&i| mask.is_none_or(|mask| mask[i] != 0))
}

/// Refuse a panel of which `n` copies, the faults of its dates and the scratch cannot be had.
fn require_room(n: usize, shape: &[usize]) -> Result<()> {
    let (dates, assets) = shape.split_at(2);
    Arrays::new()
        .times(n, "weights", shape)
        .times(12, "faults of the dates", dates)
        .times(24 * memory::n_threads(), "scores of a date", assets)
        .require()
}

/// Shape of a book of previous weights, one per window.
fn require_previous(
    previous: Option<ndarray::ArrayView2<'_, f64>>,
    n_windows: usize,
    n_assets: usize,
) -> Result<()> {
    let Some(previous) = previous else {
        return Ok(());
    };
    shape::require("previous_weights", &[n_windows, n_assets], previous.shape())?;
    for (window, row) in previous.axis_iter(Axis(0)).enumerate() {
        if let Some(asset) = row.iter().position(|w| !w.is_finite()) {
            return Err(CoreError::NonFiniteCell {
                what: "previous_weights",
                window,
                date: 0,
                asset,
            });
        }
        if let Some(asset) = row.iter().position(|w| w.abs() > MAX_SCORE) {
            return Err(CoreError::Range {
                what: "previous_weights",
                rule: format!("within ±{MAX_SCORE:e}"),
                got: format!("{:e} at window {window}, asset {asset}", row[asset]),
            });
        }
    }
    Ok(())
}
