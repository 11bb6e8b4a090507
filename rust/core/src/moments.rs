//! Second moments of every date: all that linear cross-sectional estimation needs from a panel.
//!
//! With `z_ti` the instruments of asset `i` at date `t` (a leading constant, when asked for, and `L`
//! characteristics) and `r_ti` its return,
//!
//! ```text
//! n_t = #usable rows    S_t = Σ_i z_ti z_ti'    c_t = Σ_i z_ti r_ti    q_t = Σ_i r_ti²
//! ```
//!
//! A row is usable when its mask is true and its characteristics and return are finite. One pass
//! over the rows, no copy of the panel; dates are the unit of parallel work and each is summed in
//! row order, so that neither the number of threads nor the memory layout changes a bit.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, concatenate, s};

use crate::gram::{PART, Plan, Scratch, accumulate};
use crate::interrupt::each_with;
use crate::memory::{self, Arrays};
use crate::real::{AnyView, Real};
use crate::simd::{Level, PackFrom, Rows, Scalar};
use crate::vector::contiguous;
use crate::{CoreError, Result, shape};

/// Columns by which sums, and places in them, exceed a triangle at most.
const PADDING: usize = 64;

/// Moments of `T` dates over `P` instruments: the constant first when asked for, then the `L`
/// characteristics.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Usable rows, shape `(T,)`.
    pub n_assets: Array1<u32>,
    /// Upper triangle of `S_t`, shape `(T, P (P + 1) / 2)`, row by row: `(0, 0), (0, 1), ...,
    /// (0, P - 1), (1, 1), ...`.
    pub gram: Array2<f64>,
    /// `c_t`, shape `(T, P)`.
    pub cross: Array2<f64>,
    /// `q_t`, shape `(T,)`.
    pub return_squares: Array1<f64>,
}

impl Moments {
    /// No date has a usable row.
    pub fn zeros(n_dates: usize, n_instruments: usize) -> Self {
        let n_pairs = n_instruments * (n_instruments + 1) / 2;
        Self {
            n_assets: Array1::zeros(n_dates),
            gram: Array2::zeros((n_dates, n_pairs)),
            cross: Array2::zeros((n_dates, n_instruments)),
            return_squares: Array1::zeros(n_dates),
        }
    }

    /// `T`.
    pub fn n_dates(&self) -> usize {
        self.cross.nrows()
    }

    /// `P`.
    pub fn n_instruments(&self) -> usize {
        self.cross.ncols()
    }

    /// `S_t` of one date as a full symmetric matrix, shape `(P, P)`.
    pub fn gram_at(&self, date: usize) -> Array2<f64> {
        full_symmetric(self.gram.row(date), self.n_instruments())
    }

    /// Moments of the same dates from two disjoint sets of assets.
    ///
    /// # Errors
    ///
    /// [`CoreError::Shape`] when dates or instruments differ in number.
    pub fn merge(&self, other: &Self) -> Result<Self> {
        shape::require(
            "cross of the other moments",
            self.cross.shape(),
            other.cross.shape(),
        )?;
        Ok(Self {
            n_assets: &self.n_assets + &other.n_assets,
            gram: &self.gram + &other.gram,
            cross: &self.cross + &other.cross,
            return_squares: &self.return_squares + &other.return_squares,
        })
    }

    /// These dates followed by the later ones.
    ///
    /// # Errors
    ///
    /// [`CoreError::Shape`] when the instruments differ in number.
    pub fn append(&self, later: &Self) -> Result<Self> {
        let expected = [later.n_dates(), self.n_instruments()];
        shape::require("cross of the later moments", &expected, later.cross.shape())?;
        let failed = |error: ndarray::ShapeError| CoreError::Failed {
            what: "appending moments",
            why: error.to_string(),
        };
        let one = |a: &Array1<f64>, b: &Array1<f64>| concatenate(Axis(0), &[a.view(), b.view()]);
        let two = |a: &Array2<f64>, b: &Array2<f64>| concatenate(Axis(0), &[a.view(), b.view()]);
        let counts = [self.n_assets.view(), later.n_assets.view()];
        Ok(Self {
            n_assets: concatenate(Axis(0), &counts).map_err(failed)?,
            gram: two(&self.gram, &later.gram).map_err(failed)?,
            cross: two(&self.cross, &later.cross).map_err(failed)?,
            return_squares: one(&self.return_squares, &later.return_squares).map_err(failed)?,
        })
    }

    /// The chosen dates, in the order given; a date may come more than once.
    ///
    /// # Errors
    ///
    /// [`CoreError::Range`] when a date is not there.
    pub fn select(&self, dates: &[usize]) -> Result<Self> {
        for &date in dates {
            let rule = format!("below the number of dates, {}", self.n_dates());
            shape::require_that("date", date < self.n_dates(), &rule, date)?;
        }
        Ok(Self {
            n_assets: self.n_assets.select(Axis(0), dates),
            gram: self.gram.select(Axis(0), dates),
            cross: self.cross.select(Axis(0), dates),
            return_squares: self.return_squares.select(Axis(0), dates),
        })
    }
}

/// Unfold a triangle stored row by row.
pub(crate) fn full_symmetric(triangle: ArrayView1<'_, f64>, n: usize) -> Array2<f64> {
    let mut full = Array2::zeros((n, n));
    let mut entries = triangle.iter();
    for i in 0..n {
        for (j, &entry) in (i..n).zip(&mut entries) {
            full[[i, j]] = entry;
            full[[j, i]] = entry;
        }
    }
    full
}

/// Moments of a padded panel.
///
/// `characteristics` is `(T, N, L)`, `returns` and `mask` are `(T, N)`; any strides. Cells with a
/// false mask are not read. Two `f32` inputs are multiplied in `f32` and summed so over at most 64
/// rows, everything beyond in `f64`; all other inputs, and dates at which a characteristic has a level
/// that dwarfs what it varies by, are computed in `f64`.
///
/// # Errors
///
/// [`CoreError::Shape`] when the arrays do not line up.
pub fn from_panel<Z: Real, R: Real>(
    characteristics: ArrayView3<'_, Z>,
    returns: ArrayView2<'_, R>,
    mask: Option<ArrayView2<'_, u8>>,
    constant: bool,
) -> Result<Moments> {
    from_panel_at(Level::best(), characteristics, returns, mask, constant)
}

/// [`from_panel`] at a chosen level, or the best one where the machine lacks it.
///
/// # Errors
///
/// As [`from_panel`].
pub fn from_panel_at<Z: Real, R: Real>(
    level: Level,
    characteristics: ArrayView3<'_, Z>,
    returns: ArrayView2<'_, R>,
    mask: Option<ArrayView2<'_, u8>>,
    constant: bool,
) -> Result<Moments> {
    let (n_dates, n_assets, n_characteristics) = characteristics.dim();
    shape::require("returns", &[n_dates, n_assets], returns.shape())?;
    if let Some(mask) = mask {
        shape::require("mask", &[n_dates, n_assets], mask.shape())?;
    }
    let job = Job {
        level,
        n_dates,
        n_characteristics,
        constant,
    };
    let swapped = n_characteristics > n_assets;
    let swapped = swapped.then(|| {
        let shape = characteristics.shape();
        format!("; characteristics has shape (T, N, L) = {shape:?}: are the axes swapped?")
    });
    job.arrays(n_assets).hint(swapped).require()?;
    Ok(match (Z::any(characteristics), R::any(returns)) {
        (AnyView::F64(z), AnyView::F64(r)) => {
            job.run::<f64, _, _>(|t| panel_rows(&z, &r, &mask, t))
        }
        (AnyView::F64(z), AnyView::F32(r)) => {
            job.run::<f64, _, _>(|t| panel_rows(&z, &r, &mask, t))
        }
        (AnyView::F32(z), AnyView::F64(r)) => {
            job.run::<f64, _, _>(|t| panel_rows(&z, &r, &mask, t))
        }
        (AnyView::F32(z), AnyView::F32(r)) => job.run_f32(|t| panel_rows(&z, &r, &mask, t)),
    })
}

fn panel_rows<'a, Z: Real, R: Real>(
    characteristics: &ArrayView3<'a, Z>,
    returns: &ArrayView2<'a, R>,
    mask: &Option<ArrayView2<'a, u8>>,
    date: usize,
) -> Rows<'a, Z, R> {
    let mask = mask.map(|mask| mask.index_axis_move(Axis(0), date));
    Rows::new(
        &characteristics.index_axis_move(Axis(0), date),
        &returns.index_axis_move(Axis(0), date),
        mask.as_ref(),
    )
}

/// Moments of rows sorted by date: those of date `t` are `offsets[t] .. offsets[t + 1]`.
///
/// `characteristics` is `(rows, L)`, `returns` is `(rows,)`, `offsets` is `(T + 1,)`. Arithmetic as
/// in [`from_panel`].
///
/// # Errors
///
/// [`CoreError::Shape`] when the arrays do not line up, [`CoreError::Range`] when the offsets do not
/// rise from zero to the number of rows.
pub fn from_rows<Z: Real, R: Real>(
    characteristics: ArrayView2<'_, Z>,
    returns: ArrayView1<'_, R>,
    offsets: &[usize],
    constant: bool,
) -> Result<Moments> {
    from_rows_at(Level::best(), characteristics, returns, offsets, constant)
}

/// [`from_rows`] at a chosen level, or the best one where the machine lacks it.
///
/// # Errors
///
/// As [`from_rows`].
pub fn from_rows_at<Z: Real, R: Real>(
    level: Level,
    characteristics: ArrayView2<'_, Z>,
    returns: ArrayView1<'_, R>,
    offsets: &[usize],
    constant: bool,
) -> Result<Moments> {
    let (n_rows, n_characteristics) = characteristics.dim();
    shape::require("returns", &[n_rows], returns.shape())?;
    require_offsets(offsets, n_rows)?;
    let job = Job {
        level,
        n_dates: offsets.len() - 1,
        n_characteristics,
        constant,
    };
    let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max();
    job.arrays(longest.unwrap_or(0)).require()?;
    Ok(match (Z::any(characteristics), R::any(returns)) {
        (AnyView::F64(z), AnyView::F64(r)) => {
            job.run::<f64, _, _>(|t| some_rows(&z, &r, offsets, t))
        }
        (AnyView::F64(z), AnyView::F32(r)) => {
            job.run::<f64, _, _>(|t| some_rows(&z, &r, offsets, t))
        }
        (AnyView::F32(z), AnyView::F64(r)) => {
            job.run::<f64, _, _>(|t| some_rows(&z, &r, offsets, t))
        }
        (AnyView::F32(z), AnyView::F32(r)) => job.run_f32(|t| some_rows(&z, &r, offsets, t)),
    })
}

fn some_rows<'a, Z: Real, R: Real>(
    characteristics: &ArrayView2<'a, Z>,
    returns: &ArrayView1<'a, R>,
    offsets: &[usize],
    date: usize,
) -> Rows<'a, Z, R> {
    let (start, end) = (offsets[date], offsets[date + 1]);
    Rows::new(
        &characteristics.slice_move(s![start..end, ..]),
        &returns.slice_move(s![start..end]),
        None,
    )
}

fn require_offsets(offsets: &[usize], n_rows: usize) -> Result<()> {
    let rule = format!("ascending from 0 to the number of rows, {n_rows}");
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return shape::require_that("offsets", false, &rule, "no entry");
    };
    let holds = (*first, *last) == (0, n_rows);
    shape::require_that("offsets", holds, &rule, format!("{first} to {last}"))?;
    match offsets.windows(2).position(|pair| pair[0] > pair[1]) {
        None => Ok(()),
        Some(date) => Err(CoreError::Range {
            what: "offsets",
            rule,
            got: format!(
                "{} before {} at date {date}",
                offsets[date],
                offsets[date + 1]
            ),
        }),
    }
}

/// What the dates of one call have in common.
#[derive(Debug, Clone, Copy)]
struct Job {
    level: Level,
    n_dates: usize,
    n_characteristics: usize,
    constant: bool,
}

/// Where the moments of one date go.
struct Row<'a> {
    gram: &'a mut [f64],
    cross: &'a mut [f64],
    square: &'a mut f64,
}

impl Row<'_> {
    fn fill(self, entries: impl Iterator<Item = f64>) {
        let out = self.gram.iter_mut().chain(self.cross).chain([self.square]);
        for (out, entry) in out.zip(entries) {
            *out = entry;
        }
    }
}

impl Job {
    /// Products in `C`.
    fn run<'a, C, Z, R>(&self, rows: impl Fn(usize) -> Rows<'a, Z, R> + Sync) -> Moments
    where
        C: PackFrom<Z>,
        Z: Real,
        R: Real,
    {
        let plan = self.plan::<C>();
        self.by_date(|scratch: &mut Scratch, date, out| {
            let n = accumulate::<C, Z, R>(&plan, scratch, || rows(date));
            out.fill(plan.entries(scratch.sums()));
            n
        })
    }

    /// Products in `f32`, but in `f64` at dates whose scale does not suit it.
    fn run_f32<'a>(&self, rows: impl Fn(usize) -> Rows<'a, f32, f32> + Sync) -> Moments {
        let (narrow, wide) = (self.plan::<f32>(), self.plan::<f64>());
        self.by_date(|(scratch, spare): &mut (Scratch, Scratch), date, out| {
            let n = accumulate::<f32, _, _>(&narrow, scratch, || rows(date));
            if n == 0 || suits_f32(&narrow, n, scratch.sums(), &rows(date)) {
                out.fill(narrow.entries(scratch.sums()));
                return n;
            }
            let n = accumulate::<f64, _, _>(&wide, spare, || rows(date));
            out.fill(wide.entries(spare.sums()));
            n
        })
    }

    /// What the moments and the sums of every thread take, given the rows of the longest date.
    fn arrays(&self, n_rows: usize) -> Arrays {
        let p = self.n_characteristics + usize::from(self.constant);
        let pairs = memory::triangle(p.saturating_add(PADDING));
        let n_parts = n_rows.div_ceil(PART);
        let sums = memory::n_threads() * (3 + if n_parts > 1 { n_parts + 1 } else { 0 });
        Arrays::new()
            .and("gram", &[self.n_dates, memory::triangle(p)])
            .times(3, "cross", &[self.n_dates, p.max(1)])
            .times(sums, "the sums of a date", &[pairs])
    }

    fn plan<C: Scalar>(&self) -> Plan {
        Plan::new::<C>(self.level, self.n_characteristics, self.constant)
    }

    /// Dates in parallel, working memory `S` by thread.
    fn by_date<S: Default>(&self, sum: impl Fn(&mut S, usize, Row<'_>) -> u32 + Sync) -> Moments {
        let p = self.n_characteristics + usize::from(self.constant);
        let mut moments = Moments::zeros(self.n_dates, p);
        let sum = each_with(|scratch: &mut S, (date, out)| sum(scratch, date, out));
        moments
            .gram
            .axis_iter_mut(Axis(0))
            .into_par_iter()
            .zip(moments.cross.axis_iter_mut(Axis(0)))
            .zip(moments.return_squares.axis_iter_mut(Axis(0)))
            .zip(moments.n_assets.axis_iter_mut(Axis(0)))
            .enumerate()
            .for_each_init(
                S::default,
                move |scratch, (date, (((gram, cross), square), n))| {
                    let out = Row {
                        gram: contiguous(gram.into_slice()),
                        cross: contiguous(cross.into_slice()),
                        square: square.into_scalar(),
                    };
                    *n.into_scalar() = sum(scratch, (date, out));
                },
            );
        moments
    }
}

/// Whether products in `f32` neither overflowed nor vanished, and keep what the columns vary by.
///
/// A square that sums to less than `TINY` may have lost values to underflow, unless its column is
/// zero to begin with, as a characteristic that is missing at a date often is. A column whose variance
/// is less than `LEVEL` of its mean square loses it to the rounding of its level.
fn suits_f32(plan: &Plan, n: u32, sums: &[f64], rows: &Rows<'_, f32, f32>) -> bool {
    const TINY: f64 = 1e-28;
    const LEVEL: f64 = 1.0 / 16.0;
    let n = f64::from(n);
    let varies = |total: f64, square: f64| total * total <= (1.0 - LEVEL) * n * square;
    sums.iter().all(|sum| sum.is_finite())
        && plan
            .squares(sums)
            .all(|(column, square)| square >= TINY || rows.is_zero(column))
        && plan
            .levels(sums)
            .all(|(total, square)| square < TINY || varies(total, square))
}
