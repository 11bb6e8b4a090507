//! Leading eigenpairs of a symmetric operator by block Krylov iteration.
//!
//! The operator is a closure that multiplies a thin block; it may be a Gram matrix or a panel that is
//! streamed. All blocks are kept and every new one is orthogonalised against all of them, twice, so
//! that no spurious copies of an eigenvalue appear. A block shows no more copies of an eigenvalue than
//! it has columns. So in a [`wide`] block, which has more than the pairs wanted, an eigenvalue
//! with still more copies leaves no gap after the last wanted pair; and in a [`NARROW`] block one with
//! more copies than columns shows as so many equal values. Either is answered by
//! [`Outcome::Stalled`], never by a wrong vector.
//!
//! Golub and Van Loan, Matrix Computations, 4th ed., section 10.3.6 (block Lanczos);
//! Davis and Kahan (1970) for the bound `sin(angle) <= residual / gap` by which it stops.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use crate::interrupt::check;
use crate::vector::{add_scaled, contiguous, dot, norm};
use crate::{Result, linalg, shape};
use turned::{Turned, slices};

mod turned;

/// Angle, in radians, up to which every wanted eigenvector is to be found.
pub(crate) const ANGLE: f64 = 5e-12;
/// Residuals below this fraction of the largest eigenvalue are rounding; LAPACK has them too.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
/// As many values as the block has columns, within this fraction of the largest, may hide more: were
/// the hidden ones farther off, residuals would be large.
const CLUSTER: f64 = 1e-6;
/// Gaps below this fraction of the largest eigenvalue are left to a full decomposition.
const SMALLEST_GAP: f64 = 1e-9;
/// A new direction that keeps less than this share of its length is rounding, not information.
const VANISHED: f64 = 1e-13;

/// Leading eigenpairs, largest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Leading {
    /// Eigenvalues in descending order, shape `(k,)`.
    pub values: Array1<f64>,
    /// Orthonormal eigenvectors in columns, shape `(n, k)`.
    pub vectors: Array2<f64>,
}

/// What an attempt came to; both carry the best block, shape `(n, block)`, for a later start.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Every wanted pair is within tolerance.
    Found(Leading, Array2<f64>),
    /// The gap is too weak for the steps allowed.
    Stalled(Array2<f64>),
}

/// Columns of a block that makes the most of every walk over a panel: with fewer a walk would wait for
/// numbers from the cache, with more the space grows faster than it learns.
pub const NARROW: usize = 3;

/// Columns of a block that sees `k` pairs whatever their multiplicities, or stalls.
pub fn wide(k: usize) -> usize {
    (k + 2).next_multiple_of(4)
}

/// Seek the `k` algebraically largest eigenpairs of a symmetric operator on `R^n`.
///
/// `apply` maps an `(n, block)` matrix to the operator times it. `start` (n, any number of columns)
/// seeds the first block; what is missing is filled with a fixed pseudo-random sequence. At most
/// `max_steps` products are made, fewer when convergence within them is out of sight. Stalls at once
/// where `n` has no room for two blocks.
///
/// # Errors
///
/// [`crate::CoreError::Range`] when `k` or `block` is 0, [`crate::CoreError::Shape`] when the start or
/// what `apply` gives has another shape, [`crate::CoreError::Failed`] when the operator yields numbers
/// that are not finite.
pub fn leading(
    n: usize,
    k: usize,
    block: usize,
    max_steps: usize,
    start: Option<ArrayView2<'_, f64>>,
    apply: impl FnMut(ArrayView2<'_, f64>) -> Array2<f64>,
) -> Result<Outcome> {
    search(n, k, block, max_steps, start, apply).map(|(outcome, _)| outcome)
}

/// [`leading`], and the weights by which the vectors it finds combine the columns that were multiplied,
/// shape `(columns, columns of the best block)`.
pub(crate) fn search(
    n: usize,
    k: usize,
    block: usize,
    max_steps: usize,
    start: Option<ArrayView2<'_, f64>>,
    mut apply: impl FnMut(ArrayView2<'_, f64>) -> Array2<f64>,
) -> Result<(Outcome, Array2<f64>)> {
    shape::require_that("k", k > 0, "at least 1", k)?;
    shape::require_that("block", block > 0, "at least 1", block)?;
    if let Some(start) = start {
        shape::require("start", &[n, start.ncols()], start.shape())?;
    }
    let max_steps = max_steps.min((n / block).saturating_sub(1));
    if max_steps * block <= k {
        return Ok((
            Outcome::Stalled(Array2::zeros((n, 0))),
            Array2::zeros((0, 0)),
        ));
    }
    let mut space = Space::new(n, block, max_steps, start);
    let first = if start.is_some() { 3 } else { 5 };
    let mut schedule = Schedule {
        next: first.max(k / block + 2).min(max_steps),
        last: max_steps,
        seen: None,
    };
    loop {
        check();
        let coupling = space.extend(&mut apply)?;
        let step = space.done / block;
        if step < schedule.next {
            continue;
        }
        let ritz = space.ritz(&coupling, k)?;
        let is_found = ritz.excess <= 1.0;
        if !is_found && schedule.plan(step, ritz.excess) {
            continue;
        }
        let weights = ritz.vectors.slice_move(s![.., ..block.max(k)]);
        let best = space.rotate(weights.view());
        let outcome = if is_found {
            let found = Leading {
                values: ritz.values.slice(s![..k]).to_owned(),
                vectors: best.slice(s![.., ..k]).to_owned(),
            };
            Outcome::Found(found, best)
        } else {
            Outcome::Stalled(best)
        };
        return Ok((outcome, weights));
    }
}

/// The Krylov space so far: an orthonormal basis and the operator's projection on it.
struct Space {
    /// Basis in contiguous columns; the operator has been applied to the first `done`, and the block
    /// after them is ready.
    basis: Array2<f64>,
    projection: Array2<f64>,
    block: usize,
    done: usize,
    random: SplitMix,
}

/// Ritz pairs, and how many times its tolerance the worst of the wanted residuals is.
struct Ritz {
    values: Array1<f64>,
    vectors: Array2<f64>,
    excess: f64,
}

impl Space {
    fn new(n: usize, block: usize, steps: usize, start: Option<ArrayView2<'_, f64>>) -> Self {
        let mut space = Self {
            basis: Array2::zeros(((steps + 1) * block, n)).reversed_axes(),
            projection: Array2::zeros((steps * block, steps * block)),
            block,
            done: 0,
            random: SplitMix(0x5DEE_CE66),
        };
        if let Some(known) = start {
            let columns = known.ncols().min(block);
            space
                .basis
                .slice_mut(s![.., ..columns])
                .assign(&known.slice(s![.., ..columns]));
        }
        space.orthonormalise(&vec![0.0; block]);
        space
    }

    /// Multiply the newest block, project it, and append what is new.
    ///
    /// Returns how the new block couples to the old, shape `(block, block)`: the residual of a Ritz
    /// vector is this times its last `block` weights.
    fn extend(
        &mut self,
        apply: &mut impl FnMut(ArrayView2<'_, f64>) -> Array2<f64>,
    ) -> Result<Array2<f64>> {
        let (old, end) = (self.done, self.done + self.block);
        let newest = self.basis.slice(s![.., old..end]);
        let image = apply(newest);
        shape::require("the operator's product", newest.shape(), image.shape())?;
        let mut image = Turned::of(image.view());
        let lengths: Vec<f64> = image.columns().map(norm).collect();
        let known = slices(self.basis.slice(s![.., ..end]));
        let mut weights = image.project_out(&known);
        weights += &image.project_out(&known);
        self.projection
            .slice_mut(s![old..end, ..end])
            .assign(&weights.t());
        self.projection
            .slice_mut(s![..end, old..end])
            .assign(&weights);
        let mut next = self.basis.slice_mut(s![.., end..end + self.block]);
        for (mut to, from) in next.columns_mut().into_iter().zip(image.columns()) {
            to.assign(&ArrayView1::from(from));
        }
        self.done = end;
        self.orthonormalise(&lengths);
        let fresh = self.basis.slice(s![.., end..end + self.block]);
        Ok(image.weights(&slices(fresh)))
    }

    /// Make the block after `done` orthonormal; `lengths` are its columns' before projection.
    ///
    /// A column that vanishes is replaced by a random one, so that the block keeps its width and an
    /// eigenspace that the start missed is still found.
    fn orthonormalise(&mut self, lengths: &[f64]) {
        for (j, &length) in (self.done..).zip(lengths) {
            let (known, mut rest) = self.basis.view_mut().split_at(Axis(1), j);
            let column = contiguous(rest.column_mut(0).into_slice());
            let inside = orthogonalise(known.slice(s![.., self.done..]), column);
            let mut left = if length > 0.0 {
                inside / length
            } else {
                inside
            };
            if left > VANISHED && left < 0.1 {
                left *= orthogonalise(known.view(), column);
            }
            while left <= VANISHED {
                self.random.fill(column);
                left = orthogonalise(known.view(), column);
            }
        }
    }

    fn ritz(&self, coupling: &Array2<f64>, k: usize) -> Result<Ritz> {
        let m = self.done;
        let found = linalg::symmetric_eigen(self.projection.slice(s![..m, ..m]))?;
        let tail = found.vectors.slice(s![m - self.block.., ..=k]);
        let residuals = linalg::product(coupling.view(), tail)
            .map_axis(Axis(0), |column| column.dot(&column).sqrt());
        Ok(Ritz {
            excess: excess(&found.values, &residuals, self.block),
            values: found.values,
            vectors: found.vectors,
        })
    }

    fn rotate(&self, weights: ArrayView2<'_, f64>) -> Array2<f64> {
        linalg::product(self.basis.slice(s![.., ..self.done]), weights)
    }
}

/// Orthogonalise a column to known ones, twice, and scale it to one; returns what was left of it.
pub(crate) fn orthogonalise(known: ArrayView2<'_, f64>, column: &mut [f64]) -> f64 {
    for _ in 0..2 {
        for other in known.columns() {
            let other = contiguous(other.to_slice());
            let weight = dot(other, column);
            add_scaled(column, -weight, other);
        }
    }
    let left = norm(column);
    if left > 0.0 {
        column.iter_mut().for_each(|v| *v /= left);
    }
    left
}

/// How many times its tolerance the worst residual is; infinite where no gap is in sight, and where
/// a cluster may have members that the block cannot show.
///
/// `residuals` has one entry more than there are wanted pairs: the gap that separates them from the
/// rest is judged with the next pair at the upper end of its interval.
pub(crate) fn excess(values: &Array1<f64>, residuals: &Array1<f64>, block: usize) -> f64 {
    let k = residuals.len() - 1;
    let scale = values.iter().fold(0.0_f64, |top, v| top.max(v.abs()));
    let below = |i: usize| values[i] - values[i + 1];
    let crowded = (0..(k + 1).saturating_sub(block - 1))
        .any(|i| values[i] - values[i + block - 1] <= CLUSTER * scale);
    let last_gap = below(k - 1) - residuals[k];
    if crowded || last_gap.is_nan() || last_gap <= SMALLEST_GAP * scale {
        return f64::INFINITY;
    }
    (0..k)
        .map(|i| {
            let above = if i == 0 { f64::INFINITY } else { below(i - 1) };
            let gap = above.min(below(i)).min(last_gap);
            residuals[i] / (ANGLE * gap).max(ROUNDING * scale)
        })
        .fold(0.0, f64::max)
}

/// When to look at the residuals next: a look costs a small eigendecomposition.
struct Schedule {
    next: usize,
    last: usize,
    seen: Option<(usize, f64)>,
}

impl Schedule {
    /// Extrapolate the decay of the excess; false when it will not reach one in time.
    fn plan(&mut self, step: usize, excess: f64) -> bool {
        let steps = match self.seen {
            Some((earlier, before)) if excess.is_finite() => {
                let rate = (before / excess).ln() / (step - earlier) as f64;
                if rate <= 0.0 {
                    f64::INFINITY
                } else {
                    excess.ln() / rate
                }
            }
            _ => (0.25 * step as f64).max(2.0),
        };
        self.seen = excess.is_finite().then_some((step, excess));
        // The decay speeds up as the space grows: give up only when far out of reach.
        let room = (self.last - step) as f64;
        self.next = self
            .last
            .min(step + (0.8 * steps.min(room)).ceil().max(1.0) as usize);
        step < self.last && steps <= 2.0 * room
    }
}

/// A fixed sequence of numbers in (-1, 1): Steele, Lea and Flood (2014), `SplitMix64`.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn fill(&mut self, column: &mut [f64]) {
        for v in column {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let bits = (z ^ (z >> 31)) >> 11;
            *v = bits as f64 / (1_u64 << 52) as f64 - 1.0;
        }
    }
}

/// Orthonormalise columns in their order; returns the length each had left, and the columns.
pub(crate) fn orthonormal_columns(a: ArrayView2<'_, f64>) -> (Array1<f64>, Array2<f64>) {
    let mut out = Array2::zeros((a.ncols(), a.nrows())).reversed_axes();
    out.assign(&a);
    let mut lengths = Array1::zeros(a.ncols());
    for j in 0..a.ncols() {
        check();
        let (known, mut rest) = out.view_mut().split_at(Axis(1), j);
        let column = contiguous(rest.column_mut(0).into_slice());
        lengths[j] = orthogonalise(known.view(), column);
    }
    (lengths, out)
}
