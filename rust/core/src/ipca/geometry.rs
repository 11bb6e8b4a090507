//! What depends on the characteristics alone: whitened second moments of the dates that count.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{MomentsView, Settings, Weighting, triangle, whiten};
use crate::interrupt::{check, each};
use crate::linalg::product;
use crate::rows::{Rows, add_product_here};
use crate::{CoreError, Result, shape};

/// Sums of squares beyond this overflow when two are multiplied.
const LARGEST: f64 = 1e150;
/// Mean squares below this have lost digits.
const SMALLEST: f64 = 1e-290;
/// Dates that one task whitens.
const TASK: usize = 8;
/// Rows beyond these are summed in parts, whose sums err no more.
const LONGEST_SUM: f64 = 32_768.0;

/// Second moments in coordinates in which the pooled one is the identity.
///
/// Instruments become `B'z` with `B` of [`whiten`]. Nothing that is estimated depends on the scale of
/// the characteristics or on an invertible recombination.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    /// Dates with enough assets, ascending.
    pub(super) dates: Vec<usize>,
    /// `w_t` of these dates: 1, or one over the number of assets.
    pub(super) weights: Array1<f64>,
    /// Triangles of `w_t (B'S_t B + ρ I)`, shape `(T, R (R + 1) / 2)`.
    pub(super) stack: Rows,
    /// `Γ = to_raw Θ`, minimum norm among the equivalent ones, shape `(P, R)`. Also `B`.
    pub(super) to_raw: Array2<f64>,
    /// `Θ = from_raw Γ`, shape `(R, P)`.
    pub(super) from_raw: Array2<f64>,
    /// `W`, shape `(P, P)`.
    pub(super) second_moment: Array2<f64>,
    /// `ρ`: pseudo-assets a date, each weighing as an average asset with return zero.
    pub(super) ridge: f64,
    /// `w_t n_t`.
    pub(super) masses: Vec<f64>,
    /// Instruments that take part in directions that no date spans, ascending.
    pub(super) unidentified: Vec<usize>,
}

impl Geometry {
    pub(super) fn new(moments: &MomentsView<'_>, settings: &Settings) -> Result<Self> {
        let dates = usable_dates(moments, settings)?;
        require_moderate(moments, &dates)?;
        let weights = dates.iter().map(|&date| match settings.weighting {
            Weighting::Panel => 1.0,
            Weighting::Portfolio => 1.0 / f64::from(moments.n_assets[date]),
        });
        let weights: Array1<f64> = weights.collect();
        let second_moment = pooled_second_moment(moments, &dates);
        require_visible(moments, &dates, second_moment.view())?;
        let rounding = whiten::Rounding {
            share: settings.rank_tolerance,
            of_sums: rounding_of_sums(moments, &dates),
        };
        let constant = leads_with_constant(moments, &dates);
        let white = whiten::whiten(second_moment.view(), constant, rounding)?;
        let ridge = settings.factor_ridge + settings.gamma_ridge / dates.len() as f64;
        let masses = dates.iter().zip(&weights);
        let masses = masses
            .map(|(&t, w)| w * f64::from(moments.n_assets[t]))
            .collect();
        let mut geometry = Self {
            stack: Rows::zeros(dates.len(), triangle::length(white.to_raw.ncols())),
            dates,
            weights,
            to_raw: white.to_raw,
            from_raw: white.from_raw,
            second_moment,
            ridge,
            masses,
            unidentified: white.unidentified,
        };
        geometry.fill_stack(moments.gram);
        Ok(geometry)
    }

    /// `R`: directions that some date spans.
    pub(super) fn rank(&self) -> usize {
        self.to_raw.ncols()
    }

    fn fill_stack(&mut self, gram: ArrayView2<'_, f64>) {
        let b = Rows::from_view(self.to_raw.view());
        let (n, rank, ridge) = (b.n_rows(), b.n_cols(), self.ridge);
        let (dates, weights, stride) = (&self.dates, &self.weights, self.stack.stride());
        let blocks = self.stack.blocks_mut(TASK).enumerate();
        blocks.for_each(each(|(block, out): (usize, &mut [f64])| {
            let (mut full, mut half) = (Rows::zeros(n, n), Rows::zeros(rank, n));
            let mut white = Rows::zeros(rank, rank);
            for (out, t) in out.chunks_exact_mut(stride).zip(block * TASK..) {
                check();
                unfold_date(gram, dates[t], &mut full);
                half.flat_mut().fill(0.0);
                add_product_here(b.down(), &full, &mut half);
                white.flat_mut().fill(0.0);
                add_product_here(half.across(), &b, &mut white);
                for i in 0..rank {
                    let row = &mut out[triangle::start(rank, i)..][..rank - i];
                    for (cell, value) in row.iter_mut().zip(&white.row(i)[i..]) {
                        *cell = weights[t] * value;
                    }
                    row[0] += weights[t] * ridge;
                }
            }
        }));
    }
}

fn unfold_date(gram: ArrayView2<'_, f64>, date: usize, full: &mut Rows) {
    match gram.row(date).to_slice() {
        Some(packed) => triangle::unfold(packed, full),
        None => triangle::unfold(&gram.row(date).to_vec(), full),
    }
}

fn usable_dates(moments: &MomentsView<'_>, settings: &Settings) -> Result<Vec<usize>> {
    let enough = |&date: &usize| moments.n_assets[date] as usize >= settings.min_assets;
    let dates: Vec<usize> = (0..moments.n_assets.len()).filter(enough).collect();
    if dates.is_empty() {
        return Err(CoreError::EmptySample {
            what: "the panel of returns and characteristics",
            rule: too_few_rows(moments, settings.min_assets),
        });
    }
    Ok(dates)
}

fn too_few_rows(moments: &MomentsView<'_>, min_assets: usize) -> String {
    let counts = moments.n_assets.iter().map(|&n| n as usize);
    let (n_rows, most) = counts.fold((0, 0), |(sum, most), n| (sum + n, most.max(n)));
    format!(
        "a date needs min_assets={min_assets} rows with finite characteristics and return; got \
         {n_rows} such rows on {} dates, at most {most} on one",
        moments.n_assets.len()
    )
}

/// Refuse dates whose sums of squares leave no room for products of two.
fn require_moderate(moments: &MomentsView<'_>, dates: &[usize]) -> Result<()> {
    let n = moments.cross.ncols();
    for &date in dates {
        let gram = moments.gram.row(date);
        for i in 0..n {
            let square = gram[triangle::start(n, i)];
            moderate(
                "the sum of squares of a characteristic",
                square,
                (date, Some(i)),
            )?;
        }
        let squares = moments.return_squares[date];
        moderate("the sum of squared returns", squares, (date, None))?;
        for (i, &cross) in moments.cross.row(date).iter().enumerate() {
            moderate(
                "the sum of characteristic times return",
                cross,
                (date, Some(i)),
            )?;
        }
    }
    Ok(())
}

fn moderate(what: &'static str, value: f64, place: (usize, Option<usize>)) -> Result<()> {
    if value.abs() <= LARGEST {
        return Ok(());
    }
    let (date, instrument) = place;
    let instrument = instrument.map_or_else(String::new, |i| format!(", instrument {i}"));
    Err(CoreError::Range {
        what,
        rule: format!("finite and at most {LARGEST:e} in size"),
        got: format!("{value:e} at date {date}{instrument}: rescale the data"),
    })
}

/// Refuse a characteristic, or returns, that are not zero but have squares that are almost.
fn require_visible(
    moments: &MomentsView<'_>,
    dates: &[usize],
    second_moment: ArrayView2<'_, f64>,
) -> Result<()> {
    let visible = |what, square: f64, seen: bool, place: &str| {
        shape::require_that(
            what,
            square >= SMALLEST || (square == 0.0 && !seen),
            &format!("zero or at least {SMALLEST:e}"),
            format!("{square:e}{place}: rescale the data"),
        )
    };
    for (i, row) in second_moment.rows().into_iter().enumerate() {
        let seen = row.iter().any(|&v| v != 0.0);
        let place = format!(" for instrument {i}");
        visible("the mean square of a characteristic", row[i], seen, &place)?;
    }
    let squares = dates
        .iter()
        .map(|&t| moments.return_squares[t])
        .sum::<f64>();
    let seen = dates
        .iter()
        .any(|&t| moments.cross.row(t).iter().any(|&v| v != 0.0));
    visible("the sum of squared returns", squares, seen, "")
}

/// Whether the first instrument is 1 throughout, as far as its squares tell.
fn leads_with_constant(moments: &MomentsView<'_>, dates: &[usize]) -> bool {
    let is_count = |&t: &usize| moments.gram[[t, 0]] == f64::from(moments.n_assets[t]);
    moments.gram.ncols() > 0 && dates.iter().all(is_count)
}

/// Bound on the relative rounding error of a sum of squares over the rows of a date.
fn rounding_of_sums(moments: &MomentsView<'_>, dates: &[usize]) -> f64 {
    let counts = dates.iter().map(|&t| f64::from(moments.n_assets[t]));
    0.5 * f64::EPSILON * counts.fold(1.0, f64::max).min(LONGEST_SUM)
}

fn pooled_second_moment(moments: &MomentsView<'_>, dates: &[usize]) -> Array2<f64> {
    let n = moments.cross.ncols();
    let mut sum = Array1::<f64>::zeros(moments.gram.ncols());
    for &date in dates {
        check();
        sum += &moments.gram.row(date);
    }
    sum /= dates
        .iter()
        .map(|&date| f64::from(moments.n_assets[date]))
        .sum::<f64>();
    Array2::from_shape_fn((n, n), |(i, j)| sum[triangle::at(n, i, j)])
}

/// `w_t B'c_t` for every date, shape `(T, R)`.
pub(super) fn whitened_cross(geometry: &Geometry, cross: ArrayView2<'_, f64>) -> Rows {
    let used = cross.select(Axis(0), &geometry.dates);
    let weighted = &used * &geometry.weights.view().insert_axis(Axis(1));
    Rows::from_view(product(weighted.view(), geometry.to_raw.view()).view())
}
