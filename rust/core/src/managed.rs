//! Managed portfolios: the cross-sectional regression of returns on characteristics at each date.
//!
//! With `Z_t` the characteristics of the usable rows and a trailing column of ones,
//!
//! ```text
//! x_t = argmin ‖x‖  over the minimisers of  ‖r_t − Z_t x‖
//! ```
//!
//! the portfolio returns `(Z_t'Z_t)⁻¹ Z_t' r_t` of Gu, Kelly and Xiu (2021), eq. (16), wherever the
//! inverse exists. Most dates are solved through their moments, scaled to unit diagonal. Where a
//! column is not at least [`WELL_DETERMINED`] (as a share of its square) its own, apart from the
//! constant and the columns before it, squaring would cost digits or hide the rank: such a date, and
//! one with no more assets than columns, is solved from its rows, by orthogonal decomposition.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, s};

use crate::interrupt::each;
use crate::memory::{self, Arrays};
use crate::moments::{Moments, from_panel};
use crate::real::Real;
use crate::{Result, linalg};

/// Least pivot of the scaled Gram matrix that is solved as it is: about nine digits remain.
const WELL_DETERMINED: f64 = 1e-6;

/// Minimum-norm regression coefficients of every date, constant last.
///
/// `characteristics` is `(T, N, L)`, `returns` and `mask` are `(T, N)`; rows count where the mask is
/// true and all values are finite. The result is `(T, L + 1)`, zero at dates without such rows. All
/// arithmetic is in `f64`. The rank of a singular date is decided after every column is scaled to
/// unit length, with the tolerance of [`linalg::minimum_norm`]; the norm that is smallest is that of
/// the coefficients as they are returned.
///
/// # Errors
///
/// [`CoreError::Shape`](crate::CoreError::Shape) when the arrays do not line up,
/// [`CoreError::Failed`](crate::CoreError::Failed) when a decomposition does not converge.
pub fn managed_portfolios<Z: Real, R: Real>(
    characteristics: ArrayView3<'_, Z>,
    returns: ArrayView2<'_, R>,
    mask: Option<ArrayView2<'_, u8>>,
) -> Result<Array2<f64>> {
    let (n_dates, n_assets, n_characteristics) = characteristics.dim();
    let p = n_characteristics.saturating_add(1);
    let rows = memory::n_threads();
    Arrays::new()
        .and("returns", &[n_dates, n_assets])
        .times(2, "portfolios", &[n_dates, p])
        .times(4 * rows, "second moments of a date", &[p, p])
        .times(rows, "rows of a date", &[n_assets, p])
        .require()?;
    // Returns in double precision make all products so.
    let returns = returns.mapv(Into::<f64>::into);
    let moments = from_panel(characteristics, returns.view(), mask, true)?;
    let solve = |date| {
        if moments.n_assets[date] == 0 {
            return Ok(Array1::zeros(moments.n_instruments()));
        }
        // A thin date is fitted without a residual: by its rows, which keep all digits.
        let is_thin = (moments.n_assets[date] as usize) <= moments.n_instruments();
        if let (false, Some(solution)) = (is_thin, solve_moments(&moments, date)) {
            return Ok(solution);
        }
        let z = characteristics.index_axis(Axis(0), date);
        let mask = mask.map(|mask| mask.index_axis_move(Axis(0), date));
        let (z, r) = usable_rows(z, returns.row(date), mask);
        linalg::minimum_norm(z.view(), r.view())
    };
    let found: Vec<Result<Array1<f64>>> = (0..moments.n_dates())
        .into_par_iter()
        .map(each(solve))
        .collect();
    let mut portfolios = Array2::zeros((moments.n_dates(), moments.n_instruments()));
    // In date order, so that the same input always gives the same error.
    for (mut row, found) in portfolios.rows_mut().into_iter().zip(found) {
        row.assign(&found?);
    }
    Ok(portfolios)
}

/// Solve a date through its moments, constant last; `None` where they do not determine it well.
fn solve_moments(moments: &Moments, date: usize) -> Option<Array1<f64>> {
    let mut gram = moments.gram_at(date);
    let scale = gram.diag().mapv(|square| square.sqrt().recip());
    for ((i, j), entry) in gram.indexed_iter_mut() {
        *entry *= scale[i] * scale[j];
    }
    let rhs = &moments.cross.row(date) * &scale;
    let solution = linalg::solve_well_determined(gram.view(), rhs.view(), WELL_DETERMINED)? * scale;
    let (constant, rest) = (solution[0], solution.slice(s![1..]));
    Some(rest.iter().copied().chain([constant]).collect())
}

/// The usable rows with a trailing one, shape `(n, L + 1)`, and their returns.
fn usable_rows<Z: Real>(
    characteristics: ArrayView2<'_, Z>,
    returns: ArrayView1<'_, f64>,
    mask: Option<ArrayView1<'_, u8>>,
) -> (Array2<f64>, Array1<f64>) {
    let is_usable = |&i: &usize| {
        mask.is_none_or(|mask| mask[i] != 0)
            && returns[i].is_finite()
            && characteristics
                .row(i)
                .iter()
                .all(|&x| Into::<f64>::into(x).is_finite())
    };
    let usable: Vec<usize> = (0..returns.len()).filter(is_usable).collect();
    let n_characteristics = characteristics.ncols();
    let rows = Array2::from_shape_fn((usable.len(), n_characteristics + 1), |(row, column)| {
        if column == n_characteristics {
            1.0
        } else {
            characteristics[[usable[row], column]].into()
        }
    });
    (rows, usable.iter().map(|&i| returns[i]).collect())
}
